//! The changes of the primary, put together from the decisions of the failover machine.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::Decided;
use crate::feed::show_time;
use crate::model::{Ended, Failover, FailoverKind, Step};

/// Changes that are remembered.
const KEPT: usize = 50;
/// Steps of one that are remembered: a hold may be tried again for days.
const STEPS: usize = 100;
/// The state in which all is well.
const STEADY: &str = "Steady";
/// The state in which it is found out who is the primary.
const DISCOVER: &str = "Discover";

/// What is known of the changes.
#[derive(Debug, Default)]
pub(crate) struct Story {
    changes: VecDeque<Change>,
    last: u64,
    /// Decisions up to here are told.
    told: Option<SystemTime>,
    /// The server that took writes last.
    primary: Option<u32>,
}

#[derive(Debug)]
struct Change {
    id: u64,
    kind: FailoverKind,
    from: Option<u32>,
    to: Option<u32>,
    began: SystemTime,
    ended: Option<SystemTime>,
    closed: Option<SystemTime>,
    opened: Option<SystemTime>,
    steps: Vec<(SystemTime, String, String)>,
}

impl Story {
    /// Takes in what has been decided; what was before is passed over. True if there was something new.
    pub(crate) fn take(&mut self, decisions: &[Decided]) -> bool {
        let told = self.told;
        let mut is_new = false;
        for decided in decisions.iter().filter(|it| told.is_none_or(|told| it.at > told)) {
            self.told = Some(decided.at);
            is_new = true;
            self.decide(decided);
        }
        is_new
    }

    fn decide(&mut self, decided: &Decided) {
        let is_open = self.changes.back().is_some_and(|change| change.ended.is_none());
        if !is_open {
            if decided.to == STEADY {
                return;
            }
            self.begin(decided);
        }
        let Some(change) = self.changes.back_mut() else { return };
        if change.kind == FailoverKind::Failover && decided.to == "Switchover" {
            change.kind = FailoverKind::Switchover;
        }
        if decided.to == STEADY {
            change.ended = Some(decided.at);
        } else if change
            .steps
            .last()
            .is_some_and(|(_, state, what)| (state, what) == (&decided.to, &decided.seen))
        {
            // The same once more.
        } else {
            if change.steps.len() >= STEPS {
                // The beginning says what was wrong, the end how it was mended.
                change.steps.remove(STEPS / 2);
            }
            change.steps.push((decided.at, decided.to.clone(), decided.seen.clone()));
        }
    }

    fn begin(&mut self, decided: &Decided) {
        self.last += 1;
        let kind = match decided.from.as_str() {
            DISCOVER => FailoverKind::Start,
            _ if decided.to == "Switchover" => FailoverKind::Switchover,
            _ => FailoverKind::Failover,
        };
        if self.changes.len() == KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(Change {
            id: self.last,
            kind,
            from: self.primary,
            to: None,
            began: decided.at,
            ended: None,
            closed: None,
            opened: None,
            steps: Vec::new(),
        });
    }

    /// Writes go to this server now, or to none. True if that is news.
    pub(crate) fn writes(&mut self, node: Option<u32>, now: SystemTime) -> bool {
        self.primary = node.or(self.primary);
        let Some(change) = self.changes.back_mut() else { return false };
        match node {
            None if change.ended.is_none() && change.closed.is_none() => change.closed = Some(now),
            Some(node) if change.to.is_none() && (change.closed.is_some() || change.ended.is_some()) => {
                change.to = Some(node);
                change.opened = Some(now);
            }
            _ => return false,
        }
        true
    }

    /// All changes, the newest first.
    pub(crate) fn all(&self, now: SystemTime) -> Vec<Failover> {
        self.changes.iter().rev().map(|change| change.shown(now)).collect()
    }
}

