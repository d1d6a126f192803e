//! The mutants: each takes one safeguard away.

/// One change by hand that must not go unnoticed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    /// What is given up.
    pub(crate) without: &'static str,
    /// The file, from the root of the workspace.
    pub(crate) file: &'static str,
    /// Text that stands there once.
    pub(crate) find: &'static str,
    /// What stands there instead.
    pub(crate) replace: &'static str,
}

const fn mutant(
    without: &'static str,
    file: &'static str,
    find: &'static str,
    replace: &'static str,
) -> Mutant {
    Mutant { without, file, find, replace }
}

const GUARDS: &str = "failover/src/guards.rs";
const FREEZE: &str = "failover/src/freeze.rs";
const ELECTION: &str = "failover/src/election.rs";
const PROMOTE: &str = "failover/src/promote.rs";
const CANDIDATE: &str = "failover/src/candidate.rs";
const VERIFY: &str = "failover/src/verify.rs";
const STEADY: &str = "failover/src/steady.rs";
const DISCOVER: &str = "failover/src/discover.rs";
const CARE: &str = "failover/src/care.rs";
const RECALL: &str = "failover/src/recall.rs";
const SWITCHOVER: &str = "failover/src/switchover.rs";
const WAKING: &str = "failover/src/waking.rs";
const READING: &str = "failover/src/reading.rs";
const LEADERSHIP: &str = "health/src/leadership.rs";
const LINEAGE: &str = "health/src/lineage.rs";
const MEMBER: &str = "health/src/member.rs";
const TOPOLOGY: &str = "health/src/topology.rs";

