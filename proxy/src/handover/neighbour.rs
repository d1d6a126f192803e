//! Another pgherd of this machine, met over a link: cancel requests go back and forth as long as both are there.

use std::io;
use std::sync::Arc;

use pgherd_protocol::startup::CancelKey;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{Link, Message};
use crate::cancel::{CancelKeys, Neighbour};
use crate::crew::Crew;

/// Cancel requests that wait to be passed on.
const PASSED_ON: usize = 256;
/// What was said and not yet heard: each says a handful of things.
const SAID: usize = 16;

/// What another pgherd has to do with in this one.
#[derive(Debug)]
pub(crate) struct Household {
    pub(crate) cancel_keys: Arc<CancelKeys>,
    pub(crate) crew: Arc<Crew>,
    /// Who waits for the tasks.
    pub(crate) tasks: TaskTracker,
}

/// Another pgherd. Dropped, the connection is closed.
#[derive(Debug)]
pub(crate) struct Met {
    link: Arc<Link>,
    said: mpsc::Receiver<Message>,
    _ends: DropGuard,
    /// One that was met before, and may still be there.
    older: Option<Box<Self>>,
}

impl Household {
    /// Takes cancel requests in that the other passes on, and passes others on to it, from now on.
    pub(super) fn meet(&self, link: Link, neighbour: Neighbour) -> Met {
        let link = Arc::new(link);
        let (speaker, said) = mpsc::channel(SAID);
        let (by, requests) = mpsc::channel(PASSED_ON);
        let end = CancellationToken::new();
        let (cancel_keys, crew) = (Arc::clone(&self.cancel_keys), Arc::clone(&self.crew));
        let by_hand = Hand { cancel_keys: Arc::clone(&cancel_keys), crew, neighbour };
        let exchange = exchange(Arc::clone(&link), requests, speaker, by_hand);
        let ended = end.clone();
        cancel_keys.meet(neighbour, &by);
        self.tasks.spawn(async move {
            if let Some(Err(error)) = ended.run_until_cancelled(exchange).await {
                tracing::warn!(%error, "the connection with another pgherd is broken: cancel requests are not passed on");
            }
            cancel_keys.part(neighbour, &by);
        });
        Met { link, said, _ends: end.drop_guard(), older: None }
    }
}

impl Met {
    /// Says something.
    pub(super) async fn say(&self, message: &Message) -> io::Result<()> {
        self.link.send(message).await
    }

    /// Waits until the other says this, however long it takes; false when it has ended. Cancel-safe.
    pub(super) async fn says(&mut self, message: &Message) -> bool {
        while let Some(said) = self.said.recv().await {
            if said == *message {
                return true;
            }
        }
        false
    }

    /// Keeps the connection with one that was met before as long as this one.
    pub(super) fn beside(mut self, older: Option<Self>) -> Self {
        self.older = older.map(Box::new);
        self
    }

    /// Waits until the one that was met before has ended: until then cancel requests for it may come.
    pub(crate) async fn outlive_older(&mut self) {
        if let Some(older) = &mut self.older {
            while older.said.recv().await.is_some() {}
        }
    }
}

/// What takes cancel requests in.
struct Hand {
    cancel_keys: Arc<CancelKeys>,
    crew: Arc<Crew>,
    neighbour: Neighbour,
}

impl Hand {
    fn cancel(&self, key: CancelKey) {
        if self.cancel_keys.knows(&key) {
            self.crew.cancel(key);
        } else {
            self.cancel_keys.relay(&key, self.neighbour);
        }
    }
}

async fn exchange(
    link: Arc<Link>,
    mut requests: mpsc::Receiver<CancelKey>,
    speaker: mpsc::Sender<Message>,
    hand: Hand,
) -> io::Result<()> {
    loop {
        tokio::select! {
            received = link.receive() => match received? {
                Some((Message::Cancel(key), _)) => hand.cancel(key),
                Some((message, _)) => speaker.try_send(message).map_err(|_| io::Error::other("it says too much"))?,
                None => return Ok(()),
            },
            Some(key) = requests.recv() => link.send(&Message::Cancel(key)).await?,
        }
    }
}
