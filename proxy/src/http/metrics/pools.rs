//! Clients and connections of each database and user, and what was done for them.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::durations;
use super::family::{Family, Subject, encode as encode_all};
use super::{float, seconds};
use crate::server::table::DatabaseAndUser;
use crate::shared::Shared;
use crate::survey::{self, PoolSurvey};
use crate::traffic::{Counter, Reason, Sums};

pub(super) fn encode(shared: &Shared, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let now = u64::try_from(shared.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
    let config = shared.config.load();
    let pool = |(names, survey): (DatabaseAndUser, PoolSurvey)| Pool {
        size: config.pool.sizes_for(&names.0, &names.1).size,
        pinned_size: config.pool.pinned_size,
        names,
        survey,
    };
    let pools: Vec<_> = survey::pools(shared, now).into_iter().map(pool).collect();
    encode_all(&sizes(), &pools, encoder)?;
    let pinned: Vec<_> = pools.iter().flat_map(Pool::pinned).collect();
    let count = Family::gauge(
        "pool_pinned",
        "Sessions that keep their server connection, by why they do",
        |it: &Pinned<'_>| Some(float(it.sessions)),
    );
    encode_all(&[count], &pinned, encoder)?;
    let sums = shared.traffic.by_pool();
    durations::encode(shared, &sums, encoder)?;
    let traffic: Vec<_> = sums.into_iter().map(|(names, sums)| Traffic { names, sums }).collect();
    encode_all(&counters(), &traffic, encoder)?;
    let routed = shared.traffic.routed().into_iter();
    let routed: Vec<_> = routed.map(|(names, reason, queries)| Routed { names, reason, queries }).collect();
    let count = Family::counter("queries_routed", "Queries by where they ran, and why", |it: &Routed| {
        Some(it.queries as f64)
    });
    encode_all(&[count], &routed, encoder)
}

struct Pool {
    names: DatabaseAndUser,
    survey: PoolSurvey,
    size: usize,
    pinned_size: usize,
}

impl Pool {
    fn pinned(&self) -> impl Iterator<Item = Pinned<'_>> {
        let Self { names, survey, .. } = self;
        survey.pinned.iter().map(move |(reason, &sessions)| Pinned { names, reason, sessions })
    }
}

impl Subject for Pool {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        named(&self.names)
    }
}

/// Sessions of a pool that keep their connections for the same reason.
struct Pinned<'a> {
    names: &'a DatabaseAndUser,
    reason: &'a str,
    sessions: usize,
}

impl Subject for Pinned<'_> {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        named(self.names).into_iter().chain([("reason", self.reason)]).collect()
    }
}

/// Queries that ran somewhere for the same reason.
struct Routed {
    names: DatabaseAndUser,
    reason: Reason,
    queries: u64,
}

impl Subject for Routed {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        let why = [("runs_on", self.reason.runs_on()), ("reason", self.reason.word())];
        named(&self.names).into_iter().chain(why).collect()
    }
}

struct Traffic {
    names: DatabaseAndUser,
    sums: Sums,
}

impl Traffic {
    fn count(&self, counter: Counter) -> Option<f64> {
        Some(self.sums.of(counter) as f64)
    }

    fn time(&self, counter: Counter) -> Option<f64> {
        Some(seconds(self.sums.of(counter)))
    }
}

impl Subject for Traffic {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        named(&self.names)
    }
}

fn named((database, user): &DatabaseAndUser) -> Vec<(&'static str, &str)> {
    vec![("database", database), ("user", user)]
}

fn sizes() -> [Family<Pool>; 9] {
    [
        Family::gauge("pool_clients_active", "Clients that wait for no server connection", |pool| {
            Some(float(pool.survey.clients))
        }),
        Family::gauge("pool_clients_waiting", "Clients that wait for a server connection", |pool| {
            Some(float(pool.survey.waiting))
        }),
        Family::gauge_in(
            Unit::Seconds,
            "pool_longest_wait",
            "How long the client has waited that waits longest",
            |pool| Some(seconds(pool.survey.longest)),
        ),
        Family::gauge("pool_servers_active", "Server connections that clients have", |pool| {
            Some(float(pool.survey.active))
        }),
        Family::gauge("pool_servers_idle", "Server connections that nobody has", |pool| {
            Some(float(pool.survey.idle))
        }),
        Family::gauge(
            "pool_servers_being_cancelled",
            "Server connections that a cancel request is on its way to",
            |pool| Some(float(pool.survey.being_cancelled)),
        ),
        Family::gauge("pool_servers_opening", "Server connections that are being opened", |pool| {
            Some(float(pool.survey.opening))
        }),
        Family::gauge("pool_size", "The most server connections per server: pool.size", |pool| {
            Some(float(pool.size))
        }),
        Family::gauge(
            "pool_pinned_size",
            "The most connections besides, per server, for pinned sessions: pool.pinned_size",
            |pool| Some(float(pool.pinned_size)),
        ),
    ]
}

fn counters() -> [Family<Traffic>; 11] {
    [
        Family::counter("transactions", "Transactions", |it| it.count(Counter::Transactions)),
        Family::counter("queries", "Queries: what ends with ReadyForQuery", |it| it.count(Counter::Queries)),
        Family::counter("assignments", "Server connections that were lent", |it| {
            it.count(Counter::Assignments)
        }),
        Family::counter("client_parses", "Parse messages of clients", |it| it.count(Counter::ClientParses)),
        Family::counter("server_parses", "Parse messages to servers", |it| it.count(Counter::ServerParses)),
        Family::counter("binds", "Bind messages", |it| it.count(Counter::Binds)),
        Family::counter_in(Unit::Bytes, "received", "What came from clients", |it| {
            it.count(Counter::Received)
        }),
        Family::counter_in(Unit::Bytes, "sent", "What came from servers", |it| it.count(Counter::Sent)),
        Family::counter_in(Unit::Seconds, "transaction", "Time in transactions", |it| {
            it.time(Counter::TransactionTime)
        }),
        Family::counter_in(Unit::Seconds, "query", "Time in which servers worked", |it| {
            it.time(Counter::QueryTime)
        }),
        Family::counter_in(Unit::Seconds, "wait", "Time that clients waited for server connections", |it| {
            it.time(Counter::WaitTime)
        }),
    ]
}
