//! The workers as one crew: sessions are kept together on as few threads as their load needs, since a thread that is
//! woken for each message costs more than one that finds several, and are moved apart when the load grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgherd_protocol::startup::CancelKey;
use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::sync::{Notify, mpsc};

use crate::worker::{Arrival, Inbox, WorkerId};

/// Arrivals that wait for a worker.
const ARRIVALS: usize = 1024;
/// Cancel requests of another pgherd that wait for a worker.
const CANCELS: usize = 256;
/// How often each worker says how busy it is.
pub(crate) const PULSE: Duration = Duration::from_millis(100);

/// The share of the last pulse in what counts, as one of so many: what is over at once moves nobody.
const SMOOTHING: u32 = 4;

/// Shares of a core in thousandths. A worker that uses more sends some of its sessions away...
const MUCH: u32 = 850;
/// ...to one that uses so much less...
const GAP: u32 = 250;
/// ...and two that use no more together become one.
const LITTLE: u32 = 600;
/// So many connections are handed to a worker before it has said what they cost it.
const UNWEIGHED: u32 = 64;

/// All workers, seen by those who hand something to them.
#[derive(Debug)]
pub(crate) struct Crew(Vec<Member>);

#[derive(Debug)]
struct Member {
    /// `None` once it takes nothing more.
    arrivals: Mutex<Option<mpsc::Sender<Arrival>>>,
    /// Taken as long as it has sessions.
    cancels: mpsc::Sender<CancelKey>,
    /// Every session is to look whether it is to go on. Heard as long as it has sessions.
    look: Arc<Notify>,
    connections: Arc<AtomicUsize>,
    /// The share of a core that it used of late.
    load: AtomicU32,
    /// What was handed to it since it last said so.
    unweighed: AtomicU32,
}

/// Sessions that a worker is to send away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relief {
    /// To whom.
    pub(crate) to: WorkerId,
    /// How many.
    pub(crate) sessions: usize,
}

impl Crew {
    /// So many workers, and what each receives its work from.
    pub(crate) fn new(workers: usize) -> (Arc<Self>, Vec<Inbox>) {
        let member = |_| {
            let (sender, arrivals) = mpsc::channel(ARRIVALS);
            let (cancel_sender, cancels) = mpsc::channel(CANCELS);
            let member = Member {
                arrivals: Mutex::new(Some(sender)),
                cancels: cancel_sender,
                look: Arc::default(),
                connections: Arc::default(),
                load: AtomicU32::new(0),
                unweighed: AtomicU32::new(0),
            };
            let look = Arc::clone(&member.look);
            (member, Inbox { arrivals, cancels, look })
        };
        let (members, receivers) = (0..workers).map(member).unzip();
        (Arc::new(Self(members)), receivers)
    }

    /// Connections that are served.
    pub(crate) fn connections(&self) -> usize {
        self.0.iter().map(|member| member.connections.load(Ordering::Relaxed)).sum()
    }

    /// Who takes the next connection: the first that has much time left, else the one that has most.
    pub(crate) fn next(&self) -> WorkerId {
        let has_time = |member: &Member| {
            member.load.load(Ordering::Relaxed) < LITTLE
                && member.unweighed.load(Ordering::Relaxed) < UNWEIGHED
        };
        let burden = |(_, member): &(usize, &Member)| {
            (member.load.load(Ordering::Relaxed), member.connections.load(Ordering::Relaxed))
        };
        let first = self.0.iter().position(has_time);
        let least = || self.0.iter().enumerate().min_by_key(burden).map(|(number, _)| number);
        WorkerId(first.or_else(least).unwrap_or_default())
    }

    /// Hands something to a worker, which counts it from now on; waits while too much waits for it.
    pub(crate) async fn hand(&self, to: WorkerId, arrival: impl FnOnce(Connected) -> Arrival) {
        let Some(member) = self.0.get(to.0) else { return };
        let Some(arrivals) = member.arrivals.lock().clone() else { return };
        member.unweighed.fetch_add(1, Ordering::Relaxed);
        // Whoever has ended takes nothing, and what was handed to it is dropped.
        let _ = arrivals.send(arrival(Connected::new(&member.connections))).await;
    }

