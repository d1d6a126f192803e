//! pgpool-II's views with its columns, which are all texts: old scripts read them.

use std::sync::Arc;
use std::time::SystemTime;

use pgherd_health::{Member, Node, Topology, WalSender};
use pgherd_protocol::rows::{Column, Row, Value};

use super::{Scene, show_instant, show_time, sockets, text};
use crate::config::Reads;
use crate::server::table::{Table, Target};
use crate::survey::servers::role;
use crate::traffic::Counter;

/// SHOW POOL_NODES
pub(super) const NODES: &[Column] = &[
    text("node_id"),
    text("hostname"),
    text("port"),
    text("status"),
    text("pg_status"),
    text("lb_weight"),
    text("role"),
    text("pg_role"),
    text("select_cnt"),
    text("load_balance_node"),
    text("replication_delay"),
    text("replication_state"),
    text("replication_sync_state"),
    text("last_status_change"),
];

/// SHOW POOL_PROCESSES
pub(super) const PROCESSES: &[Column] = &[
    text("pool_pid"),
    text("start_time"),
    text("client_connection_count"),
    text("database"),
    text("username"),
    text("backend_connection_time"),
    text("pool_counter"),
    text("status"),
];

/// SHOW POOL_POOLS
pub(super) const POOLS: &[Column] = &[
    text("pool_pid"),
    text("start_time"),
    text("client_connection_count"),
    text("pool_id"),
    text("backend_id"),
    text("database"),
    text("username"),
    text("backend_connection_time"),
    text("client_connection_time"),
    text("client_disconnection_time"),
    text("client_idle_duration"),
    text("majorversion"),
    text("minorversion"),
    text("pool_counter"),
    text("pool_backendpid"),
    text("pool_connected"),
    text("status"),
    text("load_balance_node"),
    text("client_host"),
    text("client_port"),
    text("statement"),
];

/// SHOW POOL_VERSION
pub(super) const VERSION: &[Column] = &[text("pool_version")];
/// SHOW POOL_STATUS
pub(super) const STATUS: &[Column] = &[text("item"), text("value"), text("description")];

/// SHOW POOL_CACHE
pub(super) const CACHE: &[Column] = &[
    text("num_cache_hits"),
    text("num_selects"),
    text("cache_hit_ratio"),
    text("num_hash_entries"),
    text("used_hash_entries"),
    text("num_cache_entries"),
    text("used_cache_entries_size"),
    text("free_cache_entries_size"),
    text("fragment_cache_entries_size"),
];

/// SHOW POOL_HEALTH_CHECK_STATS
pub(super) const HEALTH_CHECK_STATS: &[Column] = &[
    text("node_id"),
    text("hostname"),
    text("port"),
    text("status"),
    text("role"),
    text("last_status_change"),
    text("total_count"),
    text("success_count"),
    text("fail_count"),
    text("skip_count"),
    text("retry_count"),
    text("average_retry_count"),
    text("max_retry_count"),
    text("max_duration"),
    text("min_duration"),
    text("average_duration"),
    text("last_health_check"),
    text("last_successful_health_check"),
    text("last_skip_health_check"),
    text("last_failed_health_check"),
];

/// SHOW POOL_BACKEND_STATS
pub(super) const BACKEND_STATS: &[Column] = &[
    text("node_id"),
    text("hostname"),
    text("port"),
    text("status"),
    text("role"),
    text("select_cnt"),
    text("insert_cnt"),
    text("update_cnt"),
    text("delete_cnt"),
    text("ddl_cnt"),
    text("other_cnt"),
    text("panic_cnt"),
    text("fatal_cnt"),
    text("error_cnt"),
];

/// One server as pgpool shows it.
struct Shown<'a> {
    node: &'a Node,
    member: Option<&'a Member>,
    in_table: bool,
    is_primary: bool,
    reads: u64,
}

impl Shown<'_> {
    const fn status(&self) -> &'static str {
        if self.in_table { "up" } else { "down" }
    }

    const fn role(&self) -> &'static str {
        if self.is_primary { "primary" } else { "standby" }
    }

    fn is_up(&self) -> bool {
        self.member.is_some_and(Member::is_alive)
    }

    fn changed_at(&self) -> Value {
        let seen = self.member.and_then(|member| member.seen.as_ref());
        seen.map_or_else(String::new, |seen| without_zone(show_instant(seen.since))).into()
    }

    fn beginning(&self) -> Row {
        vec![
            self.node.id.to_string().into(),
            self.node.host.clone().into(),
            self.node.port.to_string().into(),
            self.status().into(),
        ]
    }
}

