//! What is configured, and how much of it there is.

use std::collections::BTreeMap;

use pgherd_protocol::rows::{Column, Row, Value};

use super::table::table;
use super::{Scene, big, bytes, int, number, show_time, text};
use crate::config::{self, KEYS};
use crate::console::{is_console, parameters};
use crate::server::table::Target;

/// SHOW CONFIG
pub(super) const CONFIG: &[Column] = &[text("key"), text("value"), text("default"), text("changeable")];

table! {
    /// SHOW DATABASES
    DATABASES, Database {
        name = text("name"),
        host = text("host"),
        port = int("port"),
        database = text("database"),
        force_user = text("force_user"),
        pool_size = int("pool_size"),
        min_pool_size = int("min_pool_size"),
        reserve_pool_size = int("reserve_pool_size"),
        server_lifetime = int("server_lifetime"),
        pool_mode = text("pool_mode"),
        load_balance_hosts = text("load_balance_hosts"),
        max_connections = int("max_connections"),
        current_connections = int("current_connections"),
        max_client_connections = int("max_client_connections"),
        current_client_connections = int("current_client_connections"),
        paused = int("paused"),
        disabled = int("disabled"),
    }
}

table! {
    /// SHOW USERS
    USERS, User {
        name = text("name"),
        pool_size = text("pool_size"),
        reserve_pool_size = text("reserve_pool_size"),
        pool_mode = text("pool_mode"),
        max_user_connections = int("max_user_connections"),
        current_connections = int("current_connections"),
        max_user_client_connections = int("max_user_client_connections"),
        current_client_connections = int("current_client_connections"),
    }
}

/// SHOW LISTS
pub(super) const LISTS: &[Column] = &[text("list"), int("items")];
/// SHOW MEM
pub(super) const MEM: &[Column] = &[text("name"), int("size"), int("used"), int("free"), int("memtotal")];
/// SHOW STATE
pub(super) const STATE: &[Column] = &[text("key"), text("value")];
/// SHOW VERSION
pub(super) const VERSION: &[Column] = &[text("version")];
/// SHOW DNS_HOSTS
pub(super) const DNS_HOSTS: &[Column] = &[text("hostname"), big("ttl"), text("addrs")];
/// SHOW DNS_ZONES
pub(super) const DNS_ZONES: &[Column] = &[text("zonename"), big("serial"), int("count")];
/// SHOW PEERS
pub(super) const PEERS: &[Column] = &[int("peer_id"), text("host"), int("port"), int("pool_size")];
/// SHOW PEER_POOLS
pub(super) const PEER_POOLS: &[Column] = &[
    int("peer_id"),
    int("cl_active_cancel_req"),
    int("cl_waiting_cancel_req"),
    int("sv_active_cancel"),
    int("sv_login"),
];
/// SHOW FDS
pub(super) const FDS: &[Column] = &[
    int("fd"),
    text("task"),
    text("user"),
    text("database"),
    text("addr"),
    int("port"),
    big("cancel"),
    int("link"),
    text("client_encoding"),
    text("std_strings"),
    text("datestyle"),
    text("timezone"),
    text("password"),
    bytes("scram_client_key"),
    bytes("scram_server_key"),
];

/// A name that no database and no user has: only what is set for all of them holds.
const NOBODY: &str = "";

/// Every key under its own name, and those of PgBouncer under its names besides, with their values in its units: tools look for
/// them there.
pub(super) fn config(scene: &Scene<'_>) -> Vec<Row> {
    let config = scene.shared().config.load();
    let mut rows: BTreeMap<String, [Value; 3]> = BTreeMap::new();
    for (name, value) in config.describe() {
        let key = KEYS.iter().find(|key| key.name == name);
        let default = key.and_then(|key| key.default);
        let is_fixed = config::FIXED.contains(&name);
        let changeable = if is_fixed { "no" } else { "yes" };
        if let Some(known) = name.strip_prefix("pool.") {
            let known = key.and_then(|key| key.alias).unwrap_or(known);
            let value = value.as_deref().map(config::as_pgbouncer);
            let default = default.map(config::as_pgbouncer);
            rows.insert(known.to_owned(), [value.into(), default.into(), changeable.into()]);
        }
        rows.insert(name.to_owned(), [value.into(), default.into(), changeable.into()]);
    }
    let row = |(key, [value, default, changeable]): (String, [Value; 3])| {
        vec![key.into(), value, default, changeable]
    };
    rows.into_iter().map(row).collect()
}

