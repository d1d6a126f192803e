//! A session's side: when it hands its channels over, and takes them back.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pgherd_protocol::statement::Pin as Reason;
use tokio::time::{Sleep, sleep, timeout};

use super::conversation::Conversation;
use super::mailbox::{Deaf, Mark};
use super::{Channel, Own, Owner, Subscription, new_mark, write_command};
use crate::client::acquire::Held;
use crate::client::relay::{Event, Front, Lost};
use crate::client::session::Session;
use crate::stream::Stream;
use crate::worker::{Stage, Worker};

/// A session that has done nothing but listen for so long hands its channels over.
const SETTLED_AFTER: Duration = Duration::from_millis(250);
/// One that takes them back again and again waits longer each time, up to this.
const SETTLED_AFTER_AT_MOST: Duration = Duration::from_secs(60);
/// The shared connection has so long to begin to listen; the session keeps its own otherwise.
const HANDED_OVER_WITHIN: Duration = Duration::from_millis(500);
/// A server must answer what pgherd says for this within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// Where a session listens. One that does not needs no memory for it.
#[derive(Debug, Default)]
pub(in crate::client) struct Listening(Option<Box<History>>);

#[derive(Debug)]
struct History {
    /// Its part in the shared connection, if it has handed its channels over.
    subscription: Option<Subscription>,
    settled_after: Duration,
    handed_over_at: Instant,
}

impl Default for History {
    fn default() -> Self {
        Self { subscription: None, settled_after: SETTLED_AFTER, handed_over_at: Instant::now() }
    }
}

impl Listening {
    /// True if the session's channels are with the shared connection.
    pub(in crate::client) const fn is_shared(&self) -> bool {
        matches!(&self.0, Some(history) if history.subscription.is_some())
    }

    /// How long the session does nothing but listen before it hands its channels over.
    pub(in crate::client) fn settled_after(&self) -> Duration {
        self.0.as_ref().map_or(SETTLED_AFTER, |history| history.settled_after)
    }

