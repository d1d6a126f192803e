//! The servers, as they were seen last, and what is decided about them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pgherd_failover::{StateName, Status};
use pgherd_health::{Lsn, Member, Node};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::family::{Family, Subject, encode as encode_all};
use super::{flag, float};
use crate::server::marks::Lag;
use crate::server::table::{Table, Target};
use crate::shared::Shared;

pub(super) fn encode(shared: &Shared, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let topology = Arc::clone(&shared.control.topology.borrow());
    let table = shared.backends.load();
    let nodes = Arc::clone(&shared.control.routing.borrow().nodes);
    let head = topology.leadership.primary().and_then(|id| topology.member(id)).and_then(Member::furthest);
    let positions = shared.backends.positions();
    let servers: Vec<_> = nodes
        .iter()
        .map(|node| {
            let (lag, round_trip) = (positions.lag(node.id), shared.backends.round_trip(node.id));
            Server::new(node, topology.member(node.id), &table, (head, lag), round_trip)
        })
        .collect();
    encode_all(&of_servers(), &servers, encoder)?;
    let probes: Vec<_> = servers.iter().flat_map(|server| server.probes(shared)).collect();
    let count =
        Family::counter("probes", "Probes by how they ended", |it: &Ended<'_>| Some(it.probes as f64));
    encode_all(&[count], &probes, encoder)?;

    let status = Arc::clone(&shared.control.status.borrow());
    let state = |name: StateName| State { name: name.to_string(), is_current: name == status.state };
    let is_current =
        Family::gauge("failover_state", "1 for the state of the failover machine", |it: &State| {
            Some(flag(it.is_current))
        });
    encode_all(&[is_current], &StateName::ALL.map(state), encoder)?;
    let events_lost = shared.control.chronicle.borrow().events_lost;
    encode_all(&of_the_failover(), &[Failover { status: &status, table: &table, events_lost }], encoder)
}

struct Server<'a> {
    node: &'a Node,
    id: String,
    port: String,
    member: Option<&'a Member>,
    takes_writes: bool,
    is_readable: bool,
    /// How far the primary's WAL is.
    head: Option<Lsn>,
    connections_lent: Option<usize>,
    /// How far its replay is behind.
    lag: Option<Lag>,
    round_trip: Option<Duration>,
}

impl<'a> Server<'a> {
    fn new(
        node: &'a Node,
        member: Option<&'a Member>,
        table: &Table,
        (head, lag): (Option<Lsn>, Option<Lag>),
        round_trip: Option<Duration>,
    ) -> Self {
        Self {
            node,
            id: node.id.to_string(),
            port: node.port.to_string(),
            member,
            takes_writes: matches!(&table.writes, Target::Open(server) if server.node.id == node.id),
            is_readable: table.readable.iter().any(|server| server.node.id == node.id),
            connections_lent: table
                .servers()
                .find(|server| server.node.id == node.id)
                .map(|it| it.connections_lent()),
            head,
            lag,
            round_trip,
        }
    }
}

impl Server<'_> {
    fn probes(&self, shared: &Shared) -> impl Iterator<Item = Ended<'_>> {
        let counts = shared.probes.of(self.node.id).into_iter();
        counts.map(move |(result, probes)| Ended { server: self, result, probes })
    }
}

/// Probes of a server that ended in the same way.
struct Ended<'a> {
    server: &'a Server<'a>,
    result: &'static str,
    probes: u64,
}

impl Subject for Ended<'_> {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        self.server.labels().into_iter().chain([("result", self.result)]).collect()
    }
}

impl Subject for Server<'_> {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        vec![("node", &self.id), ("host", &self.node.host), ("port", &self.port)]
    }
}

fn of_servers<'a>() -> [Family<Server<'a>>; 10] {
    [
        Family::gauge("server_up", "1 if the server answers", |server| {
            Some(flag(server.member.is_some_and(Member::is_alive)))
        }),
        Family::gauge("server_takes_writes", "1 if writes go there", |server| {
            Some(flag(server.takes_writes))
        }),
        Family::gauge("server_readable", "1 if it is a standby that may be read", |server| {
            Some(flag(server.is_readable))
        }),
        Family::gauge("server_connections_lent", "Connections to it that are lent", |server| {
            server.connections_lent.map(float)
        }),
        Family::gauge_in(Unit::Bytes, "server_lag", "How far its WAL is behind the primary's", |server| {
            Some(server.head?.bytes_since(server.member?.furthest()?) as f64)
        }),
        Family::gauge_in(
            Unit::Bytes,
            "standby_replay_lag",
            "What the standby had not replayed of what the primary had written when it was asked last",
            |server| Some(server.lag?.bytes as f64),
        ),
        Family::gauge_in(
            Unit::Seconds,
            "standby_replay_lag",
            "For how long the standby had lacked something then",
            |server| Some(server.lag?.time.as_secs_f64()),
        ),
        Family::gauge_in(
            Unit::Seconds,
            "server_round_trip",
            "How long the shortest of its last eight probes took",
            |server| Some(server.round_trip?.as_secs_f64()),
        ),
        Family::gauge(
            "server_discovered",
            "1 if it is not configured, but registered with repmgr",
            |server| Some(flag(server.node.discovered.is_some())),
        ),
        Family::gauge("server_timeline", "The timeline that it is on", |server| {
            Some(f64::from(server.member?.report()?.timeline.0))
        }),
    ]
}

struct State {
    name: String,
    is_current: bool,
}

impl Subject for State {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        vec![("state", &self.name)]
    }
}

struct Failover<'a> {
    status: &'a Status,
    table: &'a Table,
    events_lost: u64,
}

impl Subject for Failover<'_> {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

fn of_the_failover<'a>() -> [Family<Failover<'a>>; 5] {
    [
        Family::gauge("writes_open", "1 if writes are served; 0 while they wait for a primary", |it| {
            Some(flag(matches!(it.table.writes, Target::Open(_))))
        }),
        Family::gauge("failover_timeline", "The timeline that is served; 0 if there is none", |it| {
            Some(it.status.epoch.map_or(0.0, |epoch| f64::from(epoch.timeline.0)))
        }),
        Family::gauge("failover_decides", "1 if it is this pgherd that acts on the servers", |it| {
            Some(flag(it.status.decides))
        }),
        Family::counter(
            "events_lost",
            "Events that could not be written to repmgr's table of events",
            |it| Some(it.events_lost as f64),
        ),
        Family::gauge("failover_warnings", "Things that are wrong but stop nothing", |it| {
            Some(float(it.status.warnings.len()))
        }),
    ]
}
