//! One server of the herd as the topology shows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::knowledge::{Contact, Dated, Seen};
use crate::topology::silence_allowed;
use crate::{Branch, Knowledge, Lsn, Node, NodeId, Position, RepmgrNode, Report, Standing, WalReceiver};

/// What a server is, by its last probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// No probe of it has ended yet.
    Unknown,
    /// It accepts writes.
    Primary,
    /// It is in recovery.
    Standby,
    /// Nobody listens there.
    Refused,
    /// It starts, or recovers from a crash.
    StartingUp,
    /// It is being stopped.
    ShuttingDown,
    /// Alive, but it lets nobody in: never a reason to suspect it.
    Unwilling {
        /// SQLSTATE of the refusal.
        sqlstate: String,
        /// The server's message.
        message: String,
    },
    /// No answer in time.
    TimedOut,
    /// It belongs to another cluster, whatever its name: never a member.
    Foreign {
        /// Its system identifier.
        system_identifier: u64,
    },
}

/// Where a standby gets its WAL from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiving {
    /// `streaming`, `waiting`, ...
    pub status: String,
    /// The server that sends, if it is one of ours.
    pub from: Option<NodeId>,
    /// Time since the last message from the sender.
    pub silence: Duration,
    /// The silence is shorter than the standby's `wal_receiver_timeout`.
    pub fresh: bool,
}

/// One server of the herd.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// pgherd's number of it.
    pub node: NodeId,
    /// False for `DISALLOW_TO_FAILOVER`.
    pub may_be_promoted: bool,
    /// What it is.
    pub state: MemberState,
    /// How it stands to the lineage, by its last report.
    pub standing: Standing,
    /// Where it gets its WAL from; none on a primary, without a WAL receiver, and while it does not answer.
    pub receiving: Option<Receiving>,
    /// What is known of it; none before its first probe ended.
    pub seen: Option<Seen>,
    /// repmgr's row of it.
    pub repmgr: Option<RepmgrNode>,
}

impl Member {
    /// Its last report, however old.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.dated().map(|dated| &dated.report)
    }

    /// Its last report and when it was asked for.
    #[must_use]
    pub fn dated(&self) -> Option<&Dated> {
        self.seen.as_ref().and_then(|seen| seen.report.as_deref())
    }

    /// The branch of its last report.
    #[must_use]
    pub fn branch(&self) -> Option<Branch> {
        self.report().map(Branch::of)
    }

    /// True if its last probe was answered, or it is alive but unwilling.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        matches!(self.state, MemberState::Primary | MemberState::Standby | MemberState::Unwilling { .. })
    }

    /// True if a probe that was sent at or after `instant` has ended.
    #[must_use]
    pub fn asked_since(&self, instant: Instant) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.asked_at >= instant)
    }

    /// The furthest position of its last report.
    #[must_use]
    pub fn furthest(&self) -> Option<Lsn> {
        self.report().map(Report::furthest)
    }

    /// True if a standby of this name streams from it, by its own `pg_stat_replication`.
    #[must_use]
    pub fn streams_to(&self, name: &str) -> bool {
        self.senders().any(|sender| sender.application_name == name && sender.state == "streaming")
    }

    /// The rows of its `pg_stat_replication`.
    pub fn senders(&self) -> impl Iterator<Item = &crate::WalSender> {
        let senders = match self.report().map(|report| &report.position) {
            Some(Position::Primary { senders, .. }) => senders.as_slice(),
            _ => &[],
        };
        senders.iter()
    }
}

pub(crate) fn members(
    knowledge: &Knowledge,
    now: Instant,
    right: Option<u64>,
    lineage: Option<&Branch>,
) -> Vec<Member> {
    let rows = repmgr_rows(knowledge, right);
    let mut members: Vec<Member> =
        knowledge.nodes().iter().map(|node| member(knowledge, node, now, right, lineage, &rows)).collect();
    members.sort_by_key(|member| member.node);
    name_unknown_senders(&mut members);
    members
}

fn member(
    knowledge: &Knowledge,
    node: &Node,
    now: Instant,
    right: Option<u64>,
    lineage: Option<&Branch>,
    rows: &[RepmgrNode],
) -> Member {
    let seen = knowledge.seen(node.id).cloned();
    let state = seen.as_ref().map_or(MemberState::Unknown, |seen| state(seen, right));
    let ours = seen
        .as_ref()
        .and_then(|seen| seen.report.as_ref())
        .filter(|dated| right.is_none_or(|right| dated.report.system_identifier == right));
    let nobodys = |lineage: &Branch, report: &Report| {
        let branch = Branch::of(report);
        knowledge.disowns(node.id, &branch) && !lineage.supersedes(&branch)
    };
    let stray = seen.as_ref().is_some_and(|seen| seen.stray);
    let standing = match (lineage, ours) {
        (Some(_), Some(_)) if stray => Standing::Diverged,
        (Some(lineage), Some(dated)) if nobodys(lineage, &dated.report) => grown(lineage, &dated.report),
        (Some(lineage), Some(dated)) => {
            lineage.standing_of(&Branch::of(&dated.report), dated.report.furthest())
        }
        _ => Standing::Unknown,
    };
    let receiving = ours
        .filter(|_| state == MemberState::Standby)
        .and_then(|dated| receiving(dated, now, knowledge.nodes(), rows));
    let repmgr = row_of(node, rows).cloned();
    Member { node: node.id, may_be_promoted: node.may_be_promoted, state, standing, receiving, seen, repmgr }
}

