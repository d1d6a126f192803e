//! Looking again soon, where nobody says when it is time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How soon.
const SOON: Duration = Duration::from_millis(20);

/// Has a task look again and again while it waits for something that wakes nobody.
#[derive(Debug, Default)]
pub(super) struct Again(Option<Pin<Box<Sleep>>>);

impl Again {
    /// Wakes the task soon, as long as it waits.
    pub(super) fn poll(&mut self, waits: bool, cx: &mut Context<'_>) {
        if !waits {
            self.0 = None;
            return;
        }
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep(SOON)));
        if let Poll::Ready(()) = timer.as_mut().poll(cx) {
            self.0 = None;
            cx.waker().wake_by_ref();
        }
    }
}