/// Calls `row` for each server.
fn each(scene: &Scene<'_>, row: impl Fn(&Shown<'_>, &Topology) -> Row) -> Vec<Row> {
    let shared = scene.shared();
    let topology = Arc::clone(&shared.control.topology.borrow());
    let table = shared.backends.load();
    let nodes = Arc::clone(&shared.control.routing.borrow().nodes);
    let shown = |node| Shown {
        node,
        member: topology.member(node.id),
        in_table: table.servers().any(|server| server.node.id == node.id),
        is_primary: is_primary(node, &table),
        reads: shared.backends.account(node.id).sums().of(Counter::Reads),
    };
    nodes.iter().map(|node| row(&shown(node), &topology)).collect()
}

fn is_primary(node: &Node, table: &Table) -> bool {
    match &table.writes {
        Target::Open(server) | Target::Held { keep: Some(server), .. } => server.node.id == node.id,
        Target::Held { keep: None, .. } => false,
    }
}

pub(super) fn nodes(scene: &Scene<'_>) -> Vec<Row> {
    let reads = scene.shared().config.load().routing.policy.reads;
    let total: f64 = scene.shared().control.routing.borrow().nodes.iter().map(|node| node.weight).sum();
    each(scene, |shown, topology| {
        let primary = topology.leadership.primary().and_then(|id| topology.member(id));
        let sender = primary.and_then(|primary| sender(primary, shown.member?));
        let weight = if total > 0.0 { shown.node.weight / total } else { 0.0 };
        let delay = match (
            shown.is_primary,
            primary.and_then(Member::furthest),
            shown.member.and_then(Member::furthest),
        ) {
            (false, Some(head), Some(there)) => head.bytes_since(there),
            _ => 0,
        };
        let said = shown.member.filter(|_| shown.is_up()).map_or("unknown", role);
        let mut row = shown.beginning();
        row.extend([
            if shown.is_up() { "up" } else { "down" }.into(),
            format!("{weight:.6}").into(),
            shown.role().into(),
            said.into(),
            shown.reads.to_string().into(),
            is_read(shown, reads).to_string().into(),
            delay.to_string().into(),
            sender.map_or("", |sender| &*sender.state).into(),
            sender.map_or("", |sender| &*sender.sync_state).into(),
            shown.changed_at(),
        ]);
        row
    })
}

/// True if reads go there.
fn is_read(shown: &Shown<'_>, reads: Reads) -> bool {
    match reads {
        Reads::Primary => shown.is_primary,
        Reads::Standbys => shown.in_table && !shown.is_primary,
        Reads::Any => shown.in_table,
    }
}

/// The primary's row of this standby.
fn sender<'a>(primary: &'a Member, standby: &Member) -> Option<&'a WalSender> {
    let name = &standby.repmgr.as_ref()?.node_name;
    primary.senders().find(|sender| sender.application_name == *name)
}

pub(super) fn backend_stats(scene: &Scene<'_>) -> Vec<Row> {
    each(scene, |shown, _| {
        let mut row = shown.beginning();
        row.extend([shown.role().into(), shown.reads.to_string().into()]);
        row.resize(BACKEND_STATS.len(), "0".into());
        row
    })
}

pub(super) fn health_check_stats(scene: &Scene<'_>) -> Vec<Row> {
    each(scene, |shown, _| {
        let seen = shown.member.and_then(|member| member.seen.as_ref());
        let at = |instant: Option<std::time::Instant>| -> Value {
            instant.map_or_else(String::new, |at| without_zone(show_instant(at))).into()
        };
        let mut row = shown.beginning();
        row.extend([shown.role().into(), shown.changed_at()]);
        row.resize(HEALTH_CHECK_STATS.len() - 4, "0".into());
        row.extend([
            at(seen.map(|seen| seen.answered_at)),
            at(seen.and_then(|seen| seen.report.as_ref()).map(|dated| dated.answered_at)),
            "".into(),
            at(seen.and_then(|seen| seen.failing_since)),
        ]);
        row
    })
}