pub(super) fn databases(scene: &Scene<'_>) -> Vec<Row> {
    let shared = scene.shared();
    let config = shared.config.load();
    let primary = match &shared.backends.load().writes {
        Target::Open(server) => Some(server.node.clone()),
        Target::Held { keep, .. } => keep.as_ref().map(|server| server.node.clone()),
    };
    let clients = count(scene, |card| &card.database);
    let gates = &shared.backends.gates;
    let row = |database: Box<str>| {
        let sizes = config.pool.sizes_for(&database, NOBODY);
        let is_chosen =
            |it: &&config::PoolOverride| it.database.as_deref() == Some(&*database) && it.user.is_none();
        let mode = config.pool.overrides.iter().filter(is_chosen).find_map(|it| it.mode);
        let lifetime = config.pool.server_lifetime_for(&database, NOBODY);
        Database {
            name: (&*database).into(),
            host: primary.as_ref().map(|node| node.host.clone()).into(),
            port: number(primary.as_ref().map_or(0, |node| i64::from(node.port))),
            database: (&*database).into(),
            force_user: Value::Null,
            pool_size: sizes.size.into(),
            min_pool_size: sizes.min_size.into(),
            reserve_pool_size: sizes.reserve_size.into(),
            server_lifetime: lifetime.map_or(0, |lifetime| lifetime.as_secs()).into(),
            pool_mode: mode.map(config::PoolMode::name).into(),
            load_balance_hosts: Value::Null,
            max_connections: sizes.max_db_connections.into(),
            current_connections: shared.backends.connections(Some(&database)).into(),
            max_client_connections: sizes.max_db_client_connections.into(),
            current_client_connections: clients.get(&database).copied().unwrap_or_default().into(),
            paused: number(i64::from(gates.is_paused_by_name(&database))),
            disabled: number(i64::from(gates.is_disabled(&database))),
        }
    };
    let consoles =
        clients.iter().filter(|(name, _)| is_console(name)).map(|(_, count)| *count).sum::<usize>();
    let own = the_console(scene.database, config.listen.address.port(), consoles);
    scene.databases().into_iter().map(row).chain([own]).map(Row::from).collect()
}

/// It has no servers, and none of their limits.
fn the_console(name: &str, port: u16, clients: usize) -> Database {
    Database {
        name: name.into(),
        host: Value::Null,
        port: number(i64::from(port)),
        database: name.into(),
        force_user: Value::Null,
        pool_size: number(0),
        min_pool_size: number(0),
        reserve_pool_size: number(0),
        server_lifetime: number(0),
        pool_mode: "statement".into(),
        load_balance_hosts: Value::Null,
        max_connections: number(0),
        current_connections: number(0),
        max_client_connections: number(0),
        current_client_connections: clients.into(),
        paused: number(0),
        disabled: number(0),
    }
}

