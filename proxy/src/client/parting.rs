//! How a lease ends when it is not simply given back, and what a client is told then.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pgherd_protocol::error::{ClientError, Severity};
use pgherd_protocol::flow::Stop;
use pgherd_protocol::frame::FrameError;
use pgherd_protocol::session::{Detached, Loss, Transaction};
use pgherd_protocol::write;

use super::acquire::{Access, Held};
use super::listen::Deaf;
use super::meter::stage;
use super::pipe::Filled;
use super::relay::{Event, Lost};
use super::session::Session;
use super::turns::Turn;
use super::unserved::cancelled;
use super::watch::{Overdue, without_server};
use crate::server::connect::{Presence, look_at};
use crate::server::connection::ServerConnection;
use crate::server::table::Server;
use crate::worker::{Stage, Worker};

/// How long a look whether a server lives may take.
const LOOK: Duration = Duration::from_secs(2);

impl Session {
    /// Every end of a lease but the ordinary one.
    pub(super) async fn part(&mut self, held: Held, event: Event) -> Turn {
        match event {
            Event::AtRest => return self.give_back(held).await,
            Event::Lost(lost) => return self.lost(held, lost).await,
            Event::Overdue(Overdue::Unheard(limit)) => {
                let cause = format!(
                    "it has not acted on a cancel request within pool.cancel_wait_timeout ({limit:?})"
                );
                return self.lost(held, Lost { cause, last_error: None }).await;
            }
            Event::SentAway => {
                tracing::info!(peer = %self.peer(), "a client is sent away: its transaction took too long");
                // What it did is undone already; the rest of the answer is for nobody.
                return Turn::End;
            }
            Event::Overdue(overdue) => self.say_overdue(overdue),
            Event::Ending => self.say_goodbye(),
            Event::Block => self.say_last(
                &ClientError::new("0A000", "transaction blocks are not allowed in statement pooling mode")
                    .hint("Use pool.mode = \"transaction\" for this database or user."),
            ),
            Event::Violation(error) => self.say_violation(error),
            Event::Refused(_)
            | Event::Leaves
            | Event::LeavesHome
            | Event::ClientGone
            | Event::Terminated
            | Event::Overtaken
            | Event::OnlyListens
            | Event::Looks => {}
        }
        // The last words need not wait for the server to be cleaned.
        let _ = self.front.poll_flush(&self.worker.buffers);
        let migrated = self.front.machine.is_migrating();
        self.clean_up(held).await;
        if migrated {
            self.worker.shared.statements.renew();
            self.worker.shared.statements.renew_catalogue();
        }
        Turn::End
    }

    /// The client leaves: what it left on the server is undone, or the connection closed.
    async fn clean_up(&mut self, mut held: Held) {
        let machine = &self.front.machine;
        let Some(connection) = held.lease.connection() else { return };
        if !machine.owes_nothing() {
            // A COMMIT is left to end by itself, and so is what waits for the client: closing ends it.
            if !machine.awaits_client()
                && !machine.commits()
                && let Err(error) = connection.cancel.send().await
            {
                tracing::debug!(server = %held.server.node, %error, "a query of a client that left was not cancelled");
            }
            return;
        }
        let buffers = &self.worker.buffers;
        if machine.transaction() != Transaction::Idle
            && !matches!(connection.run_all(["ROLLBACK"], buffers).await, Ok([Ok(())]))
        {
            return;
        }
        // What was loaded into the server process stays there.
        if machine.has_loaded() {
            return;
        }
        let is_to_be_cleaned = machine.keeps_connection() || machine.is_suspect();
        if is_to_be_cleaned && self.discard(connection).await.is_none() {
            return;
        }
        self.give_back(held).await;
    }

    /// Undoes what the session has left on a connection, as far as that can be undone. None if the connection is not to be used any more.
    pub(super) async fn discard(&mut self, connection: &mut ServerConnection) -> Option<()> {
        if !matches!(connection.run_all(["DISCARD ALL"], &self.worker.buffers).await, Ok([Ok(())])) {
            return None;
        }
        connection.state.statements.clear();
        connection.applied = Some(Arc::default());
        self.find_customs(connection).await?;
        self.front.machine.on_cleaned();
        Some(())
    }

