//! The life of a session after login.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use pgherd_protocol::customs::Customs;
use pgherd_protocol::error::ClientError;
use pgherd_protocol::flow::Next;
use pgherd_protocol::frame::{Frame, FrameError, frontend_header};
use pgherd_protocol::session::{Detached, Session as Machine};

use super::TaskEnd;
use super::acquire::{Access, Attempt, Failure, Held, Slow};
use super::again::Again;
use super::blocks::KeepsBlocks;
use super::home;
use super::listen::{Listening, Settling};
use super::login::LoggedIn;
use super::meter::{Meter, count, stage};
use super::own_work::HeldOver;
use super::pipe::{Filled, Pipe};
use super::reads::Reads;
use super::relay::{Event, Front, Lost};
use super::turns::{Turn, Turns};
use super::vacate::Vacating;
use super::watch::{Activity, Overdue, Watched};
use crate::cancel::Registration;
use crate::config::PoolMode;
use crate::crew::Connected;
use crate::places::Places;
use crate::reactor;
use crate::roster::Listed;
use crate::stream::Stream;
use crate::traffic::{Counter, Reason, Timed};
use crate::worker::{Stage, Worker};

/// How long a client that is sent away may take to read why.
const FAREWELL: Duration = Duration::from_millis(500);

/// A logged-in client.
pub(crate) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) front: Front,
    pub(super) watch: Watched,
    pub(super) access: Access,
    /// The key is valid, and the client counts, as long as these live.
    pub(super) registration: Registration,
    pub(super) counted: Places,
    pub(super) listed: Listed,
    pub(super) listening: Listening,
    pub(super) _connected: Connected,
}

/// A session is most of what an idle client costs (docs/operate.md says 2 KiB): what few sessions need, or none that is idle, has memory of its own.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Session>() <= 1128);

impl Session {
    pub(super) fn new(worker: Rc<Worker>, connection: (Stream, Connected), client: LoggedIn) -> Self {
        let (stream, connected) = connection;
        let LoggedIn { access, registration, counted, listed, mode, pooling } = client;
        home::count(&access, &worker);
        let front = Front {
            stream,
            up: Pipe::default(),
            down: Pipe::default(),
            machine: Machine::new(
                pooling,
                Arc::clone(&access.parameters),
                access.place(),
                (registration.key.pid, access.seat.card().id),
            ),
            meter: Meter::default(),
            ending: None,
            held_back: false,
            is_withheld: false,
            is_cancelled: false,
            held_over: HeldOver::default(),
            reads: Reads::default(),
            looks_ahead: false,
            keeps_blocks: KeepsBlocks::default(),
            reason: if mode == PoolMode::Session { Reason::Pinned } else { Reason::default() },
            has_blocks: mode != PoolMode::Statement,
            pid: registration.key.pid,
        };
        let watch = Watched::new(&worker, &access);
        Self {
            worker,
            front,
            watch,
            access,
            registration,
            counted,
            listed,
            listening: Listening::default(),
            _connected: connected,
        }
    }

