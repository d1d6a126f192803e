//! Which of several pgherds acts, and which timeline is too old to be served: what a lock service says, and what follows from it.

use std::fmt;
use std::time::Instant;

use pgherd_health::{MemberState, Node, NodeId, TimelineId};

use crate::Machine;
use crate::state::State;

/// Who may act on the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is no lock service: this is the only pgherd.
    Alone,
    /// The lock service has not been asked yet.
    Unknown,
    /// This pgherd, as long as its lease lasts.
    Held {
        /// The end of the lease if it is not renewed.
        until: Instant,
    },
    /// Another.
    Other(String),
    /// Nobody at present.
    Nobody,
    /// It cannot be told: the lock service does not answer.
    Unreachable {
        /// Why.
        why: String,
        /// The end of the lease that was held when it answered last.
        until: Option<Instant>,
    },
}

impl Claim {
    /// The end of the lease; none if it is not held.
    #[must_use]
    pub const fn until(&self) -> Option<Instant> {
        match self {
            Self::Held { until } => Some(*until),
            Self::Unreachable { until, .. } => *until,
            _ => None,
        }
    }

    /// Why this pgherd may not act at `now`; none if it may.
    #[must_use]
    pub fn objection(&self, now: Instant) -> Option<String> {
        match self {
            Self::Alone => None,
            Self::Held { until } if now < *until => None,
            Self::Held { .. } => Some("the lease in etcd has run out".to_owned()),
            // Each command is preceded by a look of its own: that fails as long as there is no answer.
            Self::Unreachable { until: Some(until), .. } if now < *until => None,
            other => Some(other.to_string()),
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => f.write_str("this pgherd decides"),
            Self::Unknown => f.write_str("etcd has not been asked yet who decides"),
            Self::Held { .. } => f.write_str("this pgherd decides: it holds the lease in etcd"),
            Self::Other(holder) => write!(f, "another pgherd decides: {holder} holds the lease in etcd"),
            Self::Nobody => f.write_str("nobody holds the lease in etcd"),
            Self::Unreachable { why, .. } => {
                write!(f, "etcd does not answer, and so nothing is done to the servers: {why}")
            }
        }
    }
}

/// What the lock service says of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// Who may act.
    pub claim: Claim,
    /// The cluster that it is about; none before it is known.
    pub cluster: Option<u64>,
    /// The timeline that was served last, by whichever pgherd: an older one is not served any more.
    pub floor: Option<TimelineId>,
    /// Who was told to promote last, unless it was seen since that this came to nothing.
    pub candidate: Option<Candidate>,
    /// It was this pgherd that did so, and knows what became of it.
    pub own_candidate: bool,
}

/// A server that is told to promote, written down beforehand: if all that have seen it are lost, it is still known who may have a
/// timeline of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The timeline from which its own would grow.
    pub parent: TimelineId,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.parent.0, self.port, self.host)
    }
}

impl Candidate {
    /// As [`fmt::Display`] writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let parent = TimelineId(parts.next()?.parse().ok()?);
        let port = parts.next()?.parse().ok()?;
        Some(Self { host: parts.next()?.to_owned(), port, parent })
    }
}

impl Ruling {
    /// Without a lock service.
    #[must_use]
    pub const fn alone() -> Self {
        Self::bare(Claim::Alone)
    }

    /// The same if it is about this cluster, else nothing.
    pub(crate) fn of(self, cluster: Option<u64>) -> Self {
        if self.cluster == cluster { self } else { Self::unknown() }
    }

    /// Before it was asked.
    #[must_use]
    pub const fn unknown() -> Self {
        Self::bare(Claim::Unknown)
    }

    const fn bare(claim: Claim) -> Self {
        Self { claim, cluster: None, floor: None, candidate: None, own_candidate: false }
    }
}

/// What is served, for all pgherds to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The cluster.
    pub system_identifier: u64,
    /// Its timeline.
    pub timeline: TimelineId,
    /// An operator chose it: it counts although a higher one was served before.
    pub chosen: bool,
    /// Who was told to promote last is a standby beside it: that can be forgotten.
    pub settled: bool,
}

impl Machine {
    /// Takes in what the lock service says.
    pub fn set_ruling(&mut self, ruling: Ruling) {
        self.ruling = ruling;
    }

