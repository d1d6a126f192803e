//! Steady and Suspect: the primary answers, or has just ceased to.

use std::time::{Duration, Instant};

use pgherd_health::{Leadership, MemberState, Seen, Standing};

use crate::state::{Attempt, State};
use crate::transition::{On, Transition};
use crate::{Epoch, Machine, Settings, StateName};

/// The class of SQLSTATEs of a server that lacks resources, such as free connections.
const TOO_BUSY: &str = "53";

pub(crate) const ROWS: &[Transition] = &[
    Transition {
        name: "surprised while steady",
        from: StateName::Steady,
        on: On::Any,
        guard: "the primary is not what it was, another server leads, or etcd knows of a later timeline",
        to: StateName::Discover,
        commands: "probe all at once",
        reason: "somebody else has changed the herd: look before anything is written",
        when: |machine, _| surprise(machine, machine.state.epoch()?),
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "probe failed",
        from: StateName::Steady,
        on: On::Look,
        guard: "the primary refused, was silent, starts or stops",
        to: StateName::Suspect,
        commands: "probe all at once",
        reason: "new writes wait until it is clear what happened",
        when: |machine, _| failure(machine, machine.state.epoch()?),
        then: |machine, now, _| machine.suspect(now),
    },
    Transition {
        name: "surprised while suspecting",
        from: StateName::Suspect,
        on: On::Any,
        guard: "the primary came back as something else, or another server leads",
        to: StateName::Discover,
        commands: "probe all at once",
        reason: "somebody else has promoted: follow what is seen",
        when: |machine, _| surprise(machine, machine.state.epoch()?),
        then: |machine, now, _| machine.discover(now),
    },
    Transition {
        name: "primary is back",
        from: StateName::Suspect,
        on: On::Look,
        guard: "the primary answers, on the same timeline",
        to: StateName::Steady,
        commands: "none",
        reason: "the epoch never ended",
        when: |machine, _| recovered(machine, machine.state.epoch()?),
        then: |machine, _, _| machine.resume(),
    },
    Transition {
        name: "primary given up",
        from: StateName::Suspect,
        on: On::Look,
        guard: "refused twice and not back within restart_grace, silent for confirm, starting or not known again for \
                start_grace",
        to: StateName::Confirm,
        commands: "none",
        reason: "its time is over; the guards decide whether it is replaced",
        when: given_up,
        then: |machine, now, _| {
            let (State::Suspect { epoch, since }, Some(lineage)) =
                (&machine.state, machine.knowledge.accepted())
            else {
                return;
            };
            let mut attempt = Attempt::new(Some(*epoch), Some(epoch.primary), lineage.branch.clone(), *since);
            attempt.since = now;
            machine.state = State::Confirm(attempt);
        },
    },
];

/// Why the epoch cannot go on as it was.
pub(crate) fn surprise(machine: &Machine, epoch: Epoch) -> Option<String> {
    let topology = &machine.topology;
    let node = epoch.primary;
    match &topology.leadership {
        Leadership::Primary { node: other, .. } if *other != node => {
            return Some(format!(
                "node {other} is writable on a timeline that supersedes that of node {node}"
            ));
        }
        Leadership::Contested { reason, .. } => return Some(reason.clone()),
        _ => {}
    }
    let chosen = machine.knowledge.trusted() == Some(node);
    let ahead = topology.standbys().find(|member| member.standing == Standing::Ahead);
    if let Some(ahead) = ahead.filter(|_| !chosen) {
        return Some(format!("node {} follows a later timeline than that of node {node}", ahead.node));
    }
    if let Some(why) = machine.outdated(node) {
        return Some(why);
    }
    let member = topology.member(node)?;
    match &member.state {
        MemberState::Standby => Some(format!("node {node} is in recovery now")),
        MemberState::Foreign { system_identifier } => {
            Some(format!("node {node} belongs to another cluster now ({system_identifier})"))
        }
        MemberState::Primary => {
            let accepted = machine.knowledge.accepted().map(|lineage| &lineage.branch);
            (member.branch().as_ref() != accepted).then(|| format!("node {node} has changed its timeline"))
        }
        _ => None,
    }
}

/// How the primary failed its last probe.
pub(crate) fn failure(machine: &Machine, epoch: Epoch) -> Option<String> {
    let node = epoch.primary;
    let how = match machine.topology.member(node)?.state {
        MemberState::Refused => "refuses connections",
        MemberState::TimedOut => "did not answer in time",
        MemberState::StartingUp => "is starting up",
        MemberState::ShuttingDown => "is shutting down",
        _ => return None,
    };
    Some(format!("node {node} {how}"))
}

/// The primary answers as before. An unwilling one is alive; but one that was down in between and has no such role or
/// database may be an empty cluster in its place.
pub(crate) fn recovered(machine: &Machine, epoch: Epoch) -> Option<String> {
    let member = machine.topology.member(epoch.primary)?;
    let restarted = member.seen.as_ref().is_some_and(|seen| seen.restarted);
    if !member.asked_since(machine.awake_since) {
        return None;
    }
    let alive = match &member.state {
        MemberState::Unwilling { sqlstate, .. } => !restarted || sqlstate.starts_with(TOO_BUSY),
        _ => machine.topology.leadership.primary() == Some(epoch.primary),
    };
    alive.then(|| format!("node {} answers again", epoch.primary))
}

fn given_up(machine: &Machine, now: Instant) -> Option<String> {
    let State::Suspect { epoch, since } = &machine.state else { return None };
    let member = machine.topology.member(epoch.primary)?;
    let seen = member.seen.as_ref()?;
    let settings = &machine.settings;
    // While pgherd itself hung nobody was asked.
    let awake_since = machine.awake_since;
    if let MemberState::Unwilling { message, .. } = &member.state {
        let over = now >= awake_since.max(*since) + settings.start_grace;
        return over.then(|| format!("node {} does not let pgherd in: {message}", epoch.primary));
    }
    let failing_since = seen.failing_since?.max(awake_since);
    let lasted = now.saturating_duration_since(failing_since);
    let node = epoch.primary;
    // Refusals a moment apart are one observation; probes come a little early or late.
    let apart = seen.asked_at.saturating_duration_since(seen.since.max(awake_since))
        >= settings.suspicious_interval * 4 / 5;
    let wanted = machine.wanted.is_some();
    match member.state {
        MemberState::Refused
            if seen.refusals >= 2 && apart && (wanted || lasted >= settings.restart_grace) =>
        {
            Some(format!("node {node} refused {} times in {} ms", seen.refusals, lasted.as_millis()))
        }
        MemberState::TimedOut if seen.failures >= 2 => {
            let silence = silence(seen, settings, now).min(now.saturating_duration_since(awake_since));
            (silence >= settings.confirm)
                .then(|| format!("node {node} has been silent for {} ms", silence.as_millis()))
        }
        MemberState::StartingUp | MemberState::ShuttingDown if lasted >= settings.start_grace => {
            Some(format!("node {node} has been starting or stopping for {} s", lasted.as_secs()))
        }
        _ => None,
    }
}

/// How long a server that fails has been silent: since its last answer, which the pace of the probes puts at most that long before the
/// first question that it left open.
fn silence(seen: &Seen, settings: &Settings, now: Instant) -> Duration {
    let Some(open_since) = seen.failing_since else { return Duration::ZERO };
    let earliest = open_since.checked_sub(settings.interval).unwrap_or(open_since);
    let answered = seen.report.as_ref().map_or(open_since, |dated| dated.answered_at);
    now.saturating_duration_since(answered.clamp(earliest, open_since))
}