    /// Serves the client until it leaves, or the session is sent to another worker. What is kept while the client is silent is small.
    pub(crate) async fn run(self: Box<Self>, turns: Rc<Turns>) -> TaskEnd {
        self.watch.begin(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
        let mut session = self;
        // Its own connection is to be heard, too.
        while session.is_at_home() || session.is_asked().await {
            let turn;
            (session, turn) = turns.run(session).await;
            if let Turn::End = turn {
                break;
            }
            // Its own connection is watched by this worker.
            if session.access.home.is_none()
                && let Some(worker) = session.worker.sends_away()
            {
                return TaskEnd::Leaves(session, worker);
            }
        }
        Box::pin(session.end()).await;
        TaskEnd::Nothing
    }

    async fn end(&mut self) {
        let farewell = poll_fn(|_| self.front.poll_flush(&self.worker.buffers));
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        self.give_up_home().await;
        tracing::debug!(peer = %self.peer(), pid = self.front.pid, "a session ended");
    }

    /// One lease: from the client's first message to the moment when the server connection can go back.
    pub(super) async fn turn(&mut self) -> Turn {
        let (mut held, mut leases) = match self.come_home() {
            Some(home) => (home, 0),
            None => match self.lease().await {
                Ok(held) => (self.begin(held), 1),
                Err(turn) => return turn,
            },
        };
        if !self.join(&mut held) {
            return Turn::Next;
        }
        if let Err(lost) = self.furnish(&mut held).await {
            return Box::pin(self.part(held, lost)).await;
        }
        loop {
            let Some(connection) = held.lease.connection() else { return Turn::Next };
            self.access.seat.hold(&connection.cancel);
            let event = self.relay(&mut held).await;
            self.access.seat.release();
            if self.front.machine.take_wrote() {
                self.access.standbys.note_written();
            }
            count(&mut self.front, (&self.access, &self.worker, &held.server), std::mem::take(&mut leases));
            self.front.meter.stop();
            match event {
                Event::OnlyListens => {
                    held = match Box::pin(self.hand_over_channels(held)).await {
                        Ok(Some(held)) => held,
                        Ok(None) => return Turn::Next,
                        Err((held, lost)) => return Box::pin(self.part(held, lost)).await,
                    };
                }
                Event::Overtaken => {
                    if let Err(lost) = Box::pin(outlives_cancel(&mut held)).await {
                        return Box::pin(self.part(held, lost)).await;
                    }
                    continue;
                }
                Event::Looks => {
                    if let Err(lost) = Box::pin(self.have_own_statements(&mut held)).await {
                        return Box::pin(self.part(held, lost)).await;
                    }
                    continue;
                }
                Event::LeavesHome => return self.leave_home(held),
                Event::Refused(_) | Event::Leaves => {
                    held = match Box::pin(self.away_from_standby(held, &event)).await {
                        Ok(held) => held,
                        Err(turn) => return turn,
                    };
                    continue;
                }
                Event::AtRest => {}
                other => return Box::pin(self.part(held, other)).await,
            }
            if self.front.machine.is_to_be_asked()
                && let Err(event) = Box::pin(self.settle(&mut held)).await
            {
                return Box::pin(self.part(held, event)).await;
            }
            if self.may_go_back() {
                return self.give_back(held).await;
            }
        }
    }

    /// Begins the lease; false if there is no connection in it.
    pub(super) fn join(&mut self, held: &mut Held) -> bool {
        let Some(connection) = held.lease.connection() else { return false };
        self.front.machine.attach(&mut connection.state);
        if !held.server.is_primary() {
            self.front.machine.read_on_standby();
        }
        connection.cancel.begin();
        self.heed();
        true
    }

    /// Takes in what texts are suspected of by now.
    pub(super) fn heed(&mut self) {
        if let Some(outlook) = &self.access.outlook {
            self.front.machine.heed(&outlook.suspects(self.worker.shared.statements.catalogue_generation()));
        }
    }

    /// True if nothing keeps the lease of a session that is at rest: no state, and nothing that the server has said behind its
    /// last answer, that it ends for one, which would be taken for the next one's words.
    fn may_go_back(&self) -> bool {
        !self.front.machine.keeps_connection() && !self.front.down.has_input()
    }

    /// Waits for a message that needs a server; false if the session ends.
    async fn is_asked(&mut self) -> bool {
        match self.request().await {
            Ok(next) => next == Next::Request,
            Err(error) => {
                self.say_violation(error);
                false
            }
        }
    }

    /// A server connection for the client's next message. `Err`: what comes instead.
    async fn lease(&mut self) -> Result<Held, Turn> {
        let asked_at = reactor::micros();
        self.access.seat.card().asked_at.store(asked_at, Ordering::Relaxed);
        if self.worker.shared.traces.is_on() {
            self.front.lead();
        }
        match self.try_standby() {
            // Its own connection need not be waited for.
            Ok(Attempt::Queued(_)) if self.access.home.is_some() => {
                self.access.seat.leave();
                self.front.reason = Reason::Connection;
            }
            Ok(attempt) => {
                // If it ends up on the primary all the same.
                self.front.reason = Reason::Connection;
                let mut held = match attempt {
                    Attempt::Held(held) => held,
                    other => Box::pin(self.wait_for(other, asked_at)).await?,
                };
                if self.access.sees_its_own(&mut held, &self.worker) {
                    return Ok(held);
                }
                held.lease.give_back();
                self.front.reason = Reason::OwnWrites;
            }
            Err(reason) => self.front.reason = reason,
        }
        let own = if self.asks_for_last() { self.access.try_own(&self.worker) } else { None };
        match own.unwrap_or_else(|| self.access.try_now(&self.worker)) {
            Attempt::Held(held) => Ok(held),
            other => {
                if self.answer_in_band() {
                    if let Attempt::Slow(Slow::Prepare(held)) = other {
                        held.lease.give_back();
                    }
                    self.access.seat.leave();
                    return Err(Turn::Next);
                }
                self.wait_for(other, asked_at).await
            }
        }
    }

    async fn wait_for(&mut self, attempt: Attempt, asked_at: u64) -> Result<Held, Turn> {
        let got = self.persist(attempt).await;
        let waited = reactor::micros() - asked_at;
        if let Some(shard) = self.access.account.shard(self.worker.id) {
            shard.add_time((Counter::WaitTime, Timed::Wait), waited, 1);
        }
        if let Some(lead) = &mut self.front.meter.lead {
            lead.waited = waited;
        }
        match got {
            Ok(held) => Ok(held),
            Err(failure) => Err(Box::pin(self.no_connection(failure)).await),
        }
    }

    /// True if the message that has come asks for the number that the session has taken last.
    fn asks_for_last(&mut self) -> bool {
        let Front { up, machine, .. } = &mut self.front;
        let (_, (input, _), _) = up.uncut();
        let header = frontend_header(input).ok().flatten();
        header.is_some_and(|header| {
            machine.asks_for_last(&Frame::new(header, input), self.worker.lookup(&self.access.sequences))
        })
    }

    /// Waits for a message that needs a server. `NeedMore` stands for the end of the session.
    async fn request(&mut self) -> Result<Next, FrameError> {
        self.watch.note(Activity::Idle, self.front.machine.rounds());
        poll_fn(|cx| {
            loop {
                let (flow, input, _) = self.front.up.uncut();
                let idle = flow.next_request(input)?;
                self.front.up.skip(idle.consumed, &self.worker.buffers);
                if idle.next != Next::NeedMore {
                    return Poll::Ready(Ok(idle.next));
                }
                if let Some(overdue) = self.watch.take_verdict() {
                    self.say_overdue(overdue);
                    return Poll::Ready(Ok(Next::NeedMore));
                }
                let stage = stage(&self.worker, &self.access);
                let front = &mut self.front;
                let is_over = stage == Stage::Ending || front.poll_flush(&self.worker.buffers).is_pending();
                if !is_over && self.listening.is_shared() {
                    match self.listening.poll_heard(front.down.append(), cx) {
                        Poll::Ready(Ok(())) => continue,
                        Poll::Ready(Err(deaf)) => {
                            self.say_deaf(&deaf);
                            return Poll::Ready(Ok(Next::NeedMore));
                        }
                        Poll::Pending => {}
                    }
                }
                let filled = if is_over {
                    Poll::Pending
                } else {
                    front.up.poll_fill(&mut front.stream, &self.worker.buffers)
                };
                match filled {
                    // What was sent before the farewell is answered yet.
                    Poll::Ready(Ok(Filled::Bytes)) => {}
                    Poll::Ready(_) => return Poll::Ready(Ok(Next::NeedMore)),
                    Poll::Pending if stage < Stage::Parting => return Poll::Pending,
                    Poll::Pending => {
                        self.say_goodbye();
                        return Poll::Ready(Ok(Next::NeedMore));
                    }
                }
            }
        })
        .await
    }

    /// Waits for a server connection, unless the client leaves or pgherd ends before.
    pub(super) async fn persist(&mut self, first: Attempt) -> Result<Held, Failure> {
        let Self { access, front, worker, watch, .. } = self;
        watch.note(Activity::Waiting, front.machine.rounds());
        let seat = Arc::clone(&access.seat);
        let gone = || {
            let ends = seat.is_dismissed() || worker.stage() == Stage::Ending;
            if ends { Poll::Ready(()) } else { front.poll_closed() }
        };
        access.persist(worker, first, gone).await
    }

    /// Answers a client for whom there is no server connection.
    async fn no_connection(&mut self, failure: Failure) -> Turn {
        match self.refusal(failure) {
            Some(error) => self.serve_detached(Detached::refusing(error)).await,
            None => Turn::End,
        }
    }

    /// What a client is told for whom there is no server connection; none if the session ends.
    pub(super) fn refusal(&mut self, failure: Failure) -> Option<ClientError> {
        let error = match failure {
            Failure::Told(error) => error,
            Failure::Refused(body) => ClientError::from_server(&body),
            Failure::Gone => {
                if stage(&self.worker, &self.access) == Stage::Ending {
                    self.say_goodbye();
                }
                return None;
            }
        };
        tracing::info!(peer = %self.peer(), error = %error.message, "a client got no server connection");
        Some(error)
    }

    async fn relay(&mut self, held: &mut Held) -> Event {
        let Self { front, worker, access, watch, listening, .. } = self;
        let mut pinned = false;
        let mut vacating = Vacating::default();
        let mut settling = Settling::default();
        let mut held_over = std::mem::take(&mut front.held_over);
        let mut again = Again::default();
        if front.machine.owes_nothing() {
            // Sent on another lease, or waited for since.
            watch.take_cancelled();
        }
        if front.machine.is_at_rest() && front.machine.pin().is_some() {
            front.reason = Reason::Pinned;
        }
        poll_fn(|cx| {
            let Some(server) = held.lease.connection() else { return Poll::Ready(Event::ClientGone) };
            front.prepare_to_look(access, worker);
            front.is_cancelled = watch.is_cancelled();
            let lent = (&worker.buffers, worker.lookup(&access.sequences));
            let event = front.poll_relay(server, lent, &held.server);
            if event.is_pending() {
                held_over.send(front, (&access.seat, worker));
                vacating.poll(&mut front.machine, (&held.server, access.user()), cx);
                if let Some(pin) = front.machine.pin_beyond_mode()
                    && !std::mem::replace(&mut pinned, true)
                {
                    held.lease.pin(pin);
                    access.seat.pin(pin);
                }
                if front.machine.take_first_to_ask() {
                    say_asked(access);
                }
                if front.machine.is_at_home() && front.machine.is_at_rest() && front.machine.take_wrote() {
                    access.standbys.note_written();
                }
                if front.is_to_be_counted() {
                    count(front, (&*access, &**worker, &held.server), 0);
                }
                if pinned && front.machine.is_at_rest() {
                    front.reason = Reason::Pinned;
                }
                let may_end = match stage(worker, access) {
                    Stage::Serving | Stage::Draining => false,
                    Stage::Parting => front.machine.is_at_rest(),
                    Stage::Ending => true,
                };
                if may_end {
                    return Poll::Ready(Event::Ending);
                }
                if settling.poll(front, listening.settled_after(), cx).is_ready() {
                    return Poll::Ready(Event::OnlyListens);
                }
                again.poll(front.is_withheld, cx);
                watch.note(Activity::of(&front.machine), front.machine.rounds());
                match watch.take_verdict() {
                    None if front.machine.owes_nothing() && watch.take_cancelled() => {
                        return Poll::Ready(Event::Overtaken);
                    }
                    None => {}
                    Some(Overdue::Running(why)) => front.machine.on_overdue(why),
                    Some(overdue) => return Poll::Ready(Event::Overdue(overdue)),
                }
            }
            event
        })
        .await
    }

    pub(super) async fn give_back(&mut self, mut held: Held) -> Turn {
        if let Some(connection) = held.lease.connection() {
            self.front.machine.detach(&mut connection.state);
            note_customs(&mut self.access, self.front.machine.customs(), &self.worker);
            if std::mem::take(&mut connection.state.parameters_lost) || self.front.machine.is_altered() {
                connection.applied = None;
            }
            // A request that is still on its way must not meet the next client.
            if !connection.cancel.is_clear() && !Box::pin(connection.cancel.cleared()).await {
                return Turn::Next;
            }
        }
        held.lease.give_back();
        Turn::Next
    }
}

/// Waits for the end of a cancel request of pgherd's own: it must not meet what comes next.
async fn outlives_cancel(held: &mut Held) -> Result<(), Event> {
    match held.lease.connection() {
        Some(connection) if !connection.cancel.cleared().await => {
            Err(Lost::because("a cancel request of pool.query_timeout may come at any time"))
        }
        _ => Ok(()),
    }
}

fn say_asked(access: &Access) {
    let (database, user) = (access.database(), access.user());
    tracing::info!(
        %database, %user,
        "a session has asked for currval() or lastval(): sessions of this database and user keep their server connections \
         from now on when they have taken a number of a sequence (pool.sequences)"
    );
}

/// From now on the session may be served where these custom parameters may be, which it has set.
pub(super) fn note_customs(access: &mut Access, customs: &Customs, worker: &Worker) {
    if customs.are_all_in(access.parameters.customs()) {
        return;
    }
    let parameters = (*access.parameters).clone().with_customs(customs);
    access.parameters = worker.shared.parameters.share(parameters);
    *access.seat.card().parameters.lock() = Arc::clone(&access.parameters);
}
