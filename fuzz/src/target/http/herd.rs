//! A herd that the manager looks at: it answers at once, and notes what it was told to do.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgherd_manager::model::{Action, Cluster, Event, Herd as Shown, Machine, Node, Point, Rehearsal, Writes};
use pgherd_manager::{Counts, Decided, Denial, Role, Source};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// What was done.
pub(super) type Done = Arc<Mutex<Vec<Action>>>;

/// Both users'.
pub(super) const PASSWORD: &str = "correct-horse-0f7a";

/// What a request says of who sends it.
pub(super) fn credentials(who: u8) -> Option<String> {
    let basic = |text: String| Some(format!("Basic {}", STANDARD.encode(text)));
    match who % 4 {
        0 => None,
        1 => basic(format!("operator:{PASSWORD}")),
        2 => basic(format!("viewer:{PASSWORD}")),
        _ => basic("operator:wrong".to_owned()),
    }
}

/// The herd.
#[derive(Debug)]
pub(super) struct Herd {
    done: Done,
}

impl Herd {
    pub(super) const fn new(done: Done) -> Self {
        Self { done }
    }
}

fn node(id: u32) -> Node {
    Node {
        id,
        name: format!("pg0{id}"),
        host: format!("pg0{id}"),
        port: 5432,
        role: if id == 0 { "primary" } else { "standby" },
        state: "up".to_owned(),
        up: true,
        used_for: "reads",
        why_not: None,
        lsn: Some("0/3000000".to_owned()),
        lag_bytes: Some(0),
        replay_lag_bytes: None,
        replay_lag_seconds: None,
        timeline: Some(1),
        weight: 1.0,
        detached: false,
        discovered: false,
        since: None,
        connections: 1,
        lent: 0,
        reads_per_second: None,
        round_trip_ms: None,
        upstream: None,
        receiver: None,
        sync_state: None,
    }
}

impl Source for Herd {
    fn herd(&self) -> Shown {
        Shown {
            at: "2026-01-01T00:00:00Z".to_owned(),
            version: "0",
            uptime_seconds: 1,
            cluster: Cluster { system_identifier: Some("7".to_owned()), timeline: Some(1) },
            machine: Machine {
                state: "Steady".to_owned(),
                since: "2026-01-01T00:00:00Z".to_owned(),
                reason: "all is well".to_owned(),
                advice: None,
                mode: "automatic",
                decides: true,
                decider: "this pgherd decides".to_owned(),
                paused: false,
                epoch: None,
                guards: Vec::new(),
                warnings: Vec::new(),
            },
            writes: Writes { open: true, node: Some(0), reason: None },
            alert: None,
            nodes: (0..3).map(node).collect(),
            traffic: Point::default(),
        }
    }

    fn writes(&self) -> Option<u32> {
        Some(0)
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }

    fn events(&self) -> Vec<Event> {
        Vec::new()
    }

    fn decisions(&self) -> Vec<Decided> {
        Vec::new()
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }

    fn views(&self) -> Vec<&'static str> {
        vec!["pools"]
    }

    fn show(&self, view: &str, _: Role) -> Option<Value> {
        (view == "pools").then(|| json!([]))
    }

    fn settings(&self) -> Value {
        json!({})
    }

    async fn log_in(&self, _: Option<IpAddr>, user: &str, password: &str) -> Result<Role, Denial> {
        let role = self.role_of(user).filter(|_| password == PASSWORD);
        role.ok_or(Denial::Wrong)
    }

    fn role_of(&self, user: &str) -> Option<Role> {
        match user {
            "operator" => Some(Role::Operator),
            "viewer" => Some(Role::Viewer),
            _ => None,
        }
    }

    fn clients_of(&self, _: u32) -> Vec<(u32, u64)> {
        Vec::new()
    }

    async fn ask(&self, _: u32, _: &str, _: &[i32]) -> Result<String, String> {
        Ok("[]".to_owned())
    }

    async fn checks(&self, _: u32) -> Result<Value, String> {
        Ok(json!({}))
    }

    async fn backups(&self, _: u32) -> Result<Value, String> {
        Err("it has none".to_owned())
    }

    async fn swarm(&self) -> Value {
        Value::Null
    }

    async fn rehearse(&self, _: &Action) -> Rehearsal {
        Rehearsal::default()
    }

    async fn perform(&self, action: &Action, _: mpsc::Sender<String>) -> Result<String, String> {
        self.done.lock().map_err(|_| "it is broken".to_owned())?.push(action.clone());
        Ok("done".to_owned())
    }
}
