//! Patroni's health checks, with its paths, its status codes and its words: what balancers and orchestrators are set up for.
//!
//! Patroni stands beside one server and answers for that. pgherd knows all: without `server` it answers for its own endpoint, with it
//! for that one.

use std::fmt;
use std::sync::Arc;

use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use pgherd_failover::Status;
use pgherd_health::{Lsn, Member, MemberState, Node, NodeId, Position, Topology};
use serde_json::{Value as Json, json};

use crate::naming;
use crate::server::table::{Table, Target};
use crate::shared::Shared;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Do writes go there?
    Primary,
    /// Is it a standby that may be read?
    Replica,
    /// One of both?
    ReadOnly,
    /// A standby that commits wait for?
    Synchronous,
    /// A standby that they do not wait for?
    Asynchronous,
    /// Does PostgreSQL answer?
    Health,
    /// May clients use it?
    Readiness,
    /// Does pgherd answer?
    Liveness,
    /// How is it?
    State,
    /// How are all?
    Cluster,
}

/// Every path, with what it asks.
pub(super) const PATHS: &[(&str, Question)] = &[
    ("/", Question::Primary),
    ("/primary", Question::Primary),
    ("/leader", Question::Primary),
    ("/master", Question::Primary),
    ("/read-write", Question::Primary),
    ("/replica", Question::Replica),
    ("/read-only", Question::ReadOnly),
    ("/synchronous", Question::Synchronous),
    ("/sync", Question::Synchronous),
    ("/asynchronous", Question::Asynchronous),
    ("/async", Question::Asynchronous),
    ("/health", Question::Health),
    ("/readiness", Question::Readiness),
    ("/liveness", Question::Liveness),
    ("/patroni", Question::State),
    ("/cluster", Question::Cluster),
];

/// Answers a question. `draining`: nobody is let in any more.
pub(super) fn answer(
    shared: &Shared,
    draining: bool,
    question: Question,
    (method, uri): (&Method, &Uri),
) -> Response {
    let (status, body) = match Query::of(uri.query().unwrap_or_default()) {
        Ok(query) => Herd::seen(shared, draining).answer(question, &query),
        Err(why) => (StatusCode::BAD_REQUEST, json!({ "error": why })),
    };
    if *method == Method::OPTIONS {
        return status.into_response();
    }
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// What stands behind the question mark.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    server: Option<String>,
    /// Bytes that a standby may be behind.
    lag: Option<u64>,
}

impl Query {
    /// Parameters that are not known are no concern of pgherd's.
    fn of(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or_else(|| format!("{name} is not written as in an address"))?;
            match name {
                "server" => query.server = Some(value),
                "lag" => query.lag = Some(size(&value).ok_or_else(|| format!("lag is no size: {value}"))?),
                _ => {}
            }
        }
        Ok(query)
    }
}

