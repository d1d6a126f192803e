//! Sessions that do nothing but LISTEN hold no server connection of their own: those of one database and user share one.
//!
//! A session that has listened for a moment, and does nothing else, hands its channels over to the shared connection; with its
//! next statement it takes them back, so that whatever it says runs where it listens, as it would without pgherd. No notification is lost on the way,
//! and none is told twice: for a moment both connections listen, and pgherd sends a notification of its own, the **mark**, on
//! a channel that nobody else knows. PostgreSQL has one queue of notifications, so the mark stands at the same place for both:
//! what comes before it is told by the connection that had the channels, what comes behind it by the other.

mod conversation;
mod hub;
mod mailbox;
mod session;
mod shared;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::Arc;

use parking_lot::Mutex;

use super::acquire::Held;
use crate::buffer::Buffer;
use crate::worker::Worker;
use hub::Hub;
use mailbox::Mailbox;

pub(super) use mailbox::Deaf;
pub(super) use session::{Listening, Settling};

/// The name of a channel, or of a mark.
type Channel = Box<[u8]>;

/// Whose sessions share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    database: Arc<str>,
    user: Arc<str>,
    /// PostgreSQL sends names and payloads in the client's encoding.
    encoding: Box<str>,
}

/// All shared connections.
#[derive(Debug, Default)]
pub(crate) struct Hubs(Mutex<HashMap<Owner, Arc<Hub>>>);

impl Hubs {
    /// Has the shared connection listen to these channels, too; it is opened by this worker if there is none.
    fn join(&self, worker: &Rc<Worker>, owner: Owner, channels: Vec<Channel>, mark: Channel) -> Subscription {
        let mut hubs = self.0.lock();
        let hub = hubs.entry(owner).or_insert_with_key(|owner| {
            let hub = Arc::new(Hub::new(owner.clone()));
            worker.spawn(shared::serve(Rc::clone(worker), Arc::clone(&hub), None));
            hub
        });
        let mailbox = Arc::new(Mailbox::default());
        // Under the lock: a hub that is there has not ended.
        let number = hub.join(channels, mark, Arc::clone(&mailbox));
        Subscription { hub: Arc::clone(hub), number, mailbox }
    }

    /// Has the shared connections look whether they are to go on.
    pub(crate) fn look(&self) {
        self.0.lock().values().for_each(|hub| hub.called.notify_one());
    }

    /// True if there is a shared connection.
    fn has(&self, owner: &Owner) -> bool {
        self.0.lock().contains_key(owner)
    }

    /// Makes a session's own connection, which listens to these channels, the shared one; it comes back if there is another.
    fn found(
        &self,
        worker: &Rc<Worker>,
        owner: Owner,
        channels: Vec<Channel>,
        own: Own,
    ) -> Result<Subscription, Own> {
        let mut hubs = self.0.lock();
        let Entry::Vacant(place) = hubs.entry(owner) else { return Err(own) };
        let mailbox = Arc::new(Mailbox::default());
        let hub = Arc::new(Hub::new(place.key().clone()));
        let number = hub.found(channels, Arc::clone(&mailbox));
        place.insert(Arc::clone(&hub));
        worker.spawn(shared::serve(Rc::clone(worker), Arc::clone(&hub), Some(own)));
        Ok(Subscription { hub, number, mailbox })
    }

    /// Takes a hub out if nobody uses it: then it can end.
    fn retire_unused(&self, hub: &Hub) -> bool {
        let mut hubs = self.0.lock();
        let is_unused = hub.is_unused();
        if is_unused {
            hubs.remove(&hub.owner);
        }
        is_unused
    }

    /// Takes a hub out whose connection is lost, and tells its sessions so.
    fn lose(&self, hub: &Arc<Hub>, cause: &str) {
        {
            let mut hubs = self.0.lock();
            if hubs.get(&hub.owner).is_some_and(|known| Arc::ptr_eq(known, hub)) {
                hubs.remove(&hub.owner);
            }
        }
        hub.end(cause);
    }
}

/// A session's own connection, and what has come over it and was not looked at.
#[derive(Debug)]
struct Own {
    held: Held,
    buffer: Buffer,
}

/// A session's part in a shared connection, until it is dropped.
#[derive(Debug)]
struct Subscription {
    hub: Arc<Hub>,
    number: usize,
    mailbox: Arc<Mailbox>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.number, &self.mailbox);
    }
}

/// A mark that nobody can guess.
fn new_mark() -> Channel {
    format!("pgherd.{:032x}", rand::random::<u128>()).into_bytes().into()
}

/// Appends `command "channel";`.
fn write_command(sql: &mut Vec<u8>, command: &str, channel: &[u8]) {
    sql.extend_from_slice(command.as_bytes());
    sql.extend_from_slice(b" \"");
    for &byte in channel {
        sql.extend(std::iter::repeat_n(byte, 1 + usize::from(byte == b'"')));
    }
    sql.extend_from_slice(b"\";");
}
