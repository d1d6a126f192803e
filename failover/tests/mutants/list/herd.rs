//! What is known of the servers, and who is read.

use super::{Mutant, mutant};

const LEADERSHIP: &str = "health/src/leadership.rs";
const LINEAGE: &str = "health/src/lineage.rs";
const MEMBER: &str = "health/src/member.rs";
const TOPOLOGY: &str = "health/src/topology.rs";
const READING: &str = "failover/src/reading.rs";
const KNOWLEDGE: &str = "health/src/knowledge.rs";
const IDENTITY: &str = "health/src/identity.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    mutant(
        "a superseded server does not lead",
        LEADERSHIP,
        "rivals.iter().any(|rival| rival.supersedes(branch));",
        "rivals.iter().any(|rival| rival.supersedes(branch) && rival.timeline.0 == u32::MAX);",
    ),
    mutant(
        "a fork off the lineage does not lead",
        LEADERSHIP,
        "Some(Relation::Siblings) => {\n                contested(",
        "Some(Relation::Siblings) if member.node.0 == u32::MAX => {\n                contested(",
    ),
    mutant(
        "histories are compared, and not numbers",
        LINEAGE,
        "(before == own).then(||",
        "(before.len() < 99 || before == own).then(||",
    ),
    mutant(
        "WAL past the switch point is not on the lineage",
        LINEAGE,
        "Relation::Supersedes { switch_point } if furthest <= switch_point => Standing::OnLineage,",
        "Relation::Supersedes { switch_point } if switch_point.0 > 0 => Standing::OnLineage,",
    ),
    mutant(
        "a server of another cluster is foreign",
        MEMBER,
        "right.is_some_and(|right| dated.report.system_identifier != right) => {",
        "right.is_some_and(|right| dated.report.system_identifier != right && right == 0) => {",
    ),
    mutant(
        "a WAL receiver that streams is heard",
        TOPOLOGY,
        "streams(receiving) && receiving.fresh && !known_otherwise(receiving)",
        "!streams(receiving) && receiving.fresh && !known_otherwise(receiving)",
    ),
    mutant(
        "only standbys on the lineage are read",
        READING,
        "here && was_standby && member.standing == Standing::OnLineage",
        "here && was_standby",
    ),
    mutant(
        "the timeline that was served supersedes, whoever answers",
        LEADERSHIP,
        "rivals.extend(accepted.map(|lineage| lineage.branch.clone()));",
        "",
    ),
    mutant(
        "a later timeline that was seen once goes on to exist",
        LEADERSHIP,
        "member.branch().filter(|branch| !disowned(member, branch))",
        "member.branch().filter(|branch| member.is_alive() && !disowned(member, branch))",
    ),
    mutant(
        "of two forks none leads",
        LEADERSHIP,
        "[(member, branch)] => match accepted",
        "[(member, branch), ..] => match accepted",
    ),
    mutant(
        "a fork that falls silent does not settle the matter",
        LEADERSHIP,
        "is_ours(other) && is_silent_fork(other, branch)) => {",
        "is_ours(other) && is_silent_fork(other, branch) && false) => {",
    ),
    mutant(
        "two that were promoted at one position are forks",
        LEADERSHIP,
        "matches!(relation, Relation::Siblings | Relation::Same)",
        "matches!(relation, Relation::Siblings)",
    ),
    mutant(
        "what was written for nothing does not lead",
        LEADERSHIP,
        "superseded(branch) || disowned(member, branch));",
        "superseded(branch));",
    ),
    // Both ends of a stream tell of it.
    mutant(
        "a false primary to or from which something streams has standbys",
        LEADERSHIP,
        "            || members.iter().any(streams),",
        "            || members.iter().any(|other| streams(other) && false),",
    )
    .and(
        LEADERSHIP,
        "member.senders().any(|sender| sender.state == \"streaming\")\n",
        "member.senders().any(|sender| sender.state.is_empty())\n",
    ),
    mutant(
        "an answer that is older than what is known changes nothing",
        KNOWLEDGE,
        "if late || !self.nodes",
        "if !self.nodes",
    ),
    mutant(
        "a standby with more WAL than its primary ever wrote has strayed",
        KNOWLEDGE,
        ".any(|(lsn, at)| lsn > insert && at <= dated.asked_at);",
        ".any(|(lsn, at)| lsn > insert && at <= dated.asked_at && false);",
    ),
    mutant(
        "a standby that has just received more than its primary has told has not strayed",
        KNOWLEDGE,
        ".any(|(lsn, at)| lsn > insert && at <= dated.asked_at);",
        ".any(|(lsn, _)| lsn > insert);",
    ),
    mutant(
        "a server that was down may be another",
        KNOWLEDGE,
        "Contact::Refused(_) | Contact::StartingUp | Contact::ShuttingDown => true,",
        "Contact::Refused(_) | Contact::StartingUp | Contact::ShuttingDown => false,",
    ),
    mutant(
        "a server that lets nobody in is alive",
        KNOWLEDGE,
        "let fails = !matches!(contact, Contact::Answered | Contact::Unwilling { .. });",
        "let fails = !matches!(contact, Contact::Answered);",
    ),
    mutant(
        "a server that was given up and is rewound counts again",
        KNOWLEDGE,
        "if !self.disowns(node, &branch) || (accepted && receiver.is_some()) {",
        "if false {",
    ),
    mutant(
        "of siblings none is the newest",
        TOPOLOGY,
        "        _ => None,\n    }\n}\n\n/// A receiver's silence",
        "        _ => heads.pop(),\n    }\n}\n\n/// A receiver's silence",
    ),
    mutant(
        "who streams from a standby hears no primary",
        TOPOLOGY,
        "sender.state == MemberState::Standby || (falsely",
        "(falsely",
    ),
    mutant(
        "who streams from a false primary hears no primary",
        TOPOLOGY,
        "sender.state == MemberState::Standby || (falsely && sender.state == MemberState::Primary)",
        "sender.state == MemberState::Standby || (falsely && sender.state == MemberState::Primary && false)",
    ),
    mutant(
        "who strayed is not on the lineage",
        MEMBER,
        "(Some(_), Some(_)) if stray => Standing::Diverged,",
        "",
    ),
    mutant(
        "one server of several does not say which cluster is ours",
        IDENTITY,
        "voices.servers > most))",
        "voices.servers > 0 || most > 0))",
    ),
    mutant(
        "who knows the others by repmgr says which cluster is ours",
        IDENTITY,
        "only(&|voices| voices.vouched).or_else(||",
        "only(&|voices| voices.vouched && false).or_else(||",
    ),
    mutant(
        "a standby that is silent twice is not read",
        READING,
        "MemberState::TimedOut => failures < 2,",
        "MemberState::TimedOut => failures < u32::MAX,",
    ),
    mutant("whom an operator has detached is not read", READING, " && !detached", " && (!detached || here)"),
    mutant(
        "before it is known which cluster is ours nobody is read",
        READING,
        " || !machine.knows_the_cluster(now) {",
        " {",
    ),
];