/// All of them.
pub(crate) const MUTANTS: &[Mutant] = &[
    // Confirm.
    mutant(
        "guard (a): a primary that rejects the login is alive",
        GUARDS,
        r#"Verdict::Fail(format!("node {node} is alive: it answers \"{message}\""))"#,
        r#"{ let _ = (node, message); Verdict::Pass }"#,
    ),
    mutant(
        "guard (b): no standby hears the primary",
        GUARDS,
        "if !machine.topology.hears_a_primary(member) {",
        "if member.node.0 < u32::MAX {",
    ),
    mutant(
        "guard (b): a standby that can log in to the primary",
        GUARDS,
        r#"return Verdict::Fail(format!("node {node} can log in to the primary, pgherd cannot"));"#,
        "",
    ),
    mutant(
        "every other server has answered or is down",
        GUARDS,
        "let how = match &member.state {\n            MemberState::Unknown | MemberState::TimedOut => {",
        "let how = match &member.state {\n            _ if member.node.0 < u32::MAX => return None,\n            MemberState::Unknown | MemberState::TimedOut => {",
    ),
    mutant(
        "guard (c): enough of those whom commits waited for can be seen",
        GUARDS,
        "if have >= need {",
        "if have + 100 >= need {",
    ),
    mutant(
        "guard (d): the best candidate is near enough",
        GUARDS,
        "if behind <= machine.settings.max_data_loss {",
        "if behind <= u64::MAX - machine.settings.max_data_loss {",
    ),
    mutant(
        "guard (e): paused",
        GUARDS,
        "if machine.paused {",
        "if machine.paused && attempt.old.is_none() && attempt.old.is_some() {",
    ),
    mutant(
        "guard (e): manual",
        GUARDS,
        "if machine.settings.mode == Mode::Manual {",
        "if machine.settings.mode == Mode::Manual && machine.paused {",
    ),
    mutant(
        "guard (e): not too soon after the last one",
        GUARDS,
        "Some(end) if now < end => {",
        "Some(end) if now < end && machine.paused => {",
    ),
    mutant(
        "guard (f): a repmgrd that decides",
        GUARDS,
        "&& member.report().is_some_and(|report| report.repmgrd_decides)",
        "&& member.report().is_some_and(|report| report.repmgrd_decides && report.started_at == i64::MIN)",
    ),
    mutant(
        "a silent primary has failover.confirm to answer",
        STEADY,
        "(silence >= settings.confirm)",
        "(silence >= Duration::ZERO)",
    ),
    mutant(
        "a primary that recovers from a crash has start_grace",
        STEADY,
        "MemberState::StartingUp | MemberState::ShuttingDown if lasted >= settings.start_grace => {",
        "MemberState::StartingUp | MemberState::ShuttingDown => {",
    ),
    mutant(
        "a standby on a later timeline is a surprise",
        STEADY,
        "find(|member| member.standing == Standing::Ahead)",
        "find(|member| member.standing == Standing::Ahead && member.node.0 == u32::MAX)",
    ),
    // Freeze and Elect.
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
    // Promote.
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
    // Discover.
    mutant(
        "everybody was asked before a primary is served",
        DISCOVER,
        "find(|member| !member.asked_since(since));",
        "find(|member| !member.asked_since(since) && member.node.0 == u32::MAX);",
    ),
    mutant(
        "a primary that is only slow to start has cold_grace",
        DISCOVER,
        "if now < since + machine.settings.cold_grace && machine.chosen_branch().is_none() {",
        "if now < since {",
    ),
    mutant(
        "a false primary with much WAL of its own is not set aside",
        DISCOVER,
        "} else if *divergence > machine.settings.max_data_loss {",
        "} else if *divergence > machine.settings.max_data_loss && node.0 == u32::MAX {",
    ),
    mutant(
        "a false primary with standbys is not set aside",
        DISCOVER,
        "if *has_standbys {",
        "if *has_standbys && node.0 == u32::MAX {",
    ),
    mutant(
        "a primary that was told to stop is asked again before it is served",
        DISCOVER,
        "} else if asked_before_its_end(machine, node) {",
        "} else if asked_before_its_end(machine, node) && machine.paused {",
    ),
    mutant(
        "the next primary continues the newest timeline",
        DISCOVER,
        "any.filter(|_| machine.accepts_loss())",
        "any.filter(|_| machine.accepts_loss() || !machine.paused)",
    ),
    // What is known of the herd.
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
        "a server of another cluster is foreign",
        MEMBER,
        "right.is_some_and(|right| dated.report.system_identifier != right) => {",
        "right.is_some_and(|right| dated.report.system_identifier != right && right == 0) => {",
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
        "a WAL receiver that streams is heard",
        TOPOLOGY,
        "streams(receiving) && receiving.fresh && !known_otherwise(receiving)",
        "!streams(receiving) && receiving.fresh && !known_otherwise(receiving)",
    ),
    // What was seen before pgherd hung.
    mutant(
        "what was seen before pgherd hung is old",
        WAKING,
        "if now > self.stepped_at + HANGS {",
        "if now > self.stepped_at + HANGS * 1_000 {",
    ),
    mutant(
        "the primary itself is asked again after pgherd hung",
        GUARDS,
        "!member.asked_since(if is_old { machine.awake_since } else { attempt.began })",
        "!member.asked_since(if is_old { machine.started } else { attempt.began })",
    ),
    mutant(
        "nothing is done to a server for what it was before pgherd hung",
        CARE,
        "it.node != epoch.primary && it.asked_since(machine.awake_since);",
        "it.node != epoch.primary && it.asked_since(machine.started);",
    ),
    // What is done beside a primary, and read.
    mutant(
        "a server with more WAL of its own than max_data_loss is left to an operator",
        CARE,
        "(divergence > max_data_loss).then_some(",
        "(divergence > max_data_loss && member.node.0 == u32::MAX).then_some(",
    ),
    mutant(
        "a server that has never answered is left to an operator",
        CARE,
        "if member.report().is_none() && !is_settled {",
        "if member.report().is_none() && member.node.0 == u32::MAX {",
    ),
    mutant(
        "a switchover is given up when a guard ceases to hold",
        SWITCHOVER,
        "why.or_else(|| ceased(machine, &prospect(machine, now, epoch, to), now))\n        .or_else(",
        "why.or_else(",
    ),
    mutant(
        "the primary is stopped only when nobody is in a transaction",
        SWITCHOVER,
        "let done = machine.orders.outcome(id) == Some(&Outcome::Done);\n                done.then(|| \"no transaction is open\".to_owned())",
        "let done = machine.orders.get(id).is_some();\n                done.then(|| \"no transaction is open\".to_owned())",
    ),
    mutant(
        "only standbys on the lineage are read",
        READING,
        "here && was_standby && member.standing == Standing::OnLineage",
        "here && was_standby",
    ),
    // Recall.
    mutant(
        "a primary that was stopped is rejoined only if the next one has all of it",
        RECALL,
        "if checkpoint < switch_point =>",
        "if checkpoint.0 < u64::MAX || checkpoint < switch_point =>",
    ),
    mutant(
        "a primary that was stopped leads again only if every other server stands by",
        RECALL,
        "&& others.clone().all(follows)",
        "&& others.clone().all(|it| follows(it) || it.node.0 < u32::MAX)",
    ),
];