/// A value with its percent signs resolved.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        bytes.push(match first {
            b'%' => {
                let (digits, more) = rest.split_first_chunk::<2>()?;
                rest = more;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            b'+' => b' ',
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A size as Patroni takes it: bytes, or a number with a unit of PostgreSQL's.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..)? {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// The herd at this moment.
struct Herd {
    topology: Arc<Topology>,
    status: Arc<Status>,
    table: Arc<Table>,
    nodes: Arc<Vec<Node>>,
    draining: bool,
}

impl Herd {
    fn seen(shared: &Shared, draining: bool) -> Self {
        Self {
            topology: Arc::clone(&shared.control.topology.borrow()),
            status: Arc::clone(&shared.control.status.borrow()),
            nodes: Arc::clone(&shared.control.routing.borrow().nodes),
            table: Arc::clone(&shared.backends.load()),
            draining,
        }
    }

    fn answer(&self, question: Question, query: &Query) -> (StatusCode, Json) {
        if question == Question::Cluster {
            return (StatusCode::OK, self.cluster());
        }
        let node = match &query.server {
            None => None,
            Some(name) => match naming::server(&self.nodes, &self.topology, name) {
                Ok(node) => Some(node),
                Err(why) => return (StatusCode::NOT_FOUND, json!({ "error": why })),
            },
        };
        let holds = match node {
            Some(node) => self.holds(question, node, query),
            // Whoever is not let in can use none of them.
            None if self.draining => matches!(question, Question::Liveness | Question::State),
            None => self.nodes.iter().any(|it| self.holds(question, it.id, query)),
        };
        let status = if holds { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let shown = node.or_else(|| self.shown(question));
        (status, shown.map_or_else(|| self.without_primary(), |node| self.state(node)))
    }

    fn holds(&self, question: Question, node: NodeId, query: &Query) -> bool {
        let takes_writes = self.primary() == Some(node);
        let near = query.lag.is_none_or(|most| self.lag(node).is_some_and(|lag| lag <= most));
        let is_read = near && self.table.readable.iter().any(|server| server.node.id == node);
        match question {
            Question::Primary => takes_writes,
            Question::Replica => is_read,
            Question::ReadOnly | Question::Readiness => takes_writes || is_read,
            Question::Synchronous => is_read && self.is_waited_for(node),
            Question::Asynchronous => is_read && !self.is_waited_for(node),
            Question::Health => self.topology.member(node).is_some_and(Member::is_alive),
            Question::Liveness | Question::State | Question::Cluster => true,
        }
    }

    /// The server that is described where none was named: one that the answer is about.
    fn shown(&self, question: Question) -> Option<NodeId> {
        let reads = matches!(question, Question::Replica | Question::Synchronous | Question::Asynchronous);
        let standby =
            || self.nodes.iter().map(|it| it.id).find(|it| self.holds(question, *it, &Query::default()));
        if reads { standby() } else { self.primary() }
    }

    fn primary(&self) -> Option<NodeId> {
        match &self.table.writes {
            Target::Open(server) => Some(server.node.id),
            Target::Held { .. } => None,
        }
    }

    /// Where the primary's WAL ends, as it was last seen.
    fn head(&self) -> Option<Lsn> {
        self.topology.member(self.topology.leadership.primary()?)?.furthest()
    }

    /// How far a server is behind; not known without a primary.
    fn lag(&self, node: NodeId) -> Option<u64> {
        Some(self.head()?.bytes_since(self.topology.member(node)?.furthest()?))
    }

    /// Commits wait for this standby.
    fn is_waited_for(&self, node: NodeId) -> bool {
        self.sync_state(node).is_some_and(|state| matches!(state, "sync" | "quorum"))
    }

    fn sync_state(&self, node: NodeId) -> Option<&str> {
        let name = &self.topology.member(node)?.repmgr.as_ref()?.node_name;
        let primary = self.topology.member(self.topology.leadership.primary()?)?;
        primary.senders().find(|it| it.application_name == *name).map(|it| it.sync_state.as_str())
    }

    /// One server, as Patroni describes its own.
    fn state(&self, node: NodeId) -> Json {
        let Some(member) = self.topology.member(node) else { return json!({ "state": "unknown" }) };
        let mut shown = json!({
            "state": state(member),
            "role": self.role(member),
            "patroni": { "version": env!("CARGO_PKG_VERSION"), "scope": self.scope(), "name": self.name(node) },
            "pgherd": { "node": node.0, "state": self.status.state.to_string(), "reason": self.status.reason },
        });
        let report = member.report();
        let mut add = |name: &str, value: Json| {
            if let Some(fields) = shown.as_object_mut() {
                fields.insert(name.to_owned(), value);
            }
        };
        if let Some(report) = report {
            add("timeline", json!(report.timeline.0));
            add("database_system_identifier", json!(report.system_identifier.to_string()));
            add("xlog", positions(&report.position));
        }
        if member.senders().next().is_some() {
            add("replication", member.senders().map(sender).collect());
        }
        if self.status.paused {
            add("pause", json!(true));
        }
        if self.primary().is_none() {
            add("cluster_unlocked", json!(true));
        }
        shown
    }

    fn without_primary(&self) -> Json {
        json!({
            "state": "unknown",
            "role": "unknown",
            "patroni": { "version": env!("CARGO_PKG_VERSION"), "scope": self.scope() },
            "pgherd": { "state": self.status.state.to_string(), "reason": self.status.reason },
            "cluster_unlocked": true,
        })
    }

    fn cluster(&self) -> Json {
        let member = |node: &Node| {
            let seen = self.topology.member(node.id);
            let role = match seen.map(|member| self.role(member)) {
                Some("primary") => "leader",
                Some("replica") if self.sync_state(node.id) == Some("sync") => "sync_standby",
                Some("replica") if self.sync_state(node.id) == Some("quorum") => "quorum_standby",
                Some(_) | None => "replica",
            };
            let mut shown = json!({
                "name": self.name(node.id),
                "role": role,
                "state": seen.map_or("unknown", |it| if streams(it) { "streaming" } else { state(it) }),
                "host": node.host,
                "port": node.port,
            });
            if let Some(fields) = shown.as_object_mut() {
                if let Some(report) = seen.and_then(Member::report) {
                    fields.insert("timeline".to_owned(), json!(report.timeline.0));
                }
                if role != "leader" {
                    let lag = self.lag(node.id).map_or_else(|| json!("unknown"), |lag| json!(lag));
                    fields.insert("lag".to_owned(), lag);
                }
            }
            shown
        };
        let mut shown =
            json!({ "members": self.nodes.iter().map(member).collect::<Vec<_>>(), "scope": self.scope() });
        if let Some(fields) = shown.as_object_mut().filter(|_| self.status.paused) {
            fields.insert("pause".to_owned(), json!(true));
        }
        shown
    }

    /// What the herd is called: by its system identifier, since it has no other name.
    fn scope(&self) -> String {
        let known = self.topology.system_identifier.as_ref().ok().copied().flatten();
        known.map_or_else(|| "unknown".to_owned(), |it| it.to_string())
    }

    fn name(&self, node: NodeId) -> String {
        let row = self.topology.member(node).and_then(|member| member.repmgr.as_ref());
        row.map_or_else(|| node.to_string(), |row| row.node_name.clone())
    }

    /// Only who takes writes is a primary, whatever another says of itself.
    fn role(&self, member: &Member) -> &'static str {
        if self.primary() == Some(member.node) { "primary" } else { "replica" }
    }
}

fn state(member: &Member) -> &'static str {
    match member.state {
        MemberState::Primary | MemberState::Standby | MemberState::Unwilling { .. } => "running",
        MemberState::StartingUp => "starting",
        MemberState::ShuttingDown => "stopping",
        MemberState::Refused => "stopped",
        MemberState::Unknown | MemberState::TimedOut | MemberState::Foreign { .. } => "unknown",
    }
}

