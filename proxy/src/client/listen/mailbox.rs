//! What a shared connection has heard for one session.

use std::io;
use std::mem;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// A client that leaves more bytes of notifications unread is sent away: PostgreSQL would keep them in a queue that others
/// need, too.
const MOST_UNREAD: usize = 1024 * 1024;

/// One a session that shares a connection.
#[derive(Debug, Default)]
pub(super) struct Mailbox(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    mark: Mark,
    /// Whole NotificationResponse messages.
    messages: Vec<u8>,
    /// Why nothing more will come.
    lost: Option<Box<str>>,
    waker: Option<Waker>,
}

/// How far the present handing over has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// The shared connection is to listen for the mark.
    #[default]
    Asked,
    /// It does, and to all channels.
    Expected,
    /// It has come.
    Passed,
}

/// Why a session hears no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::client) struct Deaf(pub(in crate::client) Box<str>);

impl From<Deaf> for io::Error {
    fn from(Deaf(cause): Deaf) -> Self {
        Self::other(String::from(cause))
    }
}

impl Mailbox {
    /// A notification for the session.
    pub(super) fn put(&self, message: &[u8]) {
        self.change(|inner| {
            if inner.messages.len() + message.len() > MOST_UNREAD {
                inner.messages = Vec::new();
                inner.lost = Some("too many notifications were left unread".into());
            }
            if inner.lost.is_none() {
                inner.messages.extend_from_slice(message);
            }
        });
    }

    pub(super) fn mark(&self, mark: Mark) {
        self.change(|inner| inner.mark = mark);
    }

    pub(super) fn lose(&self, cause: &str) {
        self.change(|inner| inner.lost = inner.lost.take().or_else(|| Some(cause.into())));
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let waker = {
            let mut inner = self.0.lock();
            change(&mut inner);
            inner.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Ready when the handing over has come so far.
    pub(super) fn poll_mark(&self, mark: Mark, cx: &Context<'_>) -> Poll<Result<(), Deaf>> {
        let mut inner = self.0.lock();
        match &inner.lost {
            Some(cause) => Poll::Ready(Err(Deaf(cause.clone()))),
            None if inner.mark >= mark => Poll::Ready(Ok(())),
            None => inner.wait(cx),
        }
    }

    /// Ready when there are notifications, which are appended to `out`.
    pub(super) fn poll_take(&self, out: &mut Vec<u8>, cx: &Context<'_>) -> Poll<Result<(), Deaf>> {
        let mut inner = self.0.lock();
        if !inner.messages.is_empty() {
            out.append(&mut mem::take(&mut inner.messages));
            return Poll::Ready(Ok(()));
        }
        match &inner.lost {
            Some(cause) => Poll::Ready(Err(Deaf(cause.clone()))),
            None => inner.wait(cx),
        }
    }
}

impl Inner {
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_told_before_the_loss_and_a_client_that_does_not_read_is_bounded() {
        let (mailbox, mut out) = (Mailbox::default(), Vec::new());
        let cx = Context::from_waker(Waker::noop());
        assert!(mailbox.poll_take(&mut out, &cx).is_pending());
        mailbox.put(b"one");
        mailbox.lose("gone");
        assert_eq!(mailbox.poll_take(&mut out, &cx), Poll::Ready(Ok(())));
        assert_eq!(mailbox.poll_take(&mut out, &cx), Poll::Ready(Err(Deaf("gone".into()))));
        assert_eq!(out, b"one");

        let mailbox = Mailbox::default();
        (0..=MOST_UNREAD / 1000).for_each(|_| mailbox.put(&[0; 1000]));
        assert!(matches!(mailbox.poll_take(&mut out, &cx), Poll::Ready(Err(_))));
    }
}
