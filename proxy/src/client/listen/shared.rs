//! The task of one shared connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::statement::Pin;

use super::Own;
use super::conversation::Conversation;
use super::hub::Hub;
use crate::client::TaskEnd;
use crate::client::acquire::{self, Access};
use crate::seat::Seat;
use crate::worker::{Stage, Worker};

/// Listens for all sessions of the hub, until none is left or the connection is lost.
/// `own` is the connection of the session that is the first to share it, if pgherd can have no other.
pub(super) async fn serve(worker: Rc<Worker>, hub: Arc<Hub>, own: Option<Own>) -> TaskEnd {
    // Whatever ends this, a defect too, ends the hub.
    let mut end = End { worker, hub, cause: "a defect of pgherd".into() };
    if let Err(error) = listen(&end.worker, &end.hub, own).await {
        let owner = &end.hub.owner;
        tracing::info!(database = %owner.database, user = %owner.user, %error, "sessions that listen have lost their connection");
        end.cause = error.to_string();
    }
    TaskEnd::Nothing
}

struct End {
    worker: Rc<Worker>,
    hub: Arc<Hub>,
    cause: String,
}

impl Drop for End {
    fn drop(&mut self) {
        self.worker.shared.hubs.lose(&self.hub, &self.cause);
    }
}

async fn listen(worker: &Rc<Worker>, hub: &Arc<Hub>, own: Option<Own>) -> io::Result<()> {
    let owner = &hub.owner;
    let encoding = ("client_encoding".to_owned(), owner.encoding.to_string());
    let parameters = Parameters::new(&[encoding]).map_err(|error| io::Error::other(error.message))?;
    let parameters = worker.shared.parameters.share(parameters);
    let seat = Seat::internal(&owner.database, &owner.user, &parameters);
    let mut access = Access::new(parameters, Arc::new(seat), Arc::default());
    let none = || io::Error::other("no server connection is to be had");
    let is_own = own.is_some();
    let Own { mut held, buffer } = match own {
        Some(own) => own,
        None => Own { held: access.at_once(worker).await.ok_or_else(none)?, buffer: worker.buffers.take() },
    };
    held.lease.pin(Pin::Listen);
    let connection = held.lease.connection().ok_or_else(none)?;
    if is_own {
        connection.applied = None;
    }
    let mut conversation = Conversation::new(connection, buffer);
    if is_own {
        forget_session(&mut conversation, &access, hub).await?;
    }
    loop {
        // Its sessions would hear nothing of what is told meanwhile, and not know of it.
        if worker.shared.backends.gates.is_paused(&owner.database) {
            return Err(io::Error::other("the database is paused on pgherd's console"));
        }
        while let Some(plan) = hub.plan() {
            if !conversation.run(&plan.sql, |message, channel| hub.dispatch(message, channel)).await? {
                return Err(io::Error::other("the server refused to listen"));
            }
            hub.done(plan);
        }
        if worker.shared.hubs.retire_unused(hub) {
            break;
        }
        if worker.stage() == Stage::Ending {
            return Ok(());
        }
        let mut called = pin!(hub.called.notified());
        poll_fn(|cx| {
            loop {
                match conversation.poll_notified(|message, channel| hub.dispatch(message, channel)) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            if called.as_mut().poll(cx).is_ready() || worker.stage() == Stage::Ending {
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
        .await?;
    }
    let buffer = conversation.end();
    let is_clean = buffer.filled().is_empty();
    worker.buffers.give(buffer);
    if is_clean {
        held.lease.give_back();
    }
    Ok(())
}

/// What the session has set whose connection this was is not for the others, a time-out above all.
async fn forget_session(conversation: &mut Conversation<'_>, access: &Access, hub: &Hub) -> io::Result<()> {
    let dispatch = |message: &[u8], channel: &[u8]| hub.dispatch(message, channel);
    for sql in [acquire::RESET, &*access.parameters.to_sql().unwrap_or_default()] {
        if !conversation.run(sql.as_bytes(), dispatch).await? {
            return Err(io::Error::other("the server refused to reset a connection"));
        }
    }
    Ok(())
}
