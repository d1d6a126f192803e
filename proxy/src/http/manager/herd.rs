//! The herd as the manager shows it.

use std::sync::Arc;
use std::time::SystemTime;

use pgherd_failover::{Check, Happened, StateName, Status};
use pgherd_health::{Lsn, Member, NodeId, Topology};
use pgherd_manager::model;
use pgherd_manager::model::{Alert, Cluster, Event, Herd, Level, Machine, Writes};
use pgherd_manager::show_time;

use super::clock::Clock;
use crate::console::show_holds;
use crate::seat::{Business, Seat};
use crate::server::table::{Table, Target};
use crate::shared::Shared;
use crate::survey::servers::{place, role, state};
use crate::traffic::Counter;

pub(super) fn herd(shared: &Shared, clock: &Clock) -> Herd {
    let topology = Arc::clone(&shared.control.topology.borrow());
    let status = Arc::clone(&shared.control.status.borrow());
    let table = shared.backends.load();
    let nodes = nodes(shared, (&topology, &status, &table), clock);
    let writes = writes(&table);
    let identifier = topology.system_identifier.as_ref().ok().copied().flatten();
    Herd {
        at: show_time(SystemTime::now()),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: shared.epoch.elapsed().as_secs(),
        cluster: Cluster {
            system_identifier: identifier.map(|it| it.to_string()),
            timeline: status.epoch.map(|epoch| epoch.timeline.0),
        },
        machine: machine(shared, &status, clock),
        alert: alert(&status, &writes, &nodes),
        writes,
        nodes,
        traffic: model::Point::default(),
    }
}

fn writes(table: &Table) -> Writes {
    match &table.writes {
        Target::Open(server) => Writes { open: true, node: Some(server.node.id.0), reason: None },
        Target::Held { keep, reason } => Writes {
            open: false,
            node: keep.as_ref().map(|server| server.node.id.0),
            reason: Some(reason.to_string()),
        },
    }
}

/// The server that takes writes.
pub(super) fn takes_writes(shared: &Shared) -> Option<u32> {
    match &shared.backends.load().writes {
        Target::Open(server) => Some(server.node.id.0),
        Target::Held { .. } => None,
    }
}

fn machine(shared: &Shared, status: &Status, clock: &Clock) -> Machine {
    let since = shared.control.chronicle.borrow().since;
    Machine {
        state: status.state.to_string(),
        since: clock.show(since),
        reason: status.reason.clone(),
        advice: status.advice.clone(),
        mode: shared.config.load().failover.mode.name(),
        decides: status.decides,
        decider: status.decider.clone(),
        paused: status.paused,
        epoch: status.epoch.map(|epoch| epoch.to_string()),
        guards: status.checks.iter().map(check).collect(),
        warnings: status.warnings.clone(),
    }
}

pub(super) fn check(Check { what, holds, why }: &Check) -> model::Check {
    model::Check { what: (*what).to_owned(), holds: show_holds(*holds), why: why.clone() }
}

/// The worst of what is wrong.
fn alert(status: &Status, writes: &Writes, nodes: &[model::Node]) -> Option<Alert> {
    let said = |level, text: String, advice: Option<String>| Some(Alert { level, text, advice });
    let sentence = |text: &str| format!("{}.", text.trim_end_matches('.'));
    if status.state == StateName::Hold {
        let text = format!("pgherd holds, and writes wait: {}", with_names(&sentence(&status.reason), nodes));
        return said(Level::Error, text, status.advice.clone());
    }
    if let Some(reason) = &writes.reason {
        let advice =
            status.advice.clone().or_else(|| Some("pgherd is at work: nothing needs to be done.".to_owned()));
        return said(Level::Error, format!("Writes wait: {}", with_names(&sentence(reason), nodes)), advice);
    }
    if status.paused {
        let advice = "Resume failover when the work on the servers is done.";
        let text = "Failover is paused: nobody is promoted, and nothing is repaired.";
        return said(Level::Warning, text.to_owned(), Some(advice.to_owned()));
    }
    if let Some(warning) = status.warnings.first() {
        return said(Level::Warning, with_names(&sentence(warning), nodes), status.advice.clone());
    }
    let unused = nodes.iter().find(|node| node.used_for == "no" && !node.detached)?;
    let why = unused.why_not.as_deref().unwrap_or("it is not fit to be read");
    said(Level::Warning, format!("{} is used for nothing: {}", unused.name, sentence(why)), None)
}

/// Servers by their names, and not only by their numbers.
fn with_names(text: &str, nodes: &[model::Node]) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("node ") {
        let digits = after.find(|it: char| !it.is_ascii_digit()).unwrap_or(after.len());
        let (number, behind) = after.split_at(digits);
        let name = nodes.iter().find(|node| number.parse() == Ok(node.id)).map(|node| node.name.as_str());
        shown.push_str(before);
        match name {
            Some(name) => shown.push_str(name),
            None => shown.extend(["node ", number]),
        }
        rest = behind;
    }
    shown + rest
}