    /// As [`Crew::hand`], but what the worker does not take at once comes back.
    pub(crate) fn pass_on(&self, to: WorkerId, arrival: Arrival) -> Result<(), Arrival> {
        let Some(member) = self.0.get(to.0) else { return Err(arrival) };
        let arrivals = member.arrivals.lock();
        let Some(arrivals) = &*arrivals else { return Err(arrival) };
        arrivals.try_send(arrival).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Has every session of every worker look whether it is to go on; of those that take nothing more, too.
    pub(crate) fn look(&self) {
        self.0.iter().for_each(|member| member.look.notify_one());
    }

    /// Has a worker carry out a cancel request that a neighbour has passed on.
    pub(crate) fn cancel(&self, mut key: CancelKey) {
        for member in &self.0 {
            match member.cancels.try_send(key) {
                Ok(()) => return,
                Err(error) => key = error.into_inner(),
            }
        }
        tracing::warn!(pid = key.pid, "too many cancel requests are passed on at once");
    }

    /// A count among this worker's connections.
    pub(crate) fn count(&self, worker: WorkerId) -> Connected {
        self.0.get(worker.0).map(|member| Connected::new(&member.connections)).unwrap_or_default()
    }

    /// A worker used this share of a core, in thousandths; what it should send away.
    pub(crate) fn report(&self, worker: WorkerId, load: u32) -> Option<Relief> {
        let member = self.0.get(worker.0)?;
        let before = member.load.load(Ordering::Relaxed);
        member.load.store((before * (SMOOTHING - 1) + load) / SMOOTHING, Ordering::Relaxed);
        member.unweighed.store(0, Ordering::Relaxed);
        let loads: Vec<u32> = self.0.iter().map(|member| member.load.load(Ordering::Relaxed)).collect();
        relief(worker, &loads, member.connections.load(Ordering::Relaxed))
    }

    /// A worker has nothing to do.
    pub(crate) fn rests(&self, worker: WorkerId) {
        if let Some(member) = self.0.get(worker.0) {
            member.load.store(0, Ordering::Relaxed);
            member.unweighed.store(0, Ordering::Relaxed);
        }
    }

    /// Nothing more is handed to anybody: each ends with what it has.
    pub(crate) fn close(&self) {
        self.0.iter().for_each(|member| *member.arrivals.lock() = None);
    }
}

/// What a worker with so many sessions should send away.
fn relief(worker: WorkerId, loads: &[u32], sessions: usize) -> Option<Relief> {
    let own = *loads.get(worker.0)?;
    let earlier = loads.iter().take(worker.0);
    if let Some(to) = earlier.clone().position(|load| own > 0 && load + own <= LITTLE) {
        return Some(Relief { to: WorkerId(to), sessions });
    }
    let (to, least) = loads.iter().enumerate().min_by_key(|(_, load)| **load)?;
    if own < MUCH || own - least < GAP || sessions < 2 {
        return None;
    }
    // Half of the difference, as if all sessions cost the same.
    let share = usize::try_from((own - least) / 2).ok()?;
    let sessions = (sessions * share / usize::try_from(own).ok()?).max(1);
    Some(Relief { to: WorkerId(to), sessions })
}

/// Counts a connection as its worker's as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Connected(Arc<AtomicUsize>);

impl Connected {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Measures the share of a core that the present thread uses.
#[derive(Debug)]
pub(crate) struct Effort {
    since: Instant,
    used: Duration,
}

impl Effort {
    /// From now on.
    pub(crate) fn begin() -> Self {
        Self { since: Instant::now(), used: thread_time() }
    }

    /// The share since the last measurement, in thousandths.
    pub(crate) fn measure(&mut self) -> u32 {
        let last = std::mem::replace(self, Self::begin());
        let (elapsed, used) = (self.since - last.since, self.used.saturating_sub(last.used));
        let share = used.as_micros() * 1000 / elapsed.as_micros().max(1);
        u32::try_from(share).unwrap_or(1000).min(1000)
    }
}

fn thread_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::from_secs(tv_sec.unsigned_abs()) + Duration::from_nanos(tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn sends(loads: &[u32], worker: usize, sessions: usize, expected: Option<(usize, usize)>) {
        let expected = expected.map(|(to, sessions)| Relief { to: WorkerId(to), sessions });
        assert_eq!(relief(WorkerId(worker), loads, sessions), expected, "{loads:?}");
    }

    #[test]
    fn a_worker_that_is_too_busy_sends_half_of_the_difference_to_the_one_that_is_least_so() {
        sends(&[900, 300, 0, 100], 0, 30, Some((2, 15)));
        sends(&[1000, 500], 0, 20, Some((1, 5)));
        sends(&[1000, 0], 0, 3, Some((1, 1)));
    }

    #[test]
    fn what_others_could_not_serve_better_stays() {
        sends(&[900, 700], 0, 30, None);
        sends(&[1000, 1000], 1, 30, None);
        sends(&[900, 0], 0, 1, None);
        sends(&[700, 0], 0, 30, None);
        sends(&[900], 0, 30, None);
    }

    #[test]
    fn all_are_told_to_look_though_they_take_nothing_more() {
        let (crew, mut inboxes) = Crew::new(2);
        crew.close();
        crew.look();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        for inbox in &mut inboxes {
            assert!(std::pin::pin!(inbox.look.notified()).poll(&mut cx).is_ready());
            assert!(matches!(inbox.arrivals.poll_recv(&mut cx), std::task::Poll::Ready(None)));
        }
    }

    #[test]
    fn two_with_little_to_do_become_one_and_stay_so() {
        sends(&[200, 200], 1, 8, Some((0, 8)));
        sends(&[200, 200], 0, 8, None);
        sends(&[500, 0, 100], 2, 8, Some((0, 8)));
        sends(&[400, 300], 1, 8, None);
        // What was together just now is not moved apart, nor what was apart put together.
        sends(&[LITTLE, 0], 0, 8, None);
        sends(&[MUCH / 2, MUCH / 2], 1, 8, None);
    }

    #[test]
    fn connections_go_to_the_first_that_has_time_until_they_could_be_too_many() {
        let (crew, mut receivers) = Crew::new(2);
        assert_eq!(crew.next(), WorkerId(0));
        crew.0[0].unweighed.store(UNWEIGHED, Ordering::Relaxed);
        assert_eq!(crew.next(), WorkerId(1));
        for _ in 0..20 {
            assert_eq!(crew.report(WorkerId(0), 700), None);
        }
        assert_eq!(crew.next(), WorkerId(1));
        for _ in 0..20 {
            assert_eq!(crew.report(WorkerId(1), 800), None);
        }
        assert_eq!(crew.next(), WorkerId(0), "of two that are busy the one that is less so");
        crew.close();
        receivers.iter_mut().for_each(|inbox| assert!(inbox.arrivals.try_recv().is_err()));
    }

    #[test]
    fn the_effort_of_a_thread_is_seen() {
        let mut effort = Effort::begin();
        let until = Instant::now() + Duration::from_millis(30);
        while Instant::now() < until {}
        assert!(effort.measure() > 0);
        std::thread::sleep(Duration::from_millis(30));
        assert!(effort.measure() < MUCH);
    }
}