fn streams(member: &Member) -> bool {
    member.receiving.as_ref().is_some_and(|receiving| receiving.status == "streaming" && receiving.fresh)
}

fn positions(position: &Position) -> Json {
    match position {
        Position::Primary { flush, .. } => json!({ "location": flush.0 }),
        Position::Standby { receive, replay, replay_paused, .. } => json!({
            "received_location": receive.map(|lsn| lsn.0),
            "replayed_location": replay.map(|lsn| lsn.0),
            "paused": replay_paused,
        }),
    }
}

fn sender(sender: &pgherd_health::WalSender) -> Json {
    json!({
        "application_name": sender.application_name,
        "state": sender.state,
        "sync_state": sender.sync_state,
    })
}

impl fmt::Debug for Herd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Herd")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_patroni_reads_it() {
        let of = |text: &str| Query::of(text);
        let server = |name: &str, lag| Ok(Query { server: Some(name.to_owned()), lag });
        assert_eq!(of(""), Ok(Query::default()));
        assert_eq!(of("server=pg-1.example%3A5432&x=y"), server("pg-1.example:5432", None));
        assert_eq!(of("lag=1MB&server=2"), server("2", Some(1 << 20)));
        assert_eq!(of("lag=16kB").unwrap().lag, Some(16 << 10));
        assert_eq!(of("lag=1048576").unwrap().lag, Some(1 << 20));
        for wrong in ["lag=", "lag=much", "lag=1mb", "lag=-1", "lag=99999999999TB", "server=%4", "server=%zz"]
        {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