fn nodes(
    shared: &Shared,
    (topology, status, table): (&Topology, &Status, &Table),
    clock: &Clock,
) -> Vec<model::Node> {
    let nodes = Arc::clone(&shared.control.routing.borrow().nodes);
    let primary = topology.leadership.primary().and_then(|id| topology.member(id));
    let head = primary.and_then(Member::furthest);
    let leader = topology.leadership.primary();
    let positions = shared.backends.positions();
    let pools = shared.backends.pools(None);
    let node = |node: &pgherd_health::Node| {
        let member = topology.member(node.id);
        let (used_for, mut why_not) = place(node.id, member, table, topology);
        let detached = status.detached.contains(&node.id);
        if detached && used_for == "no" {
            why_not = Some("an operator has detached it".to_owned());
        }
        let lsn = member.and_then(Member::furthest);
        let lag = positions.lag(node.id);
        let own = pools.iter().filter(|(server, ..)| server.node.id == node.id);
        let lent =
            table.servers().find(|server| server.node.id == node.id).map_or(0, |it| it.connections_lent());
        let repmgr = member.and_then(|member| member.repmgr.as_ref());
        let receiving = member.and_then(|member| member.receiving.as_ref());
        let sender =
            repmgr.and_then(|row| primary?.senders().find(|it| it.application_name == row.node_name));
        model::Node {
            id: node.id.0,
            name: repmgr.map_or_else(|| node.host.clone(), |row| row.node_name.clone()),
            host: node.host.clone(),
            port: node.port,
            // What a server that is gone said last is void once another leads.
            role: member
                .filter(|it| it.is_alive() || leader.is_none_or(|id| id == node.id))
                .map_or("unknown", role),
            state: member.map_or_else(|| "unknown".to_owned(), state),
            up: member.is_some_and(Member::is_alive),
            used_for,
            why_not,
            lsn: lsn.map(|lsn| lsn.to_string()),
            lag_bytes: behind(head, lsn),
            replay_lag_bytes: lag.map(|lag| lag.bytes),
            replay_lag_seconds: lag.map(|lag| lag.time.as_secs_f64()),
            timeline: member.and_then(Member::report).map(|report| report.timeline.0),
            weight: node.weight,
            detached,
            discovered: node.discovered.is_some(),
            since: member.and_then(|member| member.seen.as_ref()).map(|seen| clock.show(seen.since)),
            connections: own.map(|(_, _, pool)| pool.connections()).sum(),
            lent,
            reads_per_second: None,
            round_trip_ms: shared.backends.round_trip(node.id).map(|it| it.as_secs_f64() * 1000.0),
            upstream: receiving.and_then(|receiving| receiving.from).map(|id| id.0),
            receiver: receiving.map(|receiving| receiving.status.clone()),
            sync_state: sender.map(|sender| sender.sync_state.clone()),
        }
    };
    nodes.iter().map(node).collect()
}

fn behind(head: Option<Lsn>, lsn: Option<Lsn>) -> Option<u64> {
    Some(head?.bytes_since(lsn?))
}

/// The clients that hold connections of pools to a server, by the processes there.
pub(super) fn clients_of(shared: &Shared, id: NodeId) -> Vec<(u32, u64)> {
    let pools = shared.backends.pools(None);
    let own = pools.iter().filter(|(server, ..)| server.node.id == id);
    let points: Vec<_> = own.flat_map(|(_, _, pool)| pool.glance().connections).map(|it| it.point).collect();
    let client = |seat: Arc<Seat>| match seat.business().0 {
        Business::Holding(held) if points.iter().any(|point| Arc::ptr_eq(point, &held)) => {
            Some((held.pid(), seat.card().id))
        }
        _ => None,
    };
    shared.roster.all().into_iter().filter_map(client).collect()
}

/// Queries of each server that only read.
pub(super) fn reads(shared: &Shared) -> Vec<(u32, u64)> {
    let nodes = Arc::clone(&shared.control.routing.borrow().nodes);
    let reads = |id| shared.backends.account(id).sums().of(Counter::Reads);
    nodes.iter().map(|node| (node.id.0, reads(node.id))).collect()
}

/// How far each standby's replay is behind.
pub(super) fn lags(shared: &Shared) -> Vec<(u32, u64, f64)> {
    let nodes = Arc::clone(&shared.control.routing.borrow().nodes);
    let positions = shared.backends.positions();
    let lag = |node: &pgherd_health::Node| {
        let lag = positions.lag(node.id)?;
        Some((node.id.0, lag.bytes, lag.time.as_secs_f64()))
    };
    nodes.iter().filter_map(lag).collect()
}

/// What has happened of late, the oldest first.
pub(super) fn events(shared: &Shared, clock: &Clock) -> Vec<Event> {
    let chronicle = Arc::clone(&shared.control.chronicle.borrow());
    let topology = Arc::clone(&shared.control.topology.borrow());
    let event = |Happened { at, event, node, successful, details }: &Happened| Event {
        at: clock.show(*at),
        event: (*event).to_owned(),
        node: Some(node.0),
        name: topology.member(*node).and_then(|it| it.repmgr.as_ref()).map(|row| row.node_name.clone()),
        successful: *successful,
        details: details.clone(),
        by: None,
    };
    chronicle.events.iter().map(event).collect()
}