    /// Why nothing may be done to the servers at `now`; none if it may.
    pub(crate) fn objection(&self, now: Instant) -> Option<String> {
        if self.aside {
            return Some("another pgherd decides".to_owned());
        }
        self.ruling.claim.objection(now)
    }

    /// What is served, to be told to the lock service.
    #[must_use]
    pub fn served(&self) -> Option<Served> {
        let epoch = self.state.epoch()?;
        let chosen = self.knowledge.trusted() == Some(epoch.primary);
        let steady = matches!(self.state, State::Steady { .. });
        let settled = steady && self.candidate_state() == Some(&MemberState::Standby);
        Some(Served { system_identifier: epoch.system_identifier, timeline: epoch.timeline, chosen, settled })
    }

    /// Who acts on the servers, in words.
    pub(crate) fn decider(&self) -> String {
        if self.aside { "another pgherd decides".to_owned() } else { self.ruling.claim.to_string() }
    }

    /// The same, if it is not this pgherd.
    pub(crate) fn looks_on(&self) -> Option<String> {
        let acts = !self.aside && matches!(self.ruling.claim, Claim::Alone | Claim::Held { .. });
        (!acts).then(|| self.decider())
    }

    /// The same, if that is not as it should be: that another holds the lease is no trouble.
    pub(crate) fn undecided(&self) -> Option<String> {
        let well = matches!(self.ruling.claim, Claim::Alone | Claim::Held { .. } | Claim::Other(_));
        (self.aside || !well).then(|| self.decider())
    }

    /// The timeline that was served last, as the lock service knows it.
    pub(crate) fn floor(&self) -> Option<TimelineId> {
        let ours = self.topology.system_identifier.as_ref().ok().copied().flatten();
        self.ruling.floor.filter(|_| ours.is_some() && self.ruling.cluster == ours)
    }

    /// The cluster whose servers these are, once that is settled.
    #[must_use]
    pub fn cluster(&self) -> Option<u64> {
        pgherd_health::settled(&self.knowledge)
            .or_else(|| self.topology.system_identifier.as_ref().ok().copied().flatten())
    }

    /// What the lock service has against serving `node`, which is on this timeline.
    pub(crate) fn outdated(&self, node: NodeId) -> Option<String> {
        let epoch = self.epoch_of(node)?;
        let chosen = self.knowledge.trusted() == Some(node);
        let floor = self.floor()?;
        (epoch.timeline < floor && !chosen).then(|| {
            format!(
                "node {node} is on timeline {}, and etcd knows that timeline {} was served: an operator may accept the timeline of node {node}",
                epoch.timeline.0, floor.0
            )
        })
    }

    /// What is written down before `node` is told to promote.
    #[must_use]
    pub fn candidacy(&self, node: NodeId) -> Option<Candidate> {
        let of = self.knowledge.nodes().iter().find(|it| it.id == node)?;
        let parent = self.topology.member(node)?.branch()?.timeline;
        Some(Candidate { host: of.host.clone(), port: of.port, parent })
    }

    /// What is seen of the server that was told to promote last.
    fn candidate_state(&self) -> Option<&MemberState> {
        let candidate = self.ruling.candidate.as_ref()?;
        let is_it = |node: &&Node| node.is_at(&candidate.host, candidate.port);
        let node = self.knowledge.nodes().iter().find(is_it)?.id;
        self.topology.member(node).map(|member| &member.state)
    }

    /// Why nobody may be promoted from this timeline, or newly served on it: another pgherd has told a server to promote that cannot
    /// be asked whether it did.
    pub(crate) fn unaccounted(&self, timeline: TimelineId) -> Option<String> {
        let candidate = self.ruling.candidate.as_ref().filter(|it| timeline <= it.parent)?;
        let later = self.floor().is_some_and(|floor| floor > candidate.parent);
        let answers =
            matches!(self.candidate_state(), None | Some(MemberState::Primary | MemberState::Standby));
        (!later && !answers && !self.ruling.own_candidate).then(|| {
            let Candidate { host, port, .. } = candidate;
            format!("{host}:{port} does not answer, which another pgherd has told to promote")
        })
    }

    /// The lock service has yet to say whether a later timeline was served.
    pub(crate) fn awaits_ruling(&self) -> bool {
        self.ruling.claim == Claim::Unknown
    }
}
