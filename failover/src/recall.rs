//! Recall: what a pgherd has shut down for a switchover, or has fenced, and did not live to bring back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_health::{Branch, Lsn, Member, MemberState, NodeId, Standing};

use crate::guards::{self, Verdict};
use crate::state::{Hold, HoldKind, State};
use crate::{CommandId, Ended, Loss, Machine, Outcome, Step};

/// The longest pause between two questions to the host of one server.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The servers that are down, and whose hosts were asked who has stopped them.
#[derive(Debug, Default)]
pub(crate) struct Recalls(BTreeMap<NodeId, Asked>);

#[derive(Clone, Copy, Debug)]
struct Asked {
    command: CommandId,
    times: u32,
}

/// Asks the hosts of servers that are down, and has come back what a pgherd has ended: beside a primary as a standby, and where
/// nobody leads and nobody can be promoted as the primary that it was, if it was shut down as that.
pub(crate) fn tend(machine: &mut Machine, now: Instant) {
    let topology = Arc::clone(&machine.topology);
    let is_down = |node: NodeId| topology.member(node).is_some_and(|it| it.state == MemberState::Refused);
    machine.recalls.0.retain(|node, _| is_down(*node));
    if machine.paused || !matches!(machine.state, State::Steady { .. } | State::Hold(_)) {
        return;
    }
    for member in topology.members.iter().filter(|member| is_down(member.node)) {
        if !is_forlorn(machine, member, now) {
            continue;
        }
        let asked = machine.recalls.0.get(&member.node).copied();
        let ended = asked.and_then(|asked| machine.orders.get(asked.command)).map(|it| it.ended.clone());
        match ended {
            Some(None) => {}
            // Whoever has ended it may only have been about to write that down.
            Some(Some((_, Outcome::Done))) if asked.is_some_and(|asked| asked.times > 1) => {}
            // What was told is acted on at once or not at all: later the server may have been up in between.
            Some(Some((at, Outcome::Recalled { branch, ended }))) if at == now => {
                come_back(machine, member, now, &branch, ended);
            }
            Some(Some((at, _))) if now < at + pause(machine, asked) => {}
            None | Some(Some(_)) => {
                let command = machine.order(now, member.node, Step::Recall);
                let times = asked.map_or(1, |asked| asked.times + 1);
                machine.recalls.0.insert(member.node, Asked { command, times });
            }
        }
    }
}

fn pause(machine: &Machine, asked: Option<Asked>) -> Duration {
    let times = asked.map_or(0, |asked| asked.times).min(8);
    LONGEST_PAUSE.min(machine.settings.retry_after * 2_u32.saturating_pow(times))
}

/// It has been down for a while, or for as long as this pgherd lives, which neither knows why nor has seen it as a standby last.
fn is_forlorn(machine: &Machine, member: &Member, now: Instant) -> bool {
    let since = member.seen.as_ref().and_then(|seen| seen.failing_since);
    let lasts = since.is_some_and(|since| now >= since + machine.settings.retry_after);
    let due = match member.report() {
        Some(report) => lasts && report.is_writable() && machine.is_ours(report),
        None => true,
    };
    let attended = machine.care.attends(member.node) || machine.orders.reshaping(member.node);
    due && machine.may_act_on(member) && !attended
}

fn come_back(machine: &mut Machine, member: &Member, now: Instant, branch: &Branch, ended: Ended) {
    let node = member.node;
    match (&machine.state, ended) {
        (State::Steady { .. }, _) => match kept(machine, branch, ended) {
            Ok(None) => machine.care.stopping(member, now),
            Ok(Some(loss)) => machine.care.keep(node, loss),
            Err(why) => machine.care.leave(node, format!("{why}: an operator must rejoin it")),
        },
        // Whoever was fenced was given up, perhaps for another that is down now: it never leads again by itself.
        (State::Hold(hold), Ended::ShutDown { .. }) if may_lead_again(machine, hold, now, node, branch) => {
            let why = "it was shut down for a switchover that came to nothing: it is started again";
            machine.happened(now, ("pgherd_start", node), Ok(why));
            machine.order(now, node, Step::Start);
        }
        _ => {}
    }
}

/// What it has that is not thrown away unasked, or why that cannot be told: of one that was shut down for another all that the primary
/// lacks, since nothing was to be lost by that, of one that was fenced more than may be lost of any false primary.
fn kept(machine: &Machine, branch: &Branch, ended: Ended) -> Result<Option<Loss>, String> {
    let lineage = machine.knowledge.accepted().map(|lineage| &lineage.branch);
    let loss = |end| lineage.and_then(|lineage| Loss::of(lineage, branch, end));
    if let Ended::Fenced { end, .. } = ended
        && let Some(loss) = loss(end)
    {
        return Ok(Some(loss).filter(|loss| loss.bytes() > machine.settings.max_data_loss));
    }
    let why = match ended {
        // A record that begins before the fork ends before it.
        Ended::ShutDown { checkpoint } if loss(checkpoint).is_some_and(|it| checkpoint < it.from) => {
            return Ok(None);
        }
        // Who was to be promoted, and was not: all that it has came from the primary.
        Ended::Fenced { end, standby: true } if lineage == Some(branch) => {
            if primary_has(machine, end) {
                return Ok(None);
            }
            "as the primary, which has not come so far"
        }
        Ended::Fenced { standby: false, .. } if lineage == Some(branch) => {
            "as the primary, though it was writable itself"
        }
        _ => "which the primary does not have",
    };
    Err(format!("it was {ended} by a pgherd, on {branch}, {why}"))
}

/// The primary has been seen there, or further.
fn primary_has(machine: &Machine, end: Lsn) -> bool {
    let State::Steady { epoch } = machine.state else { return false };
    let primary = machine.topology.member(epoch.primary);
    primary.and_then(Member::furthest).is_some_and(|furthest| furthest >= end)
}

/// Nobody can have gone on from where it was shut down: every other server answers, and is a standby of it. One that is down may have been
/// promoted, and have taken writes that nobody else has.
fn may_lead_again(machine: &Machine, hold: &Hold, now: Instant, node: NodeId, branch: &Branch) -> bool {
    let topology = &machine.topology;
    let lately = now.checked_sub(machine.settings.retry_after).unwrap_or(now);
    let follows = |member: &Member| {
        let standing = member.branch().zip(member.furthest()).map(|(of, lsn)| branch.standing_of(&of, lsn));
        member.state == MemberState::Standby
            && member.asked_since(lately)
            && standing == Some(Standing::OnLineage)
            && !topology.hears_a_primary(member)
    };
    let promoting = matches!(hold.kind, HoldKind::Ordered { .. })
        || !machine.disarmed.is_empty()
        || machine.orders.under_way().any(|placed| placed.step == Step::Promote);
    let others = topology.members.iter().filter(|member| member.node != node);
    !promoting
        && machine.unmet().is_none()
        && others.clone().count() > 0
        && others.clone().all(follows)
        && !is_outdated(machine, branch)
        && guards::one_decider(machine) == Verdict::Pass
}

/// A later timeline was seen, was served, or may have begun.
fn is_outdated(machine: &Machine, branch: &Branch) -> bool {
    let newest = machine.topology.newest.as_ref();
    newest.is_some_and(|newest| newest != branch && !branch.supersedes(newest))
        || machine.floor().is_some_and(|floor| branch.timeline < floor)
        || machine.unaccounted(branch.timeline).is_some()
}
