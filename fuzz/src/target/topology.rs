//! Answers to probes, and the view that is derived from them.

use std::time::{Duration, Instant};

use pgherd_health::{
    Branch, Conninfo, Knowledge, Leadership, Lsn, Member, MemberState, NodeId, Position, ProbeOutcome,
    Relation, Report, TimelineId, Topology, herd, parse_history, witness,
};

use super::reports::{self, OURS};
use crate::bytes::{Bytes, text};

struct Probe {
    node: NodeId,
    asked_at: Instant,
    answered_at: Instant,
    outcome: ProbeOutcome,
}

/// Texts that servers have, or probes.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    if bytes.below(4) == 0 {
        return texts(&text(bytes.rest()));
    }
    let begun = Instant::now();
    let configured = bytes.bit().then_some(OURS);
    let mut knowledge = Knowledge::new(reports::nodes(), configured);
    let mut last: Option<Topology> = None;
    let mut now = begun;
    let mut probes: Vec<Probe> = Vec::new();
    while !bytes.is_empty() && probes.len() < 40 {
        let step = bytes.byte();
        now += Duration::from_millis(u64::from(step));
        match step % 8 {
            0 => _ = knowledge.accept(reports::server(&mut bytes)),
            1 if step & 0x80 != 0 => _ = knowledge.trust(reports::server(&mut bytes)),
            _ => {
                let node = reports::server(&mut bytes);
                let asked_at = now
                    .checked_sub(Duration::from_millis(u64::from(bytes.byte())))
                    .unwrap_or(begun)
                    .max(begun);
                let outcome = reports::outcome(&mut bytes);
                let probe = Probe { node, asked_at, answered_at: now, outcome };
                if observe(&mut knowledge, &probe, now) {
                    probes.push(probe);
                }
            }
        }
        let topology = Topology::derive(&knowledge, now, last.as_ref());
        judge(&topology, &knowledge, last.as_ref(), now);
        last = Some(topology);
    }
    in_another_order(&probes, configured, now);
}

/// A probe that was asked before the last one says nothing; false of such.
fn observe(knowledge: &mut Knowledge, probe: &Probe, now: Instant) -> bool {
    let Probe { node, asked_at, answered_at, outcome } = probe;
    let is_late = knowledge.seen(*node).is_some_and(|seen| seen.asked_at > *asked_at);
    let before = is_late.then(|| format!("{:?}", Topology::derive(knowledge, now, None)));
    let taken = knowledge.observe(*node, *asked_at, *answered_at, outcome.clone());
    if let Some(before) = before {
        assert!(!taken, "it is older than what is known");
        assert_eq!(format!("{:?}", Topology::derive(knowledge, now, None)), before);
    }
    taken
}

fn judge(topology: &Topology, knowledge: &Knowledge, last: Option<&Topology>, now: Instant) {
    let again = Topology::derive(knowledge, now, Some(topology));
    assert_eq!(again.generation, topology.generation, "nothing has changed");
    let before = last.map_or(0, |last| last.generation);
    assert!(topology.generation == before || topology.generation == before + 1);
    assert_eq!(topology.members.len(), knowledge.nodes().len());
    let right = topology.system_identifier.as_ref().ok().copied().flatten();
    for member in &topology.members {
        let is_foreign = member.report().is_some_and(|report| Some(report.system_identifier) != right);
        let is_member = matches!(member.state, MemberState::Primary | MemberState::Standby);
        assert!(!(is_foreign && is_member && right.is_some()), "{member:?} is of another cluster");
        if let Some(report) = member.report()
            && is_member
        {
            assert_eq!(report.is_writable(), member.state == MemberState::Primary);
        }
    }
    leads(topology, knowledge);
    let nodes = herd(knowledge.nodes(), knowledge.nodes(), &witness(knowledge), true);
    let ids: std::collections::BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
    assert_eq!(ids.len(), nodes.len(), "{nodes:?}");
    assert!(nodes.iter().all(|node| node.port != 0 && !node.host.contains([' ', ';'])), "{nodes:?}");
}