pub(super) fn users(scene: &Scene<'_>) -> Vec<Row> {
    let shared = scene.shared();
    let config = shared.config.load();
    let clients = count(scene, |card| &card.user);
    let mut connections: BTreeMap<Box<str>, usize> = BTreeMap::new();
    for (_, (_, user), pool) in shared.backends.pools(None) {
        *connections.entry(user).or_default() += pool.connections();
    }
    let mut names: Vec<Box<str>> = shared.traffic.known().into_iter().map(|(_, user)| user).collect();
    names.sort_unstable();
    names.dedup();
    let row = |user: Box<str>| {
        let chosen: Vec<_> = config
            .pool
            .overrides
            .iter()
            .filter(|it| it.user.as_deref() == Some(&*user) && it.database.is_none())
            .collect();
        let size = |of: fn(&config::PoolOverride) -> Option<usize>| -> Value {
            chosen.iter().find_map(|it| of(it)).map_or_else(String::new, |size| size.to_string()).into()
        };
        let all = config.pool.sizes_for(NOBODY, &user);
        Row::from(User {
            name: (&*user).into(),
            pool_size: size(|it| it.size),
            reserve_pool_size: size(|it| it.reserve_pool_size),
            pool_mode: chosen.iter().find_map(|it| it.mode).map(config::PoolMode::name).into(),
            max_user_connections: all.max_user_connections.into(),
            current_connections: connections.get(&user).copied().unwrap_or_default().into(),
            max_user_client_connections: all.max_user_client_connections.into(),
            current_client_connections: clients.get(&user).copied().unwrap_or_default().into(),
        })
    };
    names.into_iter().map(row).collect()
}

/// How many clients there are of each.
fn count(scene: &Scene<'_>, of: impl Fn(&crate::roster::Card) -> &str) -> BTreeMap<Box<str>, usize> {
    let mut counts = BTreeMap::new();
    for seat in scene.shared().roster.all() {
        *counts.entry(of(seat.card()).into()).or_default() += 1;
    }
    counts
}

pub(super) fn lists(scene: &Scene<'_>) -> Vec<Row> {
    let shared = scene.shared();
    let clients = shared.roster.len();
    let known = shared.traffic.known();
    let users: std::collections::BTreeSet<_> = known.iter().map(|(_, user)| user).collect();
    let lists = [
        ("databases", scene.databases().len() + 1),
        ("users", users.len()),
        ("peers", 0),
        ("pools", known.len()),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", clients),
        ("login_clients", scene.connections.saturating_sub(clients)),
        ("free_servers", 0),
        ("used_servers", shared.backends.connections(None)),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ];
    lists.map(|(name, items)| vec![name.into(), items.into()]).into()
}

pub(super) fn mem(scene: &Scene<'_>) -> Vec<Row> {
    let row = |name: &str, size: usize, used: usize| {
        vec![name.into(), size.into(), used.into(), number(0), (size * used).into()]
    };
    let shared = scene.shared();
    let page = rustix::param::page_size();
    // The second number of the file is the pages that are in memory.
    let resident = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = resident.and_then(|text| text.split(' ').nth(1)?.parse().ok()).unwrap_or_default();
    vec![
        row("client_sessions", size_of::<crate::client::Session>(), shared.roster.len()),
        row(
            "server_connections",
            size_of::<crate::server::connection::ServerConnection>(),
            shared.backends.connections(None),
        ),
        row("resident_pages", page, pages),
    ]
}

pub(super) fn state(scene: &Scene<'_>) -> Vec<Row> {
    let paused = scene.shared().backends.gates.is_all_paused();
    let is = |yes: bool| if yes { "yes" } else { "no" };
    let states = [("active", !paused), ("paused", paused), ("suspended", false)];
    let mut rows: Vec<Row> = states.map(|(name, yes)| vec![name.into(), is(yes).into()]).into();
    if scene.database != "pgbouncer" {
        let expires_at = scene.shared().tls.expires_at().map(show_time);
        rows.push(vec!["certificate_expires_at".into(), expires_at.into()]);
    }
    rows
}

pub(super) fn version(scene: &Scene<'_>) -> Vec<Row> {
    let own = concat!("pgherd ", env!("CARGO_PKG_VERSION"));
    let version = match scene.database {
        // Tools look for the first number.
        "pgbouncer" => format!("PgBouncer {} ({own})", parameters::PGBOUNCER),
        _ => own.to_owned(),
    };
    vec![vec![version.into()]]
}