    async fn lost(&mut self, mut held: Held, lost: Lost) -> Turn {
        let node = &held.server.node;
        tracing::debug!(peer = %self.peer(), server = %node, cause = lost.cause, "a server connection was lost in use");
        self.worker.shared.doubt(node.id);
        let buffers = &self.worker.buffers;
        let front = &mut self.front;
        if front.down.flow.is_inside_message() {
            // Half of a row has gone out: nothing that could follow would be understood.
            return Turn::End;
        }
        let connection = held.lease.connection().filter(|_| front.machine.may_run_again());
        let request = connection.and_then(|connection| front.repeatable(connection));
        front.up.forget_unsent(buffers);
        front.down.forget_uncut(buffers);
        let stops = front.machine.server_stops();
        let is_silent = lost.last_error.is_none() && !stops;
        let is_to_be_looked_at = lost.is_by_order() || (request.is_some() && is_silent);
        let presence = if is_to_be_looked_at {
            Some(look(&held.server, &self.access, &self.worker).await)
        } else {
            None
        };
        let alone = lost.is_by_client() || (lost.is_by_order() && presence == Some(Presence::Serves));
        // What a cancel request was held over for gets its answer now.
        let is_cancelled = front.held_over.take();
        let goes_on = !is_cancelled && !alone && (stops || lost.is_for_all(presence));
        if let Some(request) = request.filter(|_| goes_on) {
            front.send_again(&request, buffers);
            tracing::debug!(peer = %self.peer(), server = %node, "what was read there is read anew");
            return Turn::Next;
        }
        match (front.machine.left_there(), &lost.last_error) {
            (pin, Some(body)) if pin.is_some() || alone => {
                write::message(front.down.append(), b'E', |out| out.extend_from_slice(body));
                return Turn::End;
            }
            (Some(pin), None) => {
                ClientError::new("57P01", format!("terminating connection because {node} was lost"))
                    .detail(format!("The session's state ({pin}) was on that server: {}.", lost.cause))
                    .write(front.down.append(), Severity::Fatal);
                return Turn::End;
            }
            _ => {}
        }
        let loss = Loss { server: node.to_string(), cause: lost.cause };
        let detached = front.machine.on_loss(&loss, front.down.append());
        drop(held);
        match detached {
            None if is_cancelled => self.serve_detached(Detached::refusing(cancelled())).await,
            None => Turn::Next,
            Some(detached) => self.serve_detached(detached).await,
        }
    }

    /// Answers the client without a server until it is at rest.
    pub(super) async fn serve_detached(&mut self, mut detached: Detached) -> Turn {
        let Self { front, worker, access, watch, .. } = self;
        let (buffers, statements) = (&worker.buffers, &worker.shared.statements);
        let mut overdue = None;
        let ended = poll_fn(|_| {
            loop {
                match front.poll_flush(buffers) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Ok(None)),
                    Poll::Pending => return Poll::Pending,
                }
                let (flow, input, _) = front.up.uncut();
                let cut = flow.cut_detached(
                    &mut detached,
                    &mut front.machine,
                    statements,
                    input,
                    front.down.append(),
                )?;
                front.up.skip(cut.consumed, buffers);
                if cut.stop.is_some() {
                    return Poll::Ready(Ok(cut.stop));
                }
                watch.note(without_server(front.machine.transaction()), front.machine.rounds());
                overdue = watch.take_verdict();
                if stage(worker, access) == Stage::Ending || overdue.is_some() {
                    return Poll::Ready(Ok(None));
                }
                if !front.down.is_flushed() {
                    continue;
                }
                match front.up.poll_fill(&mut front.stream, buffers) {
                    Poll::Ready(Ok(Filled::Bytes)) => {}
                    Poll::Ready(_) => return Poll::Ready(Ok(None)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        if let Some(overdue) = overdue {
            self.say_overdue(overdue);
        }
        match ended {
            Ok(Some(Stop::AtRest)) => Turn::Next,
            Ok(_) => Turn::End,
            Err(error) => {
                self.say_violation(error);
                Turn::End
            }
        }
    }

    /// What PostgreSQL says before it closes a connection that is out of step; to an impossible length it says nothing.
    pub(super) fn say_violation(&mut self, error: FrameError) {
        tracing::info!(peer = %self.peer(), %error, "a client broke the protocol");
        if let FrameError::UnknownTag(_) = error {
            self.say_last(&ClientError::new("08P01", error.to_string()));
        }
    }

    pub(super) fn say_goodbye(&mut self) {
        self.say_last(&ClientError::new("57P01", "terminating connection due to administrator command"));
    }

    pub(super) fn say_deaf(&mut self, Deaf(cause): &Deaf) {
        tracing::info!(peer = %self.peer(), cause, "a session that listens is ended");
        let error =
            ClientError::new("57P01", "terminating connection because the one that listened for it was lost");
        self.say_last(&error.detail(cause.to_string()));
    }

    pub(super) fn say_overdue(&mut self, overdue: Overdue) {
        let error = overdue.last_words();
        tracing::info!(peer = %self.peer(), pid = self.front.pid, reason = %error.message, "a client is sent away");
        self.say_last(&error);
    }

    /// In the middle of a message nothing that was said would be understood.
    fn say_last(&mut self, error: &ClientError) {
        if !self.front.down.flow.is_inside_message() {
            error.write(self.front.down.append(), Severity::Fatal);
        }
    }
}

/// Looks whether the server takes connections, so that it was no stop of the server that ended one.
async fn look(server: &Server, access: &Access, worker: &Worker) -> Presence {
    if server.is_cut() {
        return Presence::Gone;
    }
    let limit = worker.shared.config.load().pool.server_connect_timeout.min(LOOK);
    look_at(&server.node, (access.user(), access.database()), limit).await
}