/// Who leads was seen to, and nobody of whom that is known has replaced it.
fn leads(topology: &Topology, knowledge: &Knowledge) {
    let writable =
        |node: NodeId| topology.member(node).is_some_and(|member| member.state == MemberState::Primary);
    for falsely in topology.leadership.false_primaries() {
        assert!(writable(falsely.node), "{falsely:?}");
    }
    match &topology.leadership {
        Leadership::Primary { node, false_primaries } => {
            assert!(writable(*node) && false_primaries.iter().all(|it| it.node != *node));
            let own = topology.member(*node).and_then(|member| member.branch()).expect("it has answered");
            let trusted = knowledge.trusts(*node, &own);
            for other in
                topology.members.iter().filter(|it| it.node != *node && it.state == MemberState::Primary)
            {
                let others = other.branch().expect("it has answered");
                assert!(
                    trusted || knowledge.disowns(other.node, &others) || !others.supersedes(&own),
                    "{others:?} {own:?}"
                );
            }
        }
        Leadership::Nobody => {
            assert!(topology.members.iter().all(|member| member.state != MemberState::Primary));
        }
        Leadership::OnlyFalse(falsely) => assert!(!falsely.is_empty()),
        Leadership::Contested { nodes, reason } => {
            assert!(nodes.iter().all(|node| writable(*node)) && !reason.is_empty());
        }
    }
    let branches: Vec<Branch> = topology.members.iter().filter_map(|member| member.branch()).collect();
    for one in &branches {
        assert_eq!(one.relation(one), Relation::Same);
        for other in &branches {
            let back = match one.relation(other) {
                Relation::Supersedes { switch_point } => Relation::SupersededBy { switch_point },
                Relation::SupersededBy { switch_point } => Relation::Supersedes { switch_point },
                same => same,
            };
            assert_eq!(other.relation(one), back, "{one:?} {other:?}");
        }
    }
}

/// What is known of one server does not depend on when another was heard, but for whether it has strayed: that is told by pairs of answers.
fn in_another_order(probes: &[Probe], configured: Option<u64>, now: Instant) {
    let derived = |ordered: &mut dyn Iterator<Item = &Probe>| {
        let mut knowledge = Knowledge::new(reports::nodes(), configured);
        for Probe { node, asked_at, answered_at, outcome } in ordered {
            knowledge.observe(*node, *asked_at, *answered_at, outcome.clone());
        }
        Topology::derive(&knowledge, now, None)
    };
    let in_order = derived(&mut probes.iter());
    let mut sorted: Vec<&Probe> = probes.iter().collect();
    sorted.sort_by_key(|probe| std::cmp::Reverse(probe.node));
    let otherwise = derived(&mut sorted.into_iter());
    assert_eq!(format!("{:?}", in_order.leadership), format!("{:?}", otherwise.leadership));
    for (one, other) in in_order.members.iter().zip(&otherwise.members) {
        for member in [one, other].into_iter().filter(|it| is_stray(it)) {
            strayed(member, probes);
        }
        if !is_stray(one) && !is_stray(other) {
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
        }
    }
}

fn is_stray(member: &Member) -> bool {
    member.seen.as_ref().is_some_and(|seen| seen.stray)
}

/// Some primary of its branch was asked after it had so much, in the run that it is in, and had written less.
fn strayed(stray: &Member, probes: &[Probe]) {
    let last = stray.report().expect("it has answered");
    let of_branch: Vec<(&Probe, &Report)> = probes
        .iter()
        .filter_map(|probe| match &probe.outcome {
            ProbeOutcome::Answered(report) => Some((probe, &**report)),
            _ => None,
        })
        .filter(|(_, it)| {
            it.system_identifier == last.system_identifier && Branch::of(it) == Branch::of(last)
        })
        .collect();
    let is_own = |probe: &Probe, it: &Report| {
        probe.node == stray.node && it.started_at == last.started_at && !it.is_writable()
    };
    let is_shown = of_branch.iter().filter(|(had, it)| is_own(had, it)).any(|(had, it)| {
        of_branch.iter().any(|(told, by)| match by.position {
            Position::Primary { insert, .. } => insert < it.furthest() && had.answered_at <= told.asked_at,
            Position::Standby { .. } => false,
        })
    });
    assert!(is_shown, "{stray:?} has not strayed");
}

/// Histories, positions and connection strings.
fn texts(text: &str) {
    for timeline in [2, 5] {
        if let Ok(history) = parse_history(TimelineId(timeline), text) {
            let entries = &history.0;
            assert!(entries.iter().all(|entry| (1..timeline).contains(&entry.timeline.0)));
            let rises = |pair: &[pgherd_health::HistoryEntry]| {
                pair[0].timeline < pair[1].timeline && pair[0].switch_point <= pair[1].switch_point
            };
            assert!(!entries.is_empty() && entries.windows(2).all(rises), "{entries:?}");
            let lines =
                entries.iter().map(|entry| format!("{}\t{}\twhy\n", entry.timeline.0, entry.switch_point));
            assert_eq!(parse_history(TimelineId(timeline), &lines.collect::<String>()), Ok(history));
        }
    }
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse(), Ok(lsn));
    }
    if let Some(conninfo) = Conninfo::parse(text) {
        let towards = conninfo.towards("pg03", 5434);
        assert_eq!(Conninfo::parse(&towards.to_string()), Some(towards.clone()), "{text:?}");
        assert_eq!(towards.host_and_port(), Some(("pg03".to_owned(), 5434)), "{text:?}");
    }
}