    /// Ready when notifications for the session were appended to `out`, or when it has lost what it listened to.
    pub(in crate::client) fn poll_heard(
        &self,
        out: &mut Vec<u8>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Deaf>> {
        match self.0.as_ref().and_then(|history| history.subscription.as_ref()) {
            Some(subscription) => subscription.mailbox.poll_take(out, cx),
            None => Poll::Pending,
        }
    }

    fn put_off(&mut self) {
        let history = self.0.get_or_insert_default();
        history.settled_after = (history.settled_after * 2).min(SETTLED_AFTER_AT_MOST);
    }

    fn begin(&mut self, subscription: Option<Subscription>) {
        let history = self.0.get_or_insert_default();
        history.subscription = subscription;
        history.handed_over_at = Instant::now();
    }

    fn end(&mut self) -> Option<Subscription> {
        let history = self.0.as_mut()?;
        let subscription = history.subscription.take()?;
        if history.handed_over_at.elapsed() >= SETTLED_AFTER_AT_MOST {
            history.settled_after = SETTLED_AFTER;
        } else {
            self.put_off();
        }
        Some(subscription)
    }
}

/// What has become of a session's channels.
enum Handed {
    /// The shared connection has them, if there are any.
    Over(Option<Subscription>),
    /// The session's own connection is to be the shared one: there is no place for another.
    Own(Vec<Channel>),
    /// The session has them still.
    Not,
}

/// Waits until a session has done nothing but listen for a while.
#[derive(Debug, Default)]
pub(in crate::client) struct Settling(Option<Pin<Box<Sleep>>>);

impl Settling {
    /// Ready when it has.
    pub(in crate::client) fn poll(
        &mut self,
        front: &Front,
        after: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let only_listens = front.machine.pin() == Some(Reason::Listen)
            && front.machine.is_at_rest()
            && front.up.is_flushed()
            && !front.up.has_input()
            && front.down.is_flushed()
            && !front.down.has_input();
        if !only_listens {
            self.0 = None;
            return Poll::Pending;
        }
        self.0.get_or_insert_with(|| Box::pin(sleep(after))).as_mut().poll(cx)
    }
}

impl Session {
    /// Hands the session's channels over to the shared connection, if that can be had at once and the client wants nothing
    /// meanwhile; the session is not pinned by them afterwards. None if its own connection has become the shared one.
    pub(in crate::client) async fn hand_over_channels(
        &mut self,
        mut held: Held,
    ) -> Result<Option<Held>, (Held, Event)> {
        let Self { worker, front, access, listening, .. } = self;
        let Some(connection) = held.lease.connection() else { return Ok(Some(held)) };
        let is_serving = worker.stage() == Stage::Serving;
        // A cancel request that is still on its way would hit this.
        if !is_serving || (!connection.cancel.is_clear() && !connection.cancel.cleared().await) {
            listening.put_off();
            return Ok(Some(held));
        }
        let encoding = connection.state.parameters.get("client_encoding").cloned().unwrap_or_default();
        let owner =
            Owner { database: Arc::clone(access.database()), user: Arc::clone(access.user()), encoding };
        let gives_own = !worker.shared.hubs.has(&owner) && !access.can_be_served_now(worker);
        let mut told = Vec::new();
        let mut conversation = Conversation::new(connection, worker.buffers.take());
        let handed = async {
            let tell = |message: &[u8], _: &[u8]| told.extend_from_slice(message);
            let Some(channels) = conversation.channels(tell).await? else { return Ok(Handed::Not) };
            if channels.is_empty() {
                return Ok(Handed::Over(None));
            }
            if gives_own {
                return Ok(if front.machine.is_altered() { Handed::Not } else { Handed::Own(channels) });
            }
            hand_over(worker, (owner.clone(), channels), &mut conversation, &mut front.stream, &mut told)
                .await
        };
        let handed = timeout(TOLD_WITHIN, handed).await.unwrap_or_else(|_| Err(late()));
        let buffer = conversation.end();
        front.machine.on_own_query();
        front.down.append().extend_from_slice(&told);
        let subscription = match handed {
            Ok(Handed::Own(channels)) => return Ok(self.give_own((owner, channels), Own { held, buffer })),
            Ok(Handed::Over(subscription)) if buffer.filled().is_empty() => Ok(Some(subscription)),
            Ok(Handed::Over(_)) => Err(Lost::because("the server told of what nobody listens to")),
            Ok(Handed::Not) => Ok(None),
            Err(error) => Err(Lost::because(error)),
        };
        front.down.take_over(buffer, &worker.buffers);
        match subscription {
            Ok(Some(subscription)) => self.begin_to_share(subscription),
            Ok(None) => self.listening.put_off(),
            Err(event) => return Err((held, event)),
        }
        Ok(Some(held))
    }

    /// The session's own connection becomes the shared one, unless there is one meanwhile.
    fn give_own(&mut self, (owner, channels): (Owner, Vec<Channel>), mut own: Own) -> Option<Held> {
        if let Some(connection) = own.held.lease.connection() {
            self.front.machine.detach(&mut connection.state);
        }
        match self.worker.shared.hubs.found(&self.worker, owner, channels, own) {
            Ok(subscription) => {
                self.begin_to_share(Some(subscription));
                None
            }
            Err(Own { held, buffer }) => {
                self.front.down.take_over(buffer, &self.worker.buffers);
                self.listening.put_off();
                Some(held)
            }
        }
    }

    fn begin_to_share(&mut self, subscription: Option<Subscription>) {
        let (peer, pid) = (self.peer(), self.front.pid);
        tracing::debug!(%peer, pid, shared = subscription.is_some(), "channels were handed over");
        self.listening.begin(subscription);
        self.front.machine.listens_elsewhere();
    }

