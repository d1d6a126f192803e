//! What the console shows: PgBouncer's views with its columns, pgpool's, and pgherd's own.

mod herd;
mod pgpool;
mod pgpool_parameters;
mod pools;
mod routing;
mod settings;
mod sockets;
mod stats;
mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use pgherd_protocol::rows::{Column, Row, Type, Value};
use pgherd_protocol::session::Views;
use pgherd_protocol::statement::PoolView;

use super::is_console;
use crate::shared::Shared;
use crate::worker::Worker;

/// One view.
pub(crate) struct View {
    /// What is shown, in small letters.
    pub(crate) name: &'static str,
    columns: &'static [Column],
    /// So many at the end are none of PgBouncer's. They are not shown in its database, since there are tools that go by places.
    own: usize,
    rows: fn(&Scene<'_>) -> Vec<Row>,
}

/// Whom and when something is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    /// What all workers share.
    pub(crate) shared: &'a Shared,
    /// Connections of clients, logged in or not.
    pub(crate) connections: usize,
    /// The console's database.
    pub(crate) database: &'a str,
    /// Whether texts of others may be shown.
    pub(crate) is_admin: bool,
}

/// All views, by their names.
static VIEWS: &[View] = &[
    view("active_sockets", sockets::SOCKETS, 0, sockets::active_sockets),
    view("clients", sockets::CLIENTS, 1, sockets::clients),
    view("config", settings::CONFIG, 0, settings::config),
    view("databases", settings::DATABASES, 0, settings::databases),
    view("dns_hosts", settings::DNS_HOSTS, 0, none),
    view("dns_zones", settings::DNS_ZONES, 0, none),
    view("events", herd::EVENTS, 0, herd::events),
    view("failover", herd::FAILOVER, 0, herd::failover),
    view("fds", settings::FDS, 0, none),
    view("lists", settings::LISTS, 0, settings::lists),
    view("mem", settings::MEM, 0, settings::mem),
    view("peer_pools", settings::PEER_POOLS, 0, none),
    view("peers", settings::PEERS, 0, none),
    view("pins", sockets::PINS, 0, sockets::pins),
    view("pool_backend_stats", pgpool::BACKEND_STATS, 0, pgpool::backend_stats),
    view("pool_cache", pgpool::CACHE, 0, pgpool::cache),
    view("pool_health_check_stats", pgpool::HEALTH_CHECK_STATS, 0, pgpool::health_check_stats),
    view("pool_nodes", pgpool::NODES, 0, pgpool::nodes),
    view("pool_pools", pgpool::POOLS, 0, pgpool::pools),
    view("pool_processes", pgpool::PROCESSES, 0, pgpool::processes),
    view("pool_status", pgpool::STATUS, 0, pgpool::status),
    view("pool_version", pgpool::VERSION, 0, pgpool::version),
    view("pools", pools::POOLS, 1, pools::pools),
    view("prepared", herd::PREPARED, 0, herd::prepared),
    view("routing", routing::ROUTING, 0, routing::routing),
    view("servers", sockets::SERVERS, 0, sockets::servers),
    view("sockets", sockets::SOCKETS, 0, sockets::sockets),
    view("state", settings::STATE, 0, settings::state),
    view("stats", stats::STATS, 0, stats::stats),
    view("stats_averages", stats::AVERAGES, 0, stats::averages),
    view("stats_totals", stats::TOTALS_BY_DATABASE, 0, stats::totals_by_database),
    view("topology", herd::TOPOLOGY, 0, herd::topology),
    view("totals", stats::TOTALS, 0, stats::totals),
    view("users", settings::USERS, 0, settings::users),
    view("version", settings::VERSION, 0, settings::version),
];

const fn view(
    name: &'static str,
    columns: &'static [Column],
    own: usize,
    rows: fn(&Scene<'_>) -> Vec<Row>,
) -> View {
    View { name, columns, own, rows }
}

/// The view of this name.
pub(crate) fn find(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|view| view.name == name)
}

/// All names, for SHOW HELP.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    VIEWS.iter().map(|view| view.name)
}

impl View {
    /// Its columns in this database of the console.
    pub(crate) fn columns(&self, database: &str) -> &'static [Column] {
        let own = if database == "pgbouncer" { self.own } else { 0 };
        self.columns.get(..self.columns.len() - own).unwrap_or_default()
    }

    /// What it shows now; there may be more values in a row than columns.
    pub(crate) fn rows(&self, scene: &Scene<'_>) -> Vec<Row> {
        (self.rows)(scene)
    }
}

/// What clients of ordinary databases may ask pgherd itself: pgpool's commands.
impl Views for Worker {
    fn columns(&self, view: PoolView) -> &'static [Column] {
        match view {
            PoolView::Parameter(parameter) => parameter.columns(),
            view => find(view.name()).map_or(&[], |view| view.columns),
        }
    }

    fn rows(&self, view: PoolView) -> Vec<Row> {
        if let PoolView::Parameter(parameter) = view {
            return vec![vec![pgpool_parameters::value(parameter, &self.shared.config.load()).into()]];
        }
        let scene = Scene {
            shared: &self.shared,
            connections: self.connections(),
            database: "pgherd",
            is_admin: false,
        };
        find(view.name()).map(|view| view.rows(&scene)).unwrap_or_default()
    }
}

impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Scene<'_> {
    const fn shared(&self) -> &Shared {
        self.shared
    }

    /// A moment that was so many microseconds after the epoch of the event loops, as PgBouncer writes it.
    fn time_of(&self, micros: u64) -> String {
        let ago = crate::reactor::micros().saturating_sub(micros);
        show_time(SystemTime::now() - Duration::from_micros(ago))
    }

    /// All databases that there is something to say of, but for the console's.
    fn databases(&self) -> BTreeSet<Box<str>> {
        let shared = self.shared();
        let config = shared.config.load();
        let known = shared.traffic.known().into_iter().map(|(database, _)| database);
        let named = config.pool.overrides.iter().filter_map(|it| it.database.as_deref().map(Box::from));
        let all = known.chain(named).chain(shared.backends.gates.named());
        all.filter(|database| !is_console(database)).collect()
    }
}

/// As PgBouncer writes it: `2026-11-29 08:45:48 UTC`.
fn show_time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', " UTC")
}

/// The same of a moment of the monotonic clock.
fn show_instant(instant: Instant) -> String {
    show_time(SystemTime::now() - instant.elapsed())
}

fn none(_: &Scene<'_>) -> Vec<Row> {
    Vec::new()
}

const fn text(name: &'static str) -> Column {
    Column::new(name, Type::Text)
}

const fn int(name: &'static str) -> Column {
    Column::new(name, Type::Int4)
}

const fn big(name: &'static str) -> Column {
    Column::new(name, Type::Int8)
}

const fn numeric(name: &'static str) -> Column {
    Column::new(name, Type::Numeric)
}

const fn bytes(name: &'static str) -> Column {
    Column::new(name, Type::Bytea)
}

const fn number(number: i64) -> Value {
    Value::Number(number)
}
