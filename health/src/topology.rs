//! The one view of the herd: a pure function of what is known and of the time.

use std::time::{Duration, Instant};

use crate::leadership::{Leadership, judge};
use crate::member::{Member, MemberState, Receiving, members};
use crate::{Branch, Knowledge, NodeId, Relation, identity};

/// What the herd looks like at one instant.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Grows when something that matters changes; the mere progress of positions does not.
    pub generation: u64,
    /// The right system identifier; none before anybody answered, or why it cannot be told.
    pub system_identifier: Result<Option<u64>, String>,
    /// The lineage that servers are measured against: the accepted one, else the newest of all that answered.
    /// None before anybody answered, or where branches are siblings.
    pub lineage: Option<Branch>,
    /// The newest branch of all that answered and of the accepted lineage: the one that supersedes all others. It is
    /// ahead of `lineage` when somebody else has promoted; none where branches are siblings.
    pub newest: Option<Branch>,
    /// Every configured server, in the order of their ids.
    pub members: Vec<Member>,
    /// Who is writable, and which of them is the primary.
    pub leadership: Leadership,
}

/// What must differ for the generation to grow.
type Matter<'a> = (NodeId, &'a MemberState, std::mem::Discriminant<crate::Standing>, Stream<'a>);
type Stream<'a> = Option<(&'a str, Option<NodeId>, bool)>;

impl Topology {
    /// Derives the view from what is known at `now`; `previous` only carries the generation on.
    #[must_use]
    pub fn derive(knowledge: &Knowledge, now: Instant, previous: Option<&Self>) -> Self {
        let system_identifier = identity::system_identifier(knowledge);
        let right = system_identifier.as_ref().ok().copied().flatten();
        let newest = newest(knowledge, right);
        let lineage = knowledge.accepted().map(|it| it.branch.clone()).or_else(|| newest.clone());
        let members = members(knowledge, now, right, lineage.as_ref());
        let leadership = judge(&members, knowledge, right);
        let mut topology = Self { generation: 0, system_identifier, lineage, newest, members, leadership };
        topology.generation = match previous {
            Some(before) if before.same_as(&topology) => before.generation,
            Some(before) => before.generation + 1,
            None => 1,
        };
        topology
    }

    /// One member.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// Members that answered as standbys of our cluster.
    pub fn standbys(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.state == MemberState::Standby)
    }

    /// True if `member` still hears a server above it that is neither a standby nor a false primary that we can see:
    /// its WAL receiver streams and is fresh.
    #[must_use]
    pub fn hears_a_primary(&self, member: &Member) -> bool {
        let known_otherwise = |receiving: &Receiving| {
            receiving.from.and_then(|sender| self.member(sender)).is_some_and(|sender| {
                let falsely = self.leadership.false_primaries().iter().any(|it| it.node == sender.node);
                sender.state == MemberState::Standby || (falsely && sender.state == MemberState::Primary)
            })
        };
        // A monitor user without pg_read_all_stats sees that there is a receiver and no more: it may hear.
        let streams = |receiving: &Receiving| receiving.status == "streaming" || receiving.status.is_empty();
        member
            .receiving
            .as_ref()
            .is_some_and(|receiving| streams(receiving) && receiving.fresh && !known_otherwise(receiving))
    }

    fn same_as(&self, other: &Self) -> bool {
        self.system_identifier == other.system_identifier
            && self.lineage == other.lineage
            && self.newest == other.newest
            && self.leadership.same_as(&other.leadership)
            && self.matter() == other.matter()
    }

    fn matter(&self) -> Vec<Matter<'_>> {
        self.members.iter().map(of_matter).collect()
    }
}

fn of_matter(member: &Member) -> Matter<'_> {
    let stream = member.receiving.as_ref().map(|from| (from.status.as_str(), from.from, from.fresh));
    (member.node, &member.state, std::mem::discriminant(&member.standing), stream)
}

/// The one branch that no other supersedes.
fn newest(knowledge: &Knowledge, right: Option<u64>) -> Option<Branch> {
    let mut heads: Vec<Branch> = knowledge.accepted().map(|it| it.branch.clone()).into_iter().collect();
    for node in knowledge.nodes() {
        let report = knowledge.seen(node.id).and_then(|seen| seen.report.as_ref());
        let Some(dated) = report.filter(|dated| Some(dated.report.system_identifier) == right) else {
            continue;
        };
        let branch = Branch::of(&dated.report);
        if knowledge.disowns(node.id, &branch) {
            continue;
        }
        let known =
            |head: &Branch| matches!(head.relation(&branch), Relation::Same | Relation::Supersedes { .. });
        if !heads.iter().any(known) {
            heads.retain(|head| !branch.supersedes(head));
            heads.push(branch);
        }
    }
    match heads.len() {
        1 => heads.pop(),
        _ => None,
    }
}

/// A receiver's silence after which it is no longer believed to hear its sender.
#[must_use]
pub(crate) fn silence_allowed(wal_receiver_timeout: Duration) -> Duration {
    if wal_receiver_timeout.is_zero() { Duration::MAX } else { wal_receiver_timeout }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{herd, report};
    use crate::{Position, ProbeOutcome, TimelineId, WalReceiver};

    #[test]
    fn a_receiver_of_which_nothing_may_be_seen_may_hear_a_primary() {
        let now = Instant::now();
        for (status, hears) in [("streaming", true), ("", true), ("waiting", false)] {
            let receiver = WalReceiver {
                status: status.to_owned(),
                timeline: TimelineId(0),
                sender_host: String::new(),
                sender_port: 0,
                last_message_age: Duration::ZERO,
            };
            let position = Position::Standby {
                receive: None,
                replay: None,
                replay_paused: false,
                apply_delay: Duration::ZERO,
                frozen: false,
                receiver: Some(receiver),
            };
            let mut knowledge = herd(1);
            let answer = ProbeOutcome::Answered(Box::new(report(1, position, Vec::new())));
            knowledge.observe(NodeId(0), now, now, answer);
            let topology = Topology::derive(&knowledge, now, None);
            assert_eq!(topology.hears_a_primary(&topology.members[0]), hears, "{status}");
        }
    }
}