impl Change {
    fn shown(&self, now: SystemTime) -> Failover {
        let end = self.ended.unwrap_or(now);
        let ends = self.steps.iter().skip(1).map(|(at, ..)| *at).chain([end]);
        let steps = self.steps.iter().zip(ends).map(|((at, state, what), end)| Step {
            state: state.clone(),
            began: show_time(*at),
            seconds: between(*at, end),
            what: what.clone(),
        });
        let outcome = match (self.ended, self.to) {
            (None, _) => Ended::UnderWay,
            (Some(_), to) if self.kind != FailoverKind::Start && (to.is_none() || to == self.from) => {
                Ended::GivenUp
            }
            (Some(_), _) => Ended::Done,
        };
        Failover {
            id: self.id,
            kind: self.kind,
            began: show_time(self.began),
            ended: self.ended.map(show_time),
            outcome,
            from: self.from,
            to: self.to,
            seconds: between(self.began, end),
            writes_closed_seconds: self.closed.map(|closed| between(closed, self.opened.unwrap_or(now))),
            steps: steps.collect(),
        }
    }
}

fn between(from: SystemTime, to: SystemTime) -> f64 {
    let seconds = to.duration_since(from).unwrap_or_default().as_secs_f64();
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    fn decided(milliseconds: u64, from: &str, to: &str) -> Decided {
        let seen = format!("why {to}");
        Decided { at: at(milliseconds), from: from.into(), to: to.into(), seen }
    }

    #[test]
    fn a_failover_is_told_step_by_step() {
        let mut story = Story::default();
        assert!(!story.writes(Some(0), at(1)));
        let begun = [decided(100, "Steady", "Suspect"), decided(150, "Suspect", "Confirm")];
        assert!(story.take(&begun));
        assert!(story.writes(None, at(160)) && !story.writes(None, at(170)));
        let told = &story.all(at(200))[0];
        assert_eq!(
            (told.outcome, told.seconds, told.writes_closed_seconds),
            (Ended::UnderWay, 0.1, Some(0.04))
        );
        // The same decisions are told again with those that follow.
        let more = [
            decided(300, "Confirm", "Promote"),
            decided(400, "Promote", "Swap"),
            decided(500, "Swap", "Steady"),
        ];
        assert!(story.take(&[&begun[..], &more[..]].concat()));
        assert!(story.writes(Some(1), at(410)));
        assert!(!story.take(&more));
        let all = story.all(at(9000));
        let [told] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((told.outcome, told.from, told.to), (Ended::Done, Some(0), Some(1)));
        assert_eq!((told.seconds, told.writes_closed_seconds), (0.4, Some(0.25)));
        let steps: Vec<_> = told.steps.iter().map(|step| (step.state.as_str(), step.seconds)).collect();
        assert_eq!(steps, [("Suspect", 0.05), ("Confirm", 0.15), ("Promote", 0.1), ("Swap", 0.1)]);
    }

    #[test]
    fn a_doubt_that_passes_is_given_up_and_a_switchover_is_one() {
        let mut story = Story::default();
        story.take(&[decided(1, "Steady", "Suspect"), decided(2, "Suspect", "Steady")]);
        story.take(&[decided(3, "Steady", "Switchover"), decided(4, "Switchover", "Confirm")]);
        let told: Vec<_> = story.all(at(5)).iter().map(|it| (it.kind, it.outcome)).collect();
        let (switchover, doubt) =
            ((FailoverKind::Switchover, Ended::UnderWay), (FailoverKind::Failover, Ended::GivenUp));
        assert_eq!(told, [switchover, doubt]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut story = Story::default();
        for number in 0..200 {
            story.take(&[
                decided(2 * number + 1, "Steady", "Suspect"),
                decided(2 * number + 2, "Suspect", "Steady"),
            ]);
        }
        assert_eq!(story.all(at(1000)).len(), KEPT);
        for number in 0..2 * STEPS as u64 {
            let to = if number % 2 == 0 { "Confirm" } else { "Fence" };
            story.take(&[decided(1000 + number, "Hold", to)]);
        }
        assert_eq!(story.all(at(9000))[0].steps.len(), STEPS);
    }
}
