//! Whether the primary is given up, and who is found at a start.

use super::{Mutant, mutant};

const STEADY: &str = "failover/src/steady.rs";
const GUARDS: &str = "failover/src/guards.rs";
const DISCOVER: &str = "failover/src/discover.rs";
const CONFIRM: &str = "failover/src/confirm.rs";

pub(super) const MUTANTS: &[Mutant] = &[
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
        "the primary itself is asked again after pgherd hung",
        GUARDS,
        "!member.asked_since(if is_old { machine.awake_since } else { attempt.began })",
        "!member.asked_since(if is_old { machine.started } else { attempt.began })",
    ),
    mutant(
        "everybody was asked before a primary is served",
        DISCOVER,
        "find(|member| !member.asked_since(since));",
        "find(|member| !member.asked_since(since) && member.node.0 == u32::MAX);",
    ),
    mutant(
        "who has let one probe pass is asked again before a primary is served",
        DISCOVER,
        "silent_once(machine, node).filter(|_| !established(machine, node)) {",
        "silent_once(machine, node).filter(|_| !established(machine, node) && machine.paused) {",
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
    mutant(
        "every other server was asked since the primary failed",
        GUARDS,
        "Some(member) => Verdict::Wait(format!(\"node {} has not been looked at since\", member.node)),",
        "Some(_) => Verdict::Pass,",
    ),
    mutant(
        "a standby that lets nobody in may still receive",
        GUARDS,
        "MemberState::Unwilling { .. } => \"lets nobody in: it may still receive from the primary\",",
        "MemberState::Unwilling { .. } => return None,",
    ),
    mutant(
        "a standby that starts is waited for",
        GUARDS,
        "MemberState::StartingUp | MemberState::ShuttingDown if within_grace(machine, member, now) => {",
        "MemberState::StartingUp | MemberState::ShuttingDown if within_grace(machine, member, now) && false => {",
    ),
    mutant(
        "at a cold start it is not known whom commits waited for",
        GUARDS,
        "strictest.map_or(Waited::Unknown, Waited::For)",
        "strictest.map_or(Waited::Nobody, Waited::For)",
    ),
    mutant(
        "the primary is none of the standbys that its commits waited for",
        GUARDS,
        "Some(old) => these.without(&old.node_name),",
        "Some(_) => these,",
    ),
    mutant(
        "a primary that is being started again is waited for",
        GUARDS,
        "None => Verdict::Wait(format!(\"node {} is being started again\", start.node)),",
        "None => Verdict::Pass,",
    ),
    mutant("one refusal is not believed", STEADY, "if seen.refusals >= 2 && apart && (wanted", "if (wanted"),
    mutant(
        "one silence is not believed",
        STEADY,
        "MemberState::TimedOut if seen.failures >= 2 => {",
        "MemberState::TimedOut => {",
    ),
    mutant(
        "a primary that is down has restart_grace",
        STEADY,
        "(wanted || lasted >= settings.restart_grace)",
        "(wanted || lasted <= settings.restart_grace || seen.failures > 0)",
    ),
    mutant(
        "an empty cluster in the place of a primary that was down is not taken for it",
        STEADY,
        "MemberState::Unwilling { sqlstate, .. } => !restarted || sqlstate.starts_with(TOO_BUSY),",
        "MemberState::Unwilling { sqlstate, .. } => !restarted || !sqlstate.is_empty(),",
    ),
    mutant(
        "a primary that is another cluster's now is a surprise",
        STEADY,
        "Some(format!(\"node {node} belongs to another cluster now ({system_identifier})\"))",
        "{ let _ = system_identifier; None }",
    ),
    mutant(
        "a primary that is in recovery now is a surprise",
        STEADY,
        "MemberState::Standby => Some(format!(\"node {node} is in recovery now\")),",
        "",
    ),
    mutant(
        "another server that leads is a surprise",
        STEADY,
        "Leadership::Primary { node: other, .. } if *other != node => {",
        "Leadership::Primary { node: other, .. } if *other != node && node.0 == u32::MAX => {",
    ),
    mutant(
        "forks of which none supersedes the others are a surprise",
        STEADY,
        "Leadership::Contested { reason, .. } => return Some(reason.clone()),",
        "",
    ),
    // Fence.
    mutant(
        "the old primary is fenced",
        CONFIRM,
        "old.into_iter().chain(false_primaries).collect();",
        "old.into_iter().filter(|_| false).chain(false_primaries).collect();",
    ),
    mutant(
        "false primaries are fenced before a promotion",
        CONFIRM,
        "old.into_iter().chain(false_primaries).collect();",
        "old.into_iter().chain(false_primaries.filter(|_| false)).collect();",
    ),
    mutant(
        "another cluster's server in the place of the old primary is not stopped",
        CONFIRM,
        "attempt.old.filter(|old| !foreign(old));",
        "attempt.old.filter(|old| !foreign(old) || old.0 < u32::MAX);",
    ),
    mutant(
        "the fence of a server that answers is waited for",
        CONFIRM,
        "(over && !answers)",
        "(over || answers)",
    ),
    // Discover.
    mutant(
        "a promotion that has not ended is waited for",
        DISCOVER,
        "under_way(machine, |step| *step == Step::Promote) {",
        "under_way(machine, |_| false) {",
    ),
    mutant(
        "a primary of which a standby has more WAL is not served",
        DISCOVER,
        "rival.or_else(|| outdone(machine, *node))",
        "rival",
    ),
    mutant(
        "what answers first is not taken for the herd",
        DISCOVER,
        "let why = if !machine.knows_the_cluster(now) {",
        "let why = if false {",
    ),
    mutant(
        "a primary that is being stopped is not served",
        DISCOVER,
        "} else if machine.orders.unmaking(node) {",
        "} else if false {",
    ),
    // What Discover does not wait for, Confirm holds for, by guard (b).
    mutant(
        "while a standby hears a primary nobody is replaced, by Discover nor by guard (b)",
        DISCOVER,
        "topology.standbys().find(|member| topology.hears_a_primary(member)) {",
        "topology.standbys().find(|member| topology.hears_a_primary(member) && false) {",
    )
    .and(GUARDS, "if !machine.topology.hears_a_primary(member) {", "if member.node.0 < u32::MAX {"),
    mutant(
        "a fence that has not ended is waited for before a primary is replaced",
        DISCOVER,
        "under_way(machine, |step| *step == Step::Fence) {",
        "under_way(machine, |_| false) {",
    ),
    mutant(
        "a server that recovers from a crash may be the primary",
        DISCOVER,
        "if let Some(node) = recovering(machine, now) {",
        "if let Some(node) = recovering(machine, now).filter(|_| false) {",
    ),
    mutant(
        "where all that are writable are superseded, those with standbys or much WAL are an operator's to judge",
        DISCOVER,
        "Some(why) => Assessment::Stuck(why),\n            None => leaderless(machine, now),",
        "Some(why) if why.is_empty() => Assessment::Stuck(why),\n            _ => leaderless(machine, now),",
    ),
];
