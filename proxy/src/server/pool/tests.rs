use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Checkout, Pool, PoolLimits};
use crate::seat::{Seat, WaitEnd};
use crate::server::balance::Outstanding;
use crate::server::quota::{QuotaBook, SharedLimits};
use crate::worker::WorkerId;

const WORKER: WorkerId = WorkerId(0);

fn pool(wait_timeout: Duration) -> Arc<Pool> {
    let limits = PoolLimits {
        size: 1,
        min_size: 0,
        reserve_size: 0,
        reserve_after: None,
        pinned_size: 0,
        shared: SharedLimits::default(),
        wait_timeout: Some(wait_timeout),
        idle_timeout: None,
        lifetime: None,
        round_robin: false,
        rests: None,
    };
    Pool::new((limits, QuotaBook::default().of("app", "app")), Arc::new(Outstanding::default()), 1)
}

fn ask(pool: &Arc<Pool>) -> (Arc<Seat>, Checkout) {
    let seat = Arc::new(Seat::internal(&"app".into(), &"app".into(), &Arc::default()));
    let checkout = pool.check_out(WORKER, &seat, &Arc::default());
    (seat, checkout)
}

#[test]
fn a_pool_is_tended_once_and_as_long_as_somebody_waits() {
    let pool = pool(Duration::from_secs(60));
    let (_, granted) = ask(&pool);
    assert!(matches!(granted, Checkout::Granted(_)));
    let ((first, a), (second, b)) = (ask(&pool), ask(&pool));
    assert!(matches!((a, b), (Checkout::Queued, Checkout::Queued)));
    assert!(pool.begin_tending(WORKER) && !pool.begin_tending(WORKER));
    assert!(pool.tend(WORKER), "two wait");
    first.leave();
    assert!(pool.tend(WORKER) && !pool.begin_tending(WORKER), "one waits yet");
    second.leave();
    assert!(!pool.tend(WORKER), "nobody does");
    let (_third, asked) = ask(&pool);
    assert!(matches!(asked, Checkout::Queued));
    assert!(pool.begin_tending(WORKER), "it has to be told again");
}

#[test]
fn a_wait_that_takes_too_long_is_ended_and_the_pool_tended_no_more() {
    let pool = pool(Duration::ZERO);
    let (_, granted) = ask(&pool);
    let (seat, queued) = ask(&pool);
    assert!(matches!((&granted, queued), (Checkout::Granted(_), Checkout::Queued)));
    assert!(pool.begin_tending(WORKER) && !pool.tend(WORKER));
    let end = seat.poll_wait(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(end, Poll::Ready(WaitEnd::TimedOut)));
}

#[test]
fn what_is_granted_to_a_session_that_is_gone_comes_back() {
    let pool = pool(Duration::from_secs(60));
    let (_, granted) = ask(&pool);
    let (seat, queued) = ask(&pool);
    drop(seat);
    assert!(matches!((&granted, queued), (Checkout::Granted(_), Checkout::Queued)));
    // Under the lock of the pool it would wait for ever here.
    drop(granted);
    assert!(pool.is_unused() && pool.can_serve());
}
