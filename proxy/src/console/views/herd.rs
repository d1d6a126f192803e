//! pgherd's own views: the servers, what is decided about them, and the statements that clients share.

use std::sync::Arc;

use pgherd_failover::{Check, Happened};
use pgherd_health::{Lsn, Member};
use pgherd_protocol::rows::{Column, Row, Value};

use super::super::herd::show_holds;
use super::{Scene, big, int, number, show_instant, text};
use crate::survey::servers::{place, role, state};

/// SHOW TOPOLOGY
pub(super) const TOPOLOGY: &[Column] = &[
    int("node"),
    text("host"),
    int("port"),
    text("role"),
    text("state"),
    text("in_table"),
    text("why_not"),
    text("lsn"),
    big("lag_bytes"),
    int("timeline"),
    text("weight"),
    text("repmgr_name"),
    int("pools"),
    int("connections"),
    text("since"),
    text("named_in"),
];

/// SHOW FAILOVER
pub(super) const FAILOVER: &[Column] = &[text("item"), text("value"), text("since"), text("detail")];

/// SHOW EVENTS
pub(super) const EVENTS: &[Column] =
    &[text("time"), text("event"), int("node"), text("repmgr_name"), text("successful"), text("details")];

/// SHOW PREPARED
pub(super) const PREPARED: &[Column] = &[text("name"), int("sessions"), text("statement")];

/// So much of a statement is shown.
const SHOWN: usize = 256;

pub(super) fn topology(scene: &Scene<'_>) -> Vec<Row> {
    let shared = scene.shared();
    let topology = Arc::clone(&shared.control.topology.borrow());
    let status = Arc::clone(&shared.control.status.borrow());
    let table = shared.backends.load();
    let nodes = Arc::clone(&shared.control.routing.borrow().nodes);
    let head = topology.leadership.primary().and_then(|id| topology.member(id)).and_then(Member::furthest);
    let pools = shared.backends.pools(None);
    let row = |node: &pgherd_health::Node| {
        let member = topology.member(node.id);
        let own = pools.iter().filter(|(server, ..)| server.node.id == node.id);
        let lsn = member.and_then(Member::furthest);
        let (in_table, mut why_not) = place(node.id, member, &table, &topology);
        if in_table == "no" && status.detached.contains(&node.id) {
            why_not = Some("an operator has detached it".to_owned());
        }
        let changed = member.and_then(|member| member.seen.as_ref()).map(|seen| show_instant(seen.since));
        vec![
            number(i64::from(node.id.0)),
            node.host.clone().into(),
            number(i64::from(node.port)),
            member.map_or("unknown", role).into(),
            member.map_or_else(|| "unknown".to_owned(), state).into(),
            in_table.into(),
            why_not.into(),
            lsn.map(|lsn| lsn.to_string()).into(),
            lag(head, lsn).into(),
            member.and_then(Member::report).map(|report| i64::from(report.timeline.0)).into(),
            node.weight.to_string().into(),
            member.and_then(|member| member.repmgr.as_ref()).map(|row| row.node_name.clone()).into(),
            own.clone().count().into(),
            own.map(|(_, _, pool)| pool.connections()).sum::<usize>().into(),
            changed.into(),
            if node.discovered.is_some() { "repmgr.nodes" } else { "backends.nodes" }.into(),
        ]
    };
    nodes.iter().map(row).collect()
}

fn lag(head: Option<Lsn>, lsn: Option<Lsn>) -> Option<u64> {
    Some(head?.bytes_since(lsn?))
}

pub(super) fn failover(scene: &Scene<'_>) -> Vec<Row> {
    let shared = scene.shared();
    let status = Arc::clone(&shared.control.status.borrow());
    let chronicle = Arc::clone(&shared.control.chronicle.borrow());
    let mut rows = vec![
        item("mode", shared.config.load().failover.mode.name(), None, ""),
        item("state", &status.state.to_string(), Some(show_instant(chronicle.since)), &status.reason),
        item("epoch", &status.epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string()), None, ""),
    ];
    rows.insert(1, item("decider", &status.decider, None, ""));
    rows.extend(status.advice.iter().map(|advice| item("advice", "", None, advice)));
    rows.extend(status.checks.iter().map(|check| {
        let Check { what, holds, why } = check;
        let detail = if why.is_empty() { (*what).to_owned() } else { format!("{what}: {why}") };
        item("guard", show_holds(*holds), None, &detail)
    }));
    rows.extend(status.warnings.iter().map(|warning| item("warning", "", None, warning)));
    if chronicle.events_lost > 0 {
        let lost = chronicle.events_lost.to_string();
        rows.push(item("events_lost", &lost, None, "could not be written to repmgr's table of events"));
    }
    rows.extend(chronicle.decisions.iter().rev().map(|decision| {
        let detail = match decision.times {
            1 => decision.seen.clone(),
            times => format!("{} ({times} times)", decision.seen),
        };
        let value = format!("{}: {} -> {}", decision.name, decision.from, decision.to);
        item("decision", &value, Some(show_instant(decision.at)), &detail)
    }));
    rows
}

pub(super) fn events(scene: &Scene<'_>) -> Vec<Row> {
    let shared = scene.shared();
    let chronicle = Arc::clone(&shared.control.chronicle.borrow());
    let topology = Arc::clone(&shared.control.topology.borrow());
    let row = |happened: &Happened| {
        let Happened { at, event, node, successful, details } = happened;
        let named = topology.member(*node).and_then(|member| member.repmgr.as_ref());
        vec![
            show_instant(*at).into(),
            (*event).into(),
            number(i64::from(node.0)),
            named.map(|row| row.node_name.clone()).into(),
            (if *successful { "t" } else { "f" }).into(),
            details.as_str().into(),
        ]
    };
    chronicle.events.iter().rev().map(row).collect()
}

fn item(name: &str, value: &str, since: Option<String>, detail: &str) -> Row {
    vec![name.into(), value.into(), since.into(), detail.into()]
}

pub(super) fn prepared(scene: &Scene<'_>) -> Vec<Row> {
    let row = |statement: Arc<pgherd_protocol::prepared::Statement>| {
        let text = statement.definition().split(|byte| *byte == 0).next().unwrap_or_default();
        let text: String = String::from_utf8_lossy(text).chars().take(SHOWN).collect();
        vec![
            format!("{}{}", pgherd_protocol::prepared::SERVER_PREFIX, statement.id).into(),
            // But for the one that is held here.
            (Arc::strong_count(&statement) - 1).into(),
            // As pg_stat_activity says it.
            if scene.is_admin { Value::from(text) } else { "<insufficient privilege>".into() },
        ]
    };
    scene.shared().statements.all().into_iter().map(row).collect()
}
