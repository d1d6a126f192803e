//! What the manager sees of this pgherd, and how it gives orders.

mod act;
mod ask;
mod clock;
mod herd;
mod login;
mod swarm;
mod tools;

use std::net::IpAddr;
use std::sync::Arc;

use pgherd_failover::actor::{Chronicle, Control};
use pgherd_failover::{Routing, Status};
use pgherd_health::{NodeId, Topology};
use pgherd_manager::model::{Action, Event, Herd, Rehearsal};
use pgherd_manager::{Access, Counts, Decided, Denial, Distribution, Manager, Role, Source, TrustedProxy};
use pgherd_protocol::rows::{Column, Value};
use serde_json::{Map, Value as Json, json};
use tokio::sync::{Mutex, Semaphore, mpsc, watch};

use crate::config::{FIXED, Http, KEYS};
use crate::console::views::{self, Scene};
use crate::crew::Crew;
use crate::failures::Failures;
use crate::shared::Shared;
use crate::survey;
use crate::traffic::{self, Counter, Timed};
use ask::Servers;
use clock::Clock;
use tools::{Looks, What};

/// This pgherd.
pub(super) struct Proxy {
    shared: Arc<Shared>,
    crew: Arc<Crew>,
    clock: Clock,
    changes: Mutex<Changes>,
    servers: Servers,
    looks: Looks,
    /// Turns to hash a password.
    hashing: Semaphore,
    failures: Failures,
}

/// What the control loop publishes.
struct Changes {
    routing: watch::Receiver<Arc<Routing>>,
    topology: watch::Receiver<Arc<Topology>>,
    status: watch::Receiver<Arc<Status>>,
    chronicle: watch::Receiver<Arc<Chronicle>>,
}

impl Changes {
    fn of(control: &Control) -> Self {
        Self {
            routing: control.routing.clone(),
            topology: control.topology.clone(),
            status: control.status.clone(),
            chronicle: control.chronicle.clone(),
        }
    }
}

/// The manager of this pgherd, with the configuration that it was started with.
pub(super) fn manager(shared: &Arc<Shared>, crew: &Arc<Crew>, settings: &Http) -> Arc<Manager<Proxy>> {
    let access = Access {
        anonymous: settings.anonymous,
        is_secure: settings.tls.is_some(),
        proxy: (!settings.proxies.is_empty()).then(|| TrustedProxy {
            header: settings.user_header.clone(),
            addresses: settings.proxies.clone(),
        }),
    };
    let proxy = Proxy {
        shared: Arc::clone(shared),
        crew: Arc::clone(crew),
        clock: Clock::default(),
        changes: Mutex::new(Changes::of(&shared.control)),
        servers: Servers::default(),
        looks: Looks::default(),
        hashing: Semaphore::new(login::HASHED),
        failures: Failures::default(),
    };
    Manager::new(proxy, access)
}

impl Source for Proxy {
    fn herd(&self) -> Herd {
        herd::herd(&self.shared, &self.clock)
    }

    fn writes(&self) -> Option<u32> {
        herd::takes_writes(&self.shared)
    }

    async fn changed(&self) {
        let mut changes = self.changes.lock().await;
        let Changes { routing, topology, status, chronicle } = &mut *changes;
        let ended = tokio::select! {
            changed = routing.changed() => changed,
            changed = topology.changed() => changed,
            changed = status.changed() => changed,
            changed = chronicle.changed() => changed,
        };
        if ended.is_err() {
            // The control loop has ended, and so will the process.
            std::future::pending::<()>().await;
        }
    }

    fn events(&self) -> Vec<Event> {
        herd::events(&self.shared, &self.clock)
    }

    fn decisions(&self) -> Vec<Decided> {
        let chronicle = Arc::clone(&self.shared.control.chronicle.borrow());
        let decided = |it: &pgherd_failover::Decision| Decided {
            at: self.clock.time_of(it.at),
            from: it.from.to_string(),
            to: it.to.to_string(),
            seen: it.seen.clone(),
        };
        chronicle.decisions.iter().map(decided).collect()
    }

