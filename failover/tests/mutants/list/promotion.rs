//! Who is promoted, and when.

use super::{Mutant, mutant};

const FREEZE: &str = "failover/src/freeze.rs";
const ELECTION: &str = "failover/src/election.rs";
const PROMOTE: &str = "failover/src/promote.rs";
const CANDIDATE: &str = "failover/src/candidate.rs";
const VERIFY: &str = "failover/src/verify.rs";
const HOLD: &str = "failover/src/hold.rs";
const MACHINE: &str = "failover/src/machine.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    mutant(
        "every reachable standby is frozen before positions are compared",
        FREEZE,
        "let all = standbys.all(|member| position(machine, attempt, member.node).is_some());",
        "let all = standbys.any(|member| position(machine, attempt, member.node).is_some());",
    ),
    mutant(
        "a standby that receives again although it was frozen",
        FREEZE,
        "receives.then(|| format!(\"node {node} receives again although it was frozen\"))",
        "(receives && node.0 == u32::MAX).then(|| format!(\"node {node} receives again although it was frozen\"))",
    ),
    mutant(
        "guards are looked at again until the order",
        FREEZE,
        "Verdict::Wait(why) | Verdict::Fail(why) => Some(why),\n        })",
        "Verdict::Wait(why) | Verdict::Fail(why) => Some(why).filter(|_| now < machine.started),\n        })",
    ),
    mutant("after the freeze, (c) and (d) again", FREEZE, "durable(machine, attempt, &frozen, lsn)?;", ""),
    mutant(
        "only who has the stopped primary's last record",
        FREEZE,
        "frozen.retain(|(_, lsn)| *lsn > handover.checkpoint);",
        "frozen.retain(|(_, lsn)| *lsn > handover.checkpoint || lsn.0 > 0);",
    ),
    mutant(
        "the best candidate is the one with most WAL",
        ELECTION,
        "eligible.push((strays, Reverse(named), Reverse(*lsn), Reverse(priority), *node));",
        "eligible.push((strays, Reverse(named), Reverse(*lsn), Reverse(priority), *node));\n                eligible.truncate(1);",
    ),
    mutant(
        "nobody else has more WAL than the candidate",
        ELECTION,
        "Some((other, ahead)) if *ahead > lsn && !machine.accepts_loss() => Err(format!(",
        "Some((other, ahead)) if *ahead > lsn && other.0 == u32::MAX => Err(format!(",
    ),
    mutant(
        "a candidate is on the lineage",
        ELECTION,
        "(standing == Some(Standing::OnLineage) && !stray) || machine.accepts_loss()",
        "(standing == Some(Standing::OnLineage) && !stray) || machine.topology.generation > 0",
    ),
    mutant(
        "a candidate has followed the last promotion",
        ELECTION,
        "let behind = member.branch().as_ref() != Some(&attempt.branch) && !machine.accepts_loss();",
        "let behind = member.branch().is_none();",
    ),
    mutant(
        "a candidate has not failed to promote before",
        ELECTION,
        "(attempt.passed_over.contains(&member.node), ",
        "(false, ",
    ),
    mutant("DISALLOW_TO_FAILOVER", ELECTION, "(!member.may_be_promoted && !by_name, ", "(false, "),
    mutant("priority 0", ELECTION, "(row.is_some_and(|row| row.priority <= 0) && !by_name, ", "(false, "),
    mutant("inactive in repmgr", ELECTION, "(row.is_some_and(|row| !row.active), ", "(false, "),
    mutant(
        "a paused replay",
        ELECTION,
        "(*replay_paused, ",
        "(*replay_paused && apply_delay.is_zero() && lsn.0 == 0, ",
    ),
    mutant(
        "a delayed replay",
        ELECTION,
        "(!apply_delay.is_zero(), ",
        "(!apply_delay.is_zero() && lsn.0 == 0, ",
    ),
    mutant(
        "locks are held before the order",
        PROMOTE,
        "attempt.locks.values().all(held).then(|| \"all locks are held\".to_owned())",
        "(attempt.locks.values().all(held) || !machine.paused).then(|| \"all locks are held\".to_owned())",
    ),
    mutant(
        "a lock that was refused",
        PROMOTE,
        "let attempt = before_order(machine)?;\n            refused_lock(machine, attempt)\n                .or_else(|| not_frozen(machine, attempt))",
        "let attempt = before_order(machine)?;\n            refused_lock(machine, attempt)\n                .filter(|_| machine.paused)\n                .or_else(|| not_frozen(machine, attempt))",
    ),
    mutant(
        "everybody is looked at again under the locks",
        PROMOTE,
        "(all && holds).then(|| format!(\"node {candidate} is promoted\"))",
        "(all || holds).then(|| format!(\"node {candidate} is promoted\"))",
    ),
    mutant(
        "nobody is writable before the order",
        PROMOTE,
        ".or_else(|| still_writable(machine, attempt))\n                .or_else(|| ceased(machine, attempt, now))",
        ".or_else(|| ceased(machine, attempt, now))",
    ),
    mutant(
        "a server that leads is seen before the order",
        PROMOTE,
        "when: |machine, _| before_order(machine).and_then(|_| leader(machine)),",
        "when: |machine, _| before_order(machine).and_then(|_| leader(machine)).filter(|_| machine.paused),",
    ),
    mutant(
        "a candidate is passed over only once it was fenced",
        PROMOTE,
        "matches!(machine.orders.outcome(*fence)?, Outcome::Fenced { .. })\n                .then(|| format!(\"node {candidate} is fenced\"))",
        "matches!(machine.orders.get(*fence), Some(_))\n                .then(|| format!(\"node {candidate} is fenced\"))",
    ),
    mutant(
        "a candidate with an unknown order is held for",
        PROMOTE,
        "when: |machine, _| lost(machine),",
        "when: |machine, _| lost(machine).filter(|_| machine.paused),",
    ),
    mutant(
        "an order of unknown outcome is not taken for one that failed",
        PROMOTE,
        "(candidate, _, Outcome::Failed(why), true) => {\n                let doubtful = machine.state.attempt()?.doubtful;",
        "(candidate, _, Outcome::Failed(why) | Outcome::Unknown(why), _) => {\n                let doubtful = machine.paused;",
    ),
    mutant(
        "the promoted timeline grew from the old one",
        CANDIDATE,
        "let grown = matches!(branch.relation(&attempt.branch), Relation::Supersedes { .. });",
        "let grown = branch.timeline.0 > 0;",
    ),
    mutant(
        "nobody has come with more WAL before the order is told again",
        CANDIDATE,
        ".or_else(|| surpassed(machine))\n",
        ".or_else(|| surpassed(machine).filter(|_| machine.paused))\n",
    ),
    mutant(
        "a write was committed before the swap",
        VERIFY,
        "(machine.orders.outcome(*write)? == &Outcome::Done).then_some(seen)",
        "machine.orders.get(*write).map(|_| seen)",
    ),

    mutant(
        "a primary that comes back while standbys freeze leads again",
        FREEZE,
        "when: |machine, _| leader(machine),",
        "when: |machine, _| leader(machine).filter(|_| machine.paused),",
    ),
    mutant(
        "what a primary said before its fence is over",
        FREEZE,
        "let leads = machine.topology.leadership.primary().filter(|node| !ended(node));",
        "let leads = machine.topology.leadership.primary().filter(|node| !ended(node) || node.0 < u32::MAX);",
    ),
    mutant(
        "a standby that could not be frozen",
        FREEZE,
        "Some(format!(\"node {node} was not frozen: {why}\"))",
        "{ let _ = why; None }",
    ),
    mutant(
        "only standbys that repmgr knows",
        ELECTION,
        "(!machine.may_act_on(member), ",
        "(false, ",
    ),
    mutant("only whom an operator has named", ELECTION, "(named.is_some() && !by_name, ", "(false, "),
    mutant(
        "whom an operator has detached",
        ELECTION,
        "(machine.detached.contains(&member.node), ",
        "(false, ",
    ),
    mutant(
        "a witness",
        ELECTION,
        "(row.is_some_and(|row| row.node_type == RepmgrNodeType::Witness), ",
        "(false, ",
    ),
    mutant(
        "a standby that was lost before the order",
        PROMOTE,
        "lost.map(|node| format!(\"node {node} was lost\"))",
        "lost.filter(|_| false).map(|node| format!(\"node {node} was lost\"))",
    ),
    mutant(
        "a standby that has come before the order",
        PROMOTE,
        ".or_else(|| come.map(|node| format!(\"node {node} has come back\")))",
        ".or_else(|| come.filter(|_| false).map(|node| format!(\"node {node} has come back\")))",
    ),
    mutant(
        "the candidate is still the best before the order",
        PROMOTE,
        ".or_else(|| outdone(machine))",
        ".or_else(|| outdone(machine).filter(|_| false))",
    ),
    mutant(
        "a standby that thawed before the order",
        PROMOTE,
        "                .or_else(|| not_frozen(machine, attempt))\n                .or_else(|| still_writable",
        "                .or_else(|| still_writable",
    ),
    mutant(
        "guards are looked at once more before the order",
        PROMOTE,
        ".or_else(|| ceased(machine, attempt, now))",
        ".or_else(|| ceased(machine, attempt, now).filter(|_| false))",
    ),
    mutant(
        "a candidate that is something else after its order",
        PROMOTE,
        "after_order(machine).and_then(|(of, candidate)| estranged(machine, of, candidate)),",
        "after_order(machine).and_then(|(of, candidate)| estranged(machine, of, candidate)).filter(|_| false),",
    ),
    // Before the next one is told, all standbys are locked, and everybody is looked at again.
    mutant(
        "a candidate that failed is seen as a standby since, before it is passed over or before the next order",
        PROMOTE,
        "(candidate, _, Outcome::Failed(why), true) => {",
        "(candidate, _, Outcome::Failed(why), _) => {",
    )
    .and(
        PROMOTE,
        "(all && holds).then(|| format!(\"node {candidate} is promoted\"))",
        "(all || holds).then(|| format!(\"node {candidate} is promoted\"))",
    )
    .and(
        PROMOTE,
        "attempt.locks.values().all(held).then(|| \"all locks are held\".to_owned())",
        "(attempt.locks.values().all(held) || !machine.paused).then(|| \"all locks are held\".to_owned())",
    ),
    mutant(
        "a candidate that was told twice may yet heed the first order",
        PROMOTE,
        "(!doubtful).then(|| format!(\"node {candidate}: {why}\"))",
        "(!doubtful || !why.is_empty()).then(|| format!(\"node {candidate}: {why}\"))",
    ),
    mutant(
        "a candidate that was disarmed is no rival when it comes back",
        PROMOTE,
        "machine.disarmed.insert(*candidate, attempt.branch.clone());",
        "let _ = attempt;",
    ),
    mutant(
        "a lost candidate that was given up is no rival when it comes back",
        HOLD,
        "machine.disarmed.insert(candidate, attempt.branch.clone());",
        "",
    ),
    mutant(
        "a lost candidate is passed over only once it was fenced",
        HOLD,
        "matches!(machine.orders.outcome(*fence)?, Outcome::Fenced { .. })",
        "machine.orders.outcome(*fence).is_some()",
    ),
    mutant(
        "a lost candidate that is something else",
        HOLD,
        "estranged(machine, attempt, candidate)\n",
        "estranged(machine, attempt, candidate).filter(|_| false)\n",
    ),
    mutant(
        "the only candidate is not fenced while it is silent",
        HOLD,
        "refused || writable || heir(machine, attempt, candidate)",
        "refused || writable || heir(machine, attempt, candidate) || !machine.paused",
    ),
    mutant(
        "a server that leads ends a hold",
        HOLD,
        "led_by_another(machine).or_else(|| leads.map(|node| format!(\"node {node} is writable\")))",
        "led_by_another(machine).or_else(|| leads.map(|node| format!(\"node {node} is writable\"))).filter(|_| false)",
    ),
    mutant(
        "the only candidate is not fenced while its order is unresolved",
        CANDIDATE,
        "if heir(machine, attempt, *candidate) {",
        "if heir(machine, attempt, *candidate) || !machine.paused {",
    ),
    mutant(
        "nobody streams from a primary before the order is told again",
        CANDIDATE,
        "let hearing = machine.topology.standbys().find(hears)?;",
        "let hearing = machine.topology.standbys().find(hears).filter(|_| false)?;",
    ),
    mutant(
        "nobody is writable before the order is told again",
        CANDIDATE,
        "still_writable(machine, machine.state.attempt()?)",
        "still_writable(machine, machine.state.attempt()?).filter(|_| false)",
    ),
    mutant(
        "a candidate that supersedes one with standbys is looked at",
        CANDIDATE,
        "if let Some(rival) = beneath.find(|it| it.has_standbys)",
        "if let Some(rival) = beneath.find(|it| it.has_standbys && false)",
    ),
    mutant(
        "a candidate that lets nobody in after its order",
        CANDIDATE,
        "if matches!(member.state, MemberState::Unwilling { .. }) =>",
        "if matches!(member.state, MemberState::Unwilling { .. }) && machine.paused =>",
    ),
    mutant(
        "an order that was reported done is told again when it is not seen",
        CANDIDATE,
        "_ if late => Some(format!(\"node {candidate} is still a standby although promotion was reported\")),",
        "",
    ),
    // It cannot be written to either.
    mutant(
        "a new primary that is lost while it is verified, or cannot be written to",
        VERIFY,
        "(failing || changed || demoted).then(||",
        "((failing || changed || demoted) && machine.paused).then(||",
    )
    .and(
        VERIFY,
        "failed_write(machine).map(|(why, _)| why),",
        "failed_write(machine).map(|(why, _)| why).filter(|_| machine.paused),",
    ),
    mutant(
        "the new timeline is the lineage once it was seen",
        VERIFY,
        "    machine.knowledge.accept(candidate);\n",
        "",
    ),
    mutant(
        "what grew by promotions that were given up counts for nothing once another leads",
        MACHINE,
        "self.knowledge.disown(given_up, Void::GrownFrom(parent));",
        "let _ = parent;",
    ),
    mutant(
        "locks are given back after the swap",
        VERIFY,
        "machine.order(now, *node, Step::Unlock);",
        "let _ = node;",
    ),
    mutant(
        "locks are given back after an attempt that came to nothing",
        MACHINE,
        "self.order(now, *node, Step::Unlock);",
        "let _ = node;",
    ),
    mutant(
        "who was frozen for nothing is let go",
        MACHINE,
        "self.order(now, *node, Step::Unfreeze);",
        "let _ = node;",
    ),
    mutant(
        "a primary whose connections were cut is looked at as new",
        MACHINE,
        "afresh.epoch = None;",
        "",
    ),
];
