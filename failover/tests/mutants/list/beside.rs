//! What is done to servers beside a primary.

use super::{Mutant, mutant};

const CARE: &str = "failover/src/care.rs";
const ORDERED: &str = "failover/src/care/ordered.rs";
const RECALL: &str = "failover/src/recall.rs";
const CASCADE: &str = "failover/src/cascade.rs";
const SLOTS: &str = "failover/src/slots.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    mutant(
        "nothing is done to a server for what it was before pgherd hung",
        CARE,
        "it.node != epoch.primary && it.asked_since(machine.awake_since);",
        "it.node != epoch.primary && it.asked_since(machine.started);",
    ),
    mutant(
        "a server with more WAL of its own than max_data_loss is left to an operator",
        CARE,
        "(divergence > max_data_loss).then_some(",
        "(divergence > max_data_loss && member.node.0 == u32::MAX).then_some(",
    ),
    mutant(
        "what a server has written after its last report counts when it is rejoined",
        CARE,
        "bytes: if all { u64::MAX } else { machine.settings.max_data_loss } }",
        "bytes: if all { u64::MAX } else { u64::MAX - 1 } }",
    ),
    mutant(
        "a server that has never answered is left to an operator",
        CARE,
        "if member.report().is_none() && !is_settled {",
        "if member.report().is_none() && member.node.0 == u32::MAX {",
    ),
    mutant(
        "a primary that was stopped is rejoined only if the next one has all of it",
        RECALL,
        "is_some_and(|it| checkpoint < it.from) =>",
        "is_some_and(|it| checkpoint.0 < u64::MAX || checkpoint < it.from) =>",
    ),
    mutant(
        "one that a pgherd has fenced before its death is rejoined only if it has little WAL of its own",
        RECALL,
        "loss.bytes() > machine.settings.max_data_loss)",
        "loss.bytes() > u64::MAX - 1 + u64::from(machine.paused))",
    ),
    mutant(
        "a standby that was fenced is rejoined only if the primary has come so far",
        RECALL,
        "is_some_and(|furthest| furthest >= end)",
        "is_some_and(|furthest| furthest.0 > 0 || furthest >= end)",
    ),
    mutant(
        "one that was writable on the primary's own timeline is left to an operator",
        RECALL,
        "Ended::Fenced { end, standby: true } if lineage == Some(branch) => {",
        "Ended::Fenced { end, .. } if lineage == Some(branch) => {",
    ),
    mutant(
        "one that was fenced never leads again by itself",
        RECALL,
        "(State::Hold(hold), Ended::ShutDown { .. }) if may_lead_again(",
        "(State::Hold(hold), _) if may_lead_again(",
    ),
    mutant(
        "a primary that was stopped leads again only if every other server stands by",
        RECALL,
        "&& others.clone().all(follows)",
        "&& others.clone().all(|it| follows(it) || it.node.0 < u32::MAX)",
    ),
    mutant(
        "nothing is repaired while failover is paused",
        CARE,
        "if machine.paused && machine.care.is_ordered(node).is_none() {",
        "if false {",
    ),
    mutant(
        "a false primary is fenced beside the primary",
        CARE,
        "MemberState::Primary if false_primary => return Some(Step::Fence),",
        "",
    ),
    // Nor is one whose last answer was another cluster's.
    mutant(
        "another cluster's server is left alone",
        CARE,
        "MemberState::Foreign { .. } | MemberState::Primary => return None,",
        "MemberState::Primary => return None,",
    )
    .and(CARE, "if !registered || !ours {", "if !registered {"),
    mutant(
        "a server that lets nobody in is left alone",
        CARE,
        "MemberState::Unwilling { .. } if ordered.is_none() => return None,",
        "",
    ),
    mutant(
        "the primary writes a checkpoint before another is rewound to it",
        CARE,
        "let step = if clone { Step::Clone { upstream } } else { Step::Rejoin { upstream, limit: limit? } };\n        return checkpointed(machine, now, epoch).then_some(step);",
        "let step = if clone { Step::Clone { upstream } } else { Step::Rejoin { upstream, limit: limit? } };\n        return Some(step);",
    ),
    mutant(
        "nobody is cloned unless that is allowed",
        CARE,
        "if let (Some(why), false) = (&patient.not_rewindable, settings.reclone) {",
        "if let (Some(why), false) = (&patient.not_rewindable, settings.reclone || !machine.paused) {",
    ),
    mutant(
        "a server that was down when it was fenced is not started",
        CARE,
        "if matches!(outcome, Outcome::Fenced { stopped: true }) {",
        "if matches!(outcome, Outcome::Fenced { .. }) {",
    ),
    mutant(
        "a server that has run since its fence is not started when somebody stops it",
        CARE,
        "patient.stopped = stopped.filter(|stop| !stop.is_over(member));",
        "patient.stopped = stopped;",
    ),
    mutant("only servers that repmgr knows are repaired", CARE, "if !registered || !ours {", "if !ours {"),
    mutant(
        "a repair that has failed is not tried again at once",
        CARE,
        "if patient.repair.is_some() || patient.not_before.is_some_and(|at| now < at) {",
        "if patient.repair.is_some() {",
    ),
    mutant(
        "an exit code is no proof that a server follows",
        CARE,
        "} else if failed || now >= ended + machine.settings.retry_after {",
        "} else if failed {",
    ),
    mutant(
        "who was frozen for a promotion follows at once",
        CARE,
        "            patient.frozen = true;\n            patient.loose_since = Some(now);",
        "            patient.loose_since = Some(now);",
    ),
    mutant(
        "whom a pgherd that died has frozen is not left to help itself",
        CARE,
        "if frozen { settings.command_deadline } else { settings.repoint_after }",
        "if frozen { settings.repoint_after } else { settings.repoint_after }",
    ),
    mutant(
        "a standby that streams from nobody is first left to help itself",
        CARE,
        "if frozen { settings.command_deadline } else { settings.repoint_after }",
        "if frozen { settings.command_deadline } else { Duration::ZERO }",
    ),
    mutant(
        "a primary that was stopped for another has nothing of its own",
        CARE,
        "Some(Stop { is_settled: true, ..Stop::of(member, now) });",
        "Some(Stop { is_settled: false, ..Stop::of(member, now) });",
    ),
    mutant(
        "a rejoin that loses something needs an operator's word for that",
        ORDERED,
        "Some(why) if !accept_data_loss => {",
        "Some(why) if !accept_data_loss && false => {",
    ),
    mutant(
        "no operator can have the primary rejoined",
        ORDERED,
        "    if node == primary {",
        "    if node == primary && false {",
    ),
    mutant(
        "no operator can have another cluster's server rejoined",
        ORDERED,
        "    if let MemberState::Foreign { system_identifier } = member.state {",
        "    if let (MemberState::Foreign { system_identifier }, true) = (member.state.clone(), machine.paused) {",
    ),
    mutant(
        "nobody is put beneath one that led",
        CASCADE,
        "above.node != member.node && !led(above)",
        "above.node != member.node",
    ),
    mutant(
        "nobody is put beneath one that does not follow itself",
        CASCADE,
        "Some(above) if follows(machine, epoch, above) => Some(above.node),",
        "Some(above) => Some(above.node),",
    ),
    mutant(
        "what a paused pgherd has found stopped stays down",
        RECALL,
        "if machine.paused || !matches!",
        "if !matches!",
    ),
    mutant(
        "a primary that was stopped leads again only if no repmgrd decides",
        RECALL,
        "        && guards::one_decider(machine) == Verdict::Pass",
        "",
    ),
    mutant(
        "a slot that is in use is not dropped",
        SLOTS,
        "slots.iter().filter(|slot| !slot.active && slot.database.is_none());",
        "slots.iter().filter(|slot| slot.database.is_none());",
    ),
    mutant(
        "a logical slot is not dropped",
        SLOTS,
        "slots.iter().filter(|slot| !slot.active && slot.database.is_none());",
        "slots.iter().filter(|slot| !slot.active);",
    ),
    mutant(
        "a slot of a server that may come back to it is not dropped",
        SLOTS,
        "!busy && (owner.node == server || owner.node == epoch.primary || streams)",
        "!busy && (owner.node == server || owner.node == epoch.primary || streams || !machine.paused)",
    ),
    mutant(
        "a slot is dropped only after slot_grace",
        SLOTS,
        "find(|(_, since)| now >= **since + grace)",
        "find(|(_, since)| now >= **since && grace > std::time::Duration::ZERO)",
    ),
    mutant(
        "no slot is dropped while failover is paused",
        SLOTS,
        "State::Steady { epoch } if !machine.paused => epoch,",
        "State::Steady { epoch } => epoch,",
    ),
];
