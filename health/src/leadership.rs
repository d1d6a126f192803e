//! Who is writable, and which of them is the primary.

use crate::member::{Member, MemberState};
use crate::{Branch, Knowledge, NodeId, Relation, Report};

/// A server that accepts writes although another's history supersedes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FalsePrimary {
    /// The server.
    pub node: NodeId,
    /// Bytes that it wrote past the switch point.
    pub divergence: u64,
    /// Somebody still streams from it.
    pub has_standbys: bool,
}

/// Who is writable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Nobody that answered.
    Nobody,
    /// One, whom nobody that ever answered and no accepted lineage supersedes.
    Primary {
        /// It.
        node: NodeId,
        /// The others that accept writes.
        false_primaries: Vec<FalsePrimary>,
    },
    /// Only servers that are superseded, by another that has answered or by the accepted lineage.
    OnlyFalse(Vec<FalsePrimary>),
    /// Forks of which none supersedes the others.
    Contested {
        /// The servers.
        nodes: Vec<NodeId>,
        /// In words for an operator.
        reason: String,
    },
}

impl Leadership {
    /// The primary, if there is exactly one that may be it.
    #[must_use]
    pub const fn primary(&self) -> Option<NodeId> {
        match self {
            Self::Primary { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// Servers that accept writes and must not.
    #[must_use]
    pub fn false_primaries(&self) -> &[FalsePrimary] {
        match self {
            Self::Primary { false_primaries, .. } | Self::OnlyFalse(false_primaries) => false_primaries,
            _ => &[],
        }
    }

    /// Equal but for how far the false ones have written.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let names = |these: &Self| -> Vec<(NodeId, bool)> {
            these.false_primaries().iter().map(|it| (it.node, it.has_standbys)).collect()
        };
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.primary() == other.primary()
            && names(self) == names(other)
            && !matches!((self, other), (Self::Contested { .. }, Self::Contested { .. }) if self != other)
    }
}

pub(crate) fn judge(members: &[Member], knowledge: &Knowledge, right: Option<u64>) -> Leadership {
    let is_ours = |member: &Member| member.report().map(|report| report.system_identifier) == right;
    let accepted = knowledge.accepted();
    let writable: Vec<(&Member, Branch)> = members
        .iter()
        .filter(|member| member.state == MemberState::Primary)
        .filter_map(|member| Some((member, member.branch()?)))
        .collect();
    // A later timeline that was seen once goes on to exist, whether or not its server answers now.
    let disowned = |member: &Member, branch: &Branch| knowledge.disowns(member.node, branch);
    let mut rivals: Vec<Branch> = members
        .iter()
        .filter(|member| is_ours(member))
        .filter_map(|member| member.branch().filter(|branch| !disowned(member, branch)))
        .collect();
    rivals.extend(accepted.map(|lineage| lineage.branch.clone()));
    let superseded = |branch: &Branch| rivals.iter().any(|rival| rival.supersedes(branch));
    if let Some((trusted, branch)) = writable.iter().find(|(it, branch)| knowledge.trusts(it.node, branch)) {
        let node = trusted.node;
        let others = writable.iter().filter(|(member, _)| member.node != node);
        let beneath = others.map(|(member, of)| false_primary(member, past(member, branch, of), members));
        return Leadership::Primary { node, false_primaries: beneath.collect() };
    }
    let (beneath, leading): (Vec<_>, Vec<_>) =
        writable.into_iter().partition(|(member, branch)| superseded(branch) || disowned(member, branch));
    let false_primaries: Vec<FalsePrimary> = beneath
        .iter()
        .map(|(member, branch)| {
            let above = rivals.iter().filter(|rival| rival.supersedes(branch));
            let divergence = above.map(|rival| past(member, rival, branch)).max().unwrap_or(u64::MAX);
            false_primary(member, divergence, members)
        })
        .collect();
    match leading.as_slice() {
        [] if false_primaries.is_empty() => Leadership::Nobody,
        [] => Leadership::OnlyFalse(false_primaries),
        [(member, branch)] => match accepted.map(|lineage| lineage.branch.relation(branch)) {
            Some(Relation::Siblings) => {
                contested(&[member.node], "it forked off the lineage that was served")
            }
            None if members.iter().any(|other| is_ours(other) && is_silent_fork(other, branch)) => {
                contested(&[member.node], "another, which does not answer now, was writable on another")
            }
            _ => Leadership::Primary { node: member.node, false_primaries },
        },
        several => {
            let nodes: Vec<NodeId> = several.iter().map(|(member, _)| member.node).collect();
            contested(&nodes, "neither's history contains the other's")
        }
    }
}

/// A server that was writable on a sibling of `branch`, or on one of equal history, and cannot be asked now.
fn is_silent_fork(member: &Member, branch: &Branch) -> bool {
    let answers = matches!(member.state, MemberState::Primary | MemberState::Standby);
    let forked = |report: &Report| {
        let relation = Branch::of(report).relation(branch);
        report.is_writable() && matches!(relation, Relation::Siblings | Relation::Same)
    };
    !answers && member.report().is_some_and(forked)
}

fn contested(nodes: &[NodeId], why: &str) -> Leadership {
    let names: Vec<String> = nodes.iter().map(|node| format!("node {node}")).collect();
    let reason = format!("{} accept writes on a fork: {why}", names.join(" and "));
    Leadership::Contested { nodes: nodes.to_vec(), reason }
}

/// Bytes that `member`, on `branch`, has past the point where `rival` left it. Where a fork that is no ancestor left
/// is not worked out: all of it counts.
fn past(member: &Member, rival: &Branch, branch: &Branch) -> u64 {
    match rival.relation(branch) {
        Relation::Supersedes { switch_point } => {
            member.furthest().unwrap_or_default().bytes_since(switch_point)
        }
        _ => u64::MAX,
    }
}

fn false_primary(member: &Member, divergence: u64, members: &[Member]) -> FalsePrimary {
    let streams = |other: &Member| {
        other.receiving.as_ref().is_some_and(|receiving| {
            receiving.from == Some(member.node) && receiving.fresh && receiving.status == "streaming"
        })
    };
    FalsePrimary {
        node: member.node,
        divergence,
        has_standbys: member.senders().any(|sender| sender.state == "streaming")
            || members.iter().any(streams),
    }
}