    fn counts(&self) -> Counts {
        let shared = &self.shared;
        let sums = shared.traffic.by_pool().into_iter().map(|(_, sums)| sums);
        let sums = sums.reduce(|all, sums| all.plus(&sums)).unwrap_or_default();
        let now = u64::try_from(shared.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        let pools = survey::pools(shared, now);
        let total = |count: fn(&survey::PoolSurvey) -> usize| pools.values().map(count).sum();
        Counts {
            transactions: sums.of(Counter::Transactions),
            queries: sums.of(Counter::Queries),
            received: sums.of(Counter::Received),
            sent: sums.of(Counter::Sent),
            query: distribution(shared, Timed::Query),
            wait: distribution(shared, Timed::Wait),
            clients: shared.roster.len(),
            clients_max: shared.config.load().pool.max_clients,
            waiting: total(|pool| pool.waiting),
            active: total(|pool| pool.active),
            idle: total(|pool| pool.idle),
            reads: herd::reads(shared),
            lag: herd::lags(shared),
        }
    }

    fn views(&self) -> Vec<&'static str> {
        views::names().collect()
    }

    fn show(&self, view: &str, role: Role) -> Option<Json> {
        let view = views::find(view)?;
        let scene = Scene {
            shared: &self.shared,
            connections: self.crew.connections(),
            database: "pgherd",
            is_admin: role == Role::Operator,
        };
        let columns = view.columns(scene.database);
        let row = |row: Vec<Value>| Json::Object(columns.iter().zip(row).map(shown).collect::<Map<_, _>>());
        Some(view.rows(&scene).into_iter().map(row).collect())
    }

    fn settings(&self) -> Json {
        let config = self.shared.config.load();
        let origins = self.shared.reload.origins();
        let setting = |(name, value): (&'static str, Option<String>)| {
            let default = KEYS.iter().find(|key| key.name == name).and_then(|key| key.default);
            let source = origins.get(name).map_or("default", String::as_str);
            let restart = FIXED.contains(&name);
            json!({ "key": name, "value": value, "default": default, "source": source, "restart": restart })
        };
        config.describe().into_iter().map(setting).collect()
    }

    async fn log_in(&self, address: Option<IpAddr>, user: &str, password: &str) -> Result<Role, Denial> {
        login::log_in((&self.shared, &self.hashing, &self.failures), address, user, password).await
    }

    fn role_of(&self, user: &str) -> Option<Role> {
        login::role_of(&self.shared.config.load(), user)
    }

    fn clients_of(&self, node: u32) -> Vec<(u32, u64)> {
        herd::clients_of(&self.shared, NodeId(node))
    }

    async fn ask(&self, node: u32, query: &str, numbers: &[i32]) -> Result<String, String> {
        self.servers.ask(&self.shared, NodeId(node), query, numbers).await
    }

    async fn checks(&self, node: u32) -> Result<Json, String> {
        self.looks.at(&self.shared.control, NodeId(node), What::Checks).await
    }

    async fn backups(&self, node: u32) -> Result<Json, String> {
        self.looks.at(&self.shared.control, NodeId(node), What::Backups).await
    }

    async fn swarm(&self) -> Json {
        swarm::swarm(self.shared.config.load_full().http.docker_socket.as_deref()).await
    }

    async fn rehearse(&self, action: &Action) -> Rehearsal {
        self.rehearsal(action).await
    }

    async fn perform(&self, action: &Action, lines: mpsc::Sender<String>) -> Result<String, String> {
        self.carry_out(action, lines).await
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("shared", &self.shared).finish_non_exhaustive()
    }
}

fn distribution(shared: &Shared, timed: Timed) -> Distribution {
    let mut all = traffic::Counts::default();
    for (_, counts) in shared.traffic.times(timed) {
        all.add(&counts);
    }
    Distribution(all.steps().collect())
}

fn shown((column, value): (&Column, Value)) -> (String, Json) {
    let value = match value {
        Value::Null => Json::Null,
        Value::Text(text) => text.into(),
        Value::Number(number) => number.into(),
    };
    (column.name.to_owned(), value)
}