/// What grew beside the lineage, from the lineage itself or from an ancestor of it.
fn grown(lineage: &Branch, report: &Report) -> Standing {
    match report.history.0.last() {
        Some(fork) if Branch::of(report).grew_from(lineage) => Standing::Superseded {
            switch_point: fork.switch_point,
            divergence: report.furthest().bytes_since(fork.switch_point),
        },
        _ => Standing::Diverged,
    }
}

fn state(seen: &Seen, right: Option<u64>) -> MemberState {
    match &seen.contact {
        Contact::Answered => match &seen.report {
            Some(dated) if right.is_some_and(|right| dated.report.system_identifier != right) => {
                MemberState::Foreign { system_identifier: dated.report.system_identifier }
            }
            Some(dated) if dated.report.is_writable() => MemberState::Primary,
            Some(_) => MemberState::Standby,
            None => MemberState::Unknown,
        },
        Contact::Refused(_) => MemberState::Refused,
        Contact::StartingUp => MemberState::StartingUp,
        Contact::ShuttingDown => MemberState::ShuttingDown,
        Contact::Unwilling { sqlstate, message } => {
            MemberState::Unwilling { sqlstate: sqlstate.clone(), message: message.clone() }
        }
        Contact::TimedOut => MemberState::TimedOut,
    }
}

fn receiving(dated: &Dated, now: Instant, nodes: &[Node], rows: &[RepmgrNode]) -> Option<Receiving> {
    let Position::Standby { receiver: Some(receiver), .. } = &dated.report.position else { return None };
    // The answer was made somewhere between the question and its arrival: the earlier, the longer the silence, but
    // a silence that is taken for too long would free the way for a promotion.
    let silence = receiver.last_message_age + now.saturating_duration_since(dated.answered_at);
    let fresh = receiver.last_message_age < silence_allowed(dated.report.wal_receiver_timeout);
    Some(Receiving {
        status: receiver.status.clone(),
        from: sender_of(receiver, nodes, rows),
        silence,
        fresh,
    })
}

fn sender_of(receiver: &WalReceiver, nodes: &[Node], rows: &[RepmgrNode]) -> Option<NodeId> {
    let at = |host: &str, port: u16| host == receiver.sender_host && port == receiver.sender_port;
    let configured = nodes.iter().find(|node| node.is_at(&receiver.sender_host, receiver.sender_port));
    let registered =
        || nodes.iter().find(|node| row_of(node, rows).is_some_and(|row| at(&row.host, row.port)));
    configured.or_else(registered).map(|node| node.id)
}

/// A sender known only by an address of its own is found by what the servers list in `pg_stat_replication`.
fn name_unknown_senders(members: &mut [Member]) {
    let lists = |name: &str| {
        let mut senders =
            members.iter().filter(|m| m.state == MemberState::Primary && m.streams_to(name)).map(|m| m.node);
        senders.next().filter(|_| senders.next().is_none())
    };
    let named: Vec<(NodeId, NodeId)> = members
        .iter()
        .filter(|member| member.receiving.as_ref().is_some_and(|receiving| receiving.from.is_none()))
        .filter_map(|member| Some((member.node, lists(&member.repmgr.as_ref()?.node_name)?)))
        .collect();
    for (node, sender) in named {
        let member = members.iter_mut().find(|member| member.node == node);
        if let Some(receiving) = member.and_then(|member| member.receiving.as_mut()) {
            receiving.from = Some(sender);
        }
    }
}

/// repmgr's rows as the best witness has them: of the servers that answer the primary, else the standby that is furthest.
/// What a lost primary had seen last may lack what it was told since, such as that a standby has been rejoined.
pub(crate) fn repmgr_rows(knowledge: &Knowledge, right: Option<u64>) -> Arc<Vec<RepmgrNode>> {
    let witness = knowledge
        .nodes()
        .iter()
        .filter_map(|node| knowledge.seen(node.id))
        .filter_map(|seen| Some((seen.contact == Contact::Answered, seen.report.as_deref()?)))
        .filter(|(_, dated)| right.is_none_or(|right| dated.report.system_identifier == right))
        .filter(|(_, dated)| !dated.report.repmgr_nodes.is_empty())
        .max_by_key(|(answers, Dated { report, asked_at, .. })| {
            (*answers, report.timeline, report.is_writable(), report.furthest(), *asked_at)
        });
    witness.map(|(_, dated)| Arc::clone(&dated.report.repmgr_nodes)).unwrap_or_default()
}

/// The row with the node's host and port, else the one that is named like its host.
pub(crate) fn row_of<'a>(node: &Node, rows: &'a [RepmgrNode]) -> Option<&'a RepmgrNode> {
    let by_address = rows.iter().find(|row| node.is_at(&row.host, row.port));
    by_address.or_else(|| rows.iter().find(|row| row.node_name == node.host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProbeOutcome;
    use crate::fixtures::{herd, primary, report, row, standby};

    fn answer(position: Position, active: bool) -> ProbeOutcome {
        ProbeOutcome::Answered(Box::new(report(1, position, vec![RepmgrNode { active, ..row(1) }])))
    }

    #[test]
    fn a_lost_primarys_rows_give_way_to_those_of_the_furthest_standby_that_answers() {
        let now = Instant::now();
        let mut knowledge = herd(3);
        let is_active = |knowledge: &Knowledge| repmgr_rows(knowledge, None).iter().any(|row| row.active);
        knowledge.observe(NodeId(1), now, now, answer(standby(3), true));
        knowledge.observe(NodeId(2), now, now, answer(standby(2), false));
        knowledge.observe(NodeId(0), now, now, answer(primary(1), false));
        assert!(!is_active(&knowledge), "the primary knows best");
        knowledge.observe(NodeId(0), now, now, ProbeOutcome::Refused(String::new()));
        assert!(is_active(&knowledge));
    }
}