pub(super) fn processes(scene: &Scene<'_>) -> Vec<Row> {
    sockets::for_pgpool(scene, |client| {
        vec![
            client.id.to_string().into(),
            without_zone(show_time(client.connected_at)).into(),
            "1".into(),
            client.database.into(),
            client.user.into(),
            client.server.map_or_else(String::new, |seen| without_zone(show_instant(seen.opened_at))).into(),
            "0".into(),
            client.status.into(),
        ]
    })
}

pub(super) fn pools(scene: &Scene<'_>) -> Vec<Row> {
    let pid = std::process::id().to_string();
    let started = without_zone(scene.time_of(0));
    let mut rows = sockets::servers_for_pgpool(scene, |server| {
        let holder = server.holder;
        let time = |time: Option<SystemTime>| -> Value {
            time.map_or_else(String::new, |time| without_zone(show_time(time))).into()
        };
        let (host, port) = holder.map_or_else(|| ("".into(), "".into()), sockets::peer);
        vec![
            pid.clone().into(),
            started.clone().into(),
            "0".into(),
            "0".into(),
            server.node.to_string().into(),
            server.database.into(),
            server.user.into(),
            without_zone(show_instant(server.seen.opened_at)).into(),
            time(holder.map(|card| card.connected_at)),
            server.seen.idle_since.map_or_else(String::new, |at| without_zone(show_instant(at))).into(),
            "0".into(),
            "3".into(),
            "0".into(),
            "0".into(),
            server.seen.point.pid().to_string().into(),
            if holder.is_some() { "1" } else { "0" }.into(),
            if holder.is_some() { "Execute command" } else { "Idle" }.into(),
            if server.is_primary { "1" } else { "0" }.into(),
            host,
            port,
            "".into(),
        ]
    });
    for (number, row) in rows.iter_mut().enumerate() {
        if let Some(place) = row.get_mut(3) {
            *place = number.to_string().into();
        }
    }
    rows
}

pub(super) fn version(_: &Scene<'_>) -> Vec<Row> {
    vec![vec![concat!("4.3.0 (pgherd ", env!("CARGO_PKG_VERSION"), ")").into()]]
}

pub(super) fn cache(_: &Scene<'_>) -> Vec<Row> {
    let none = ["0", "0", "0.00", "0", "0", "0", "0", "0", "0"];
    vec![none.into_iter().map(Value::from).collect()]
}

/// Sections that only administrators see.
const NOT_FOR_ALL: [&str; 6] = ["auth.", "admin.", "monitor.", "failover.", "listen.tls.", "backends.tls."];

pub(super) fn status(scene: &Scene<'_>) -> Vec<Row> {
    let config = scene.shared().config.load();
    let row =
        |item: String, value: String, description: &str| vec![item.into(), value.into(), description.into()];
    // Whoever may log in anywhere can ask this: not for who else may, and where what is secret lies.
    let is_for_all = |key: &str| !NOT_FOR_ALL.iter().any(|section| key.starts_with(section));
    let own = config.describe().into_iter().filter(|(key, _)| scene.is_admin || is_for_all(key));
    let own = own.map(|(key, value)| row(key.to_owned(), value.unwrap_or_default(), "a key of pgherd"));
    let mut rows: Vec<Row> = own.collect();
    let nodes = Arc::clone(&scene.shared().control.routing.borrow().nodes);
    for node in nodes.iter() {
        let id = node.id;
        rows.push(row(format!("backend_hostname{id}"), node.host.clone(), "backend hostname"));
        rows.push(row(format!("backend_port{id}"), node.port.to_string(), "backend port number"));
        rows.push(row(format!("backend_weight{id}"), node.weight.to_string(), "weight of backend"));
        rows.push(row(
            format!("backend_data_directory{id}"),
            node.data_directory.clone(),
            "data directory of backend",
        ));
        let flag = if node.may_be_promoted { "ALLOW_TO_FAILOVER" } else { "DISALLOW_TO_FAILOVER" };
        rows.push(row(format!("backend_flag{id}"), flag.to_owned(), "backend flag"));
    }
    rows
}

/// pgpool says the time of day without the zone.
fn without_zone(time: String) -> String {
    time.trim_end_matches(" UTC").to_owned()
}