    /// Has the session listen on the connection that it holds, as if it had never done so anywhere else.
    pub(in crate::client) async fn take_channels_back(&mut self, held: &mut Held) -> Result<(), Event> {
        let Self { worker, front, access, listening, .. } = self;
        let Some(subscription) = listening.end() else { return Ok(()) };
        // From now on the loss of the connection is the loss of what it listens to.
        front.machine.listens_here();
        held.lease.pin(Reason::Listen);
        let Some(connection) = held.lease.connection() else { return Ok(()) };
        let mut conversation = Conversation::new(connection, worker.buffers.take());
        let mut behind = Vec::new();
        let taken = take_back(&subscription, &mut conversation, &mut behind);
        // A cancel request that comes meanwhile is for the statement that waits for it.
        access.seat.begin_work();
        let taken = timeout(TOLD_WITHIN, taken).await.unwrap_or_else(|_| Err(late()));
        front.held_over.add(access.seat.end_work());
        // All that came before the mark has come.
        let _ = subscription.mailbox.poll_take(front.down.append(), &Context::from_waker(Waker::noop()));
        front.down.append().extend_from_slice(&behind);
        front.down.take_over(conversation.end(), &worker.buffers);
        taken.map_err(Lost::because)
    }
}

/// Begins to listen at the shared connection, and ends it at the session's own. `told` is what the client is to be told
/// of the latter.
async fn hand_over(
    worker: &Rc<Worker>,
    (owner, channels): (Owner, Vec<Channel>),
    conversation: &mut Conversation<'_>,
    client: &mut Stream,
    told: &mut Vec<u8>,
) -> io::Result<Handed> {
    let mark = new_mark();
    let subscription = worker.shared.hubs.join(worker, owner, channels, mark.clone());
    let is_expected = poll_fn(|cx| {
        // This registers the task for what the client sends, too.
        let is_closed = client.poll_closed().is_ready();
        if is_closed || !client.is_quiet() {
            return Poll::Ready(false);
        }
        subscription.mailbox.poll_mark(Mark::Expected, cx).map(|expected| expected.is_ok())
    });
    if !timeout(HANDED_OVER_WITHIN, is_expected).await.unwrap_or(false) {
        return Ok(Handed::Not);
    }
    let before = |is_behind: bool, message: &[u8]| {
        if !is_behind {
            told.extend_from_slice(message);
        }
    };
    if !conversation.pass_mark(&mark, before).await? {
        // The session goes on to listen for itself.
        let mut unlisten = Vec::new();
        write_command(&mut unlisten, "UNLISTEN", &mark);
        conversation.run(&unlisten, |message, _| told.extend_from_slice(message)).await?;
        return Ok(Handed::Not);
    }
    if !conversation.run(b"UNLISTEN *", |_, _| ()).await? {
        return Err(refused());
    }
    Ok(Handed::Over(Some(subscription)))
}

/// Begins to listen at the session's own connection, and ends it at the shared one. `behind` is what the client is to be told
/// of the former.
async fn take_back(
    subscription: &Subscription,
    conversation: &mut Conversation<'_>,
    behind: &mut Vec<u8>,
) -> io::Result<()> {
    let until = |mark| poll_fn(move |cx| subscription.mailbox.poll_mark(mark, cx));
    let mark = new_mark();
    let channels = subscription.hub.expect_end(subscription.number, mark.clone());
    until(Mark::Expected).await?;
    let mut listen = Vec::new();
    channels.iter().for_each(|channel| write_command(&mut listen, "LISTEN", channel));
    let mut keep = |message: &[u8]| behind.extend_from_slice(message);
    let mut unlisten = Vec::new();
    write_command(&mut unlisten, "UNLISTEN", &mark);
    let is_done = conversation.run(&listen, |_, _| ()).await?
        && conversation
            .pass_mark(&mark, |is_behind, message| {
                if is_behind {
                    keep(message);
                }
            })
            .await?
        && conversation.run(&unlisten, |message, _| keep(message)).await?;
    if !is_done {
        return Err(refused());
    }
    Ok(until(Mark::Passed).await?)
}

fn refused() -> io::Error {
    io::Error::other("the server refused to listen")
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "what the session listens to could not be handed on in time")
}
