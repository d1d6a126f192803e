//! Whether a thread stands still: told in the log, in the metrics, by `/healthz`, and to a service manager that watches over pgherd.
//!
//! On a thread of its own, which waits for nothing but time. A stop of the whole process (SIGSTOP, a machine that sleeps) is none of a
//! thread: what counts is how long the watchdog itself has seen the same turn.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::vitals::{Stuck, Thread, Vitals};

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// A thread that has not turned for so long is stuck: the longest turn that is known takes less than a hundredth of it.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// No more than this counts of the time between two looks: what is longer was none of the thread's.
const MOST: Duration = Duration::from_secs(2);

/// Looks until it is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// # Errors
    /// When there can be no more threads.
    pub(crate) fn start(vitals: Arc<Vitals>) -> io::Result<Self> {
        let (sender, stop) = channel();
        let watch = move || watch(&vitals, &stop, sd_notify::watchdog_enabled());
        let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
        Ok(Self { stop: Some(sender), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic was logged by the thread itself.
            drop(thread.join());
        }
    }
}

/// `patience`: what the service manager waits for a sign before it starts pgherd again.
fn watch(vitals: &Vitals, stop: &Receiver<()>, patience: Option<Duration>) {
    let interval = patience.map_or(INTERVAL, |patience| INTERVAL.min(patience / 4));
    let mut sight = Sight::default();
    while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let stuck = sight.look(vitals.turns(), Instant::now());
        for (told, is_new) in &stuck {
            if *is_new {
                tracing::error!(thread = %told.thread, "{told}; this is a defect of pgherd");
            }
        }
        let is_well = stuck.is_empty();
        vitals.tell_stuck(stuck.into_iter().map(|(stuck, _)| stuck).collect());
        if patience.is_some()
            && is_well
            && let Err(error) = sd_notify::notify(&[NotifyState::Watchdog])
        {
            tracing::warn!(%error, "the service manager cannot be told that pgherd lives");
        }
    }
}

/// What was seen at the last look.
#[derive(Debug, Default)]
struct Sight {
    at: Option<Instant>,
    threads: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    turn: Option<u64>,
    /// For how long it has been the same.
    lasts: Duration,
    is_told: bool,
}

impl Sight {
    /// Who stands still, and whether that is new.
    fn look(&mut self, turns: Vec<(Thread, Option<u64>)>, now: Instant) -> Vec<(Stuck, bool)> {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at).min(MOST));
        self.at = Some(now);
        let nothing = || Seen { turn: None, lasts: Duration::ZERO, is_told: false };
        self.threads.resize_with(turns.len(), nothing);
        let mut stuck = Vec::new();
        for (seen, (thread, turn)) in self.threads.iter_mut().zip(turns) {
            if turn.is_none() || seen.turn != turn {
                *seen = Seen { turn, ..nothing() };
                continue;
            }
            seen.lasts += since;
            if seen.lasts >= STUCK_AFTER {
                let is_new = !std::mem::replace(&mut seen.is_told, true);
                stuck.push((Stuck { thread, lasts: seen.lasts }, is_new));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks once a second, as long as `turns` has something for it.
    fn looks(turns: impl IntoIterator<Item = Option<u64>>, pause: Duration) -> Vec<Option<(u64, bool)>> {
        let (mut sight, mut now) = (Sight::default(), Instant::now());
        let mut look = |turn| {
            now += pause;
            let stuck = sight.look(vec![(Thread::Control, turn)], now);
            stuck.first().map(|(stuck, is_new)| (stuck.lasts.as_secs(), *is_new))
        };
        turns.into_iter().map(&mut look).collect()
    }

    #[test]
    fn a_thread_that_stands_still_is_told_of_once_and_goes_on_to_be_seen() {
        let told = looks([Some(1); 8], SECOND);
        assert_eq!(told[..5], [None; 5]);
        assert_eq!(told[5..], [Some((5, true)), Some((6, false)), Some((7, false))]);
    }

    #[test]
    fn one_that_turns_or_waits_to_be_woken_is_not() {
        assert!(looks((0..20).map(Some), SECOND).iter().all(Option::is_none));
        assert!(looks([None; 20], SECOND).iter().all(Option::is_none));
        let in_between = (0..20).map(|it| if it % 5 == 4 { None } else { Some(7) });
        assert!(looks(in_between, SECOND).iter().all(Option::is_none));
    }

    #[test]
    fn one_that_turns_again_is_well() {
        let told = looks([Some(1); 7].into_iter().chain([Some(2); 3]), SECOND);
        assert!(told[6].is_some() && told[7..].iter().all(Option::is_none), "{told:?}");
    }

    #[test]
    fn a_stop_of_the_whole_process_is_none_of_a_thread() {
        assert_eq!(looks([Some(1); 3], SECOND * 600), [None; 3]);
    }
}
