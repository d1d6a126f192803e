//! Cancel requests: the right query or none.
//!
//! A request finds its session's seat by key, and through it the server connection that the session holds at that moment. A
//! server connection with a request on its way is not lent to anybody before the request is done.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pgherd_protocol::startup::CancelKey;
use pgherd_protocol::write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use crate::seat::Seat;
use crate::server::secure::{Secured, connect_again};

/// How long a request that is passed on to another pgherd may wait for its turn.
const PASSED_ON_WITHIN: Duration = Duration::from_secs(5);
/// Clients of protocol 3.2 take keys of any length.
const LONG_KEYS_SINCE: u16 = 2;

/// How a server connection is cancelled. Shared by the connection and the requests on their way to it.
#[derive(Debug)]
pub(crate) struct CancelPoint {
    address: SocketAddr,
    /// Requests go over TLS if the connection does.
    secured: Option<Secured>,
    key: CancelKey,
    /// How long the server may take to act on a request; also how long its connection is kept from others at the most.
    timeout: Duration,
    /// Requests on their way.
    on_their_way: AtomicUsize,
    /// One of them is done.
    done: Notify,
    /// A request was sent, and whether the server has acted on it is not known: it may at any time.
    is_haunted: AtomicBool,
    /// Somebody has asked for what is done on the connection to be cancelled, since it was lent last.
    is_asked: AtomicBool,
    /// How many statements were prepared there when it was given back last.
    prepared: AtomicUsize,
}

impl CancelPoint {
    /// For a connection to `address` whose BackendKeyData was `key`; requests may take as long as `timeout`.
    pub(crate) fn new(
        (address, secured): (SocketAddr, Option<Secured>),
        key: CancelKey,
        timeout: Duration,
    ) -> Self {
        Self {
            address,
            secured,
            key,
            timeout,
            on_their_way: AtomicUsize::new(0),
            done: Notify::new(),
            is_haunted: AtomicBool::new(false),
            is_asked: AtomicBool::new(false),
            prepared: AtomicUsize::new(0),
        }
    }

    /// The server's address.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many statements were prepared there when it was given back last.
    pub(crate) fn prepared(&self) -> usize {
        self.prepared.load(Ordering::Relaxed)
    }

    /// The connection is given back, with so many prepared statements.
    #[inline]
    pub(crate) fn note_prepared(&self, prepared: usize) {
        self.prepared.store(prepared, Ordering::Relaxed);
    }

    /// How the connection was secured; none without TLS.
    pub(crate) const fn secured(&self) -> Option<&Secured> {
        self.secured.as_ref()
    }

    /// The server process behind the connection.
    pub(crate) const fn pid(&self) -> u32 {
        self.key.pid
    }

    /// The connection is lent.
    #[inline]
    pub(crate) fn begin(&self) {
        if self.is_asked.load(Ordering::Relaxed) {
            self.is_asked.store(false, Ordering::Relaxed);
        }
    }

    /// True if somebody has asked for a cancel since then.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    /// True if no request can meet the next client's query.
    pub(crate) fn is_clear(&self) -> bool {
        // A request is counted under the lock of the seat, which was taken to release the seat since: none is missed.
        self.on_their_way.load(Ordering::Acquire) == 0 && !self.is_haunted.load(Ordering::Acquire)
    }

    /// Waits until no request is on its way. The server has then acted on all of them, and an idle backend ignores
    /// them (`ProcessInterrupts()` in PostgreSQL's `tcop/postgres.c`). False if it takes too long, or cannot be told.
    pub(crate) async fn cleared(&self) -> bool {
        let none_is_left = async {
            loop {
                // Before the look at the count: from now on it is told, so that none is missed.
                let done = self.done.notified();
                if self.on_their_way.load(Ordering::Acquire) == 0 {
                    return;
                }
                done.await;
            }
        };
        tokio::time::timeout(self.timeout, none_is_left).await.is_ok() && self.is_clear()
    }

    /// Sends a request and waits until the server closes the connection, which it does after it has signalled.
    pub(crate) async fn send(&self) -> std::io::Result<()> {
        tokio::time::timeout(self.timeout, self.request()).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }

    async fn request(&self) -> std::io::Result<()> {
        let mut stream = connect_again(self.address, self.secured.as_ref()).await?;
        let unknown = Haunting(&self.is_haunted);
        stream.write_all(&write::cancel_request(&self.key)).await?;
        let mut rest = [0; 16];
        while stream.read(&mut rest).await? > 0 {}
        std::mem::forget(unknown);
        Ok(())
    }
}

/// Marks the point when a request ends, by an error or because nobody waits any more, before its server has acted on it.
struct Haunting<'a>(&'a AtomicBool);

impl Drop for Haunting<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// One request on its way.
pub(crate) struct OnItsWay(Arc<CancelPoint>);

impl OnItsWay {
    pub(crate) fn new(point: Arc<CancelPoint>) -> Self {
        point.is_asked.store(true, Ordering::Relaxed);
        point.on_their_way.fetch_add(1, Ordering::AcqRel);
        Self(point)
    }

    /// Sends it, and waits until the server has acted on it.
    pub(crate) async fn send(self) {
        if let Err(error) = self.0.send().await {
            tracing::info!(server = %self.0.address, %error, "a cancel request did not reach its server");
        }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.on_their_way.fetch_sub(1, Ordering::AcqRel);
        self.0.done.notify_waiters();
    }
}

/// Another pgherd of this machine, which may know a key that this one does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Neighbour {
    /// The one that this one has taken over from.
    Older,
    /// The one that has taken over from this one.
    Newer,
}

impl Neighbour {
    const fn of<T>(self, neighbours: &mut [T; 2]) -> &mut T {
        let [older, newer] = neighbours;
        match self {
            Self::Older => older,
            Self::Newer => newer,
        }
    }
}

/// The sessions by their keys.
#[derive(Debug, Default)]
pub(crate) struct CancelKeys {
    seats: Mutex<HashMap<CancelKey, Arc<Seat>>>,
    /// What requests for others are passed on by, to the older and to the newer.
    neighbours: Mutex<[Option<mpsc::Sender<CancelKey>>; 2]>,
}

impl CancelKeys {
    /// Registers a session under a random key that no other session has, as long as this minor version of the protocol has them,
    /// with this process id if one is given.
    pub(crate) fn register(self: &Arc<Self>, seat: &Arc<Seat>, pid: Option<u32>, minor: u16) -> Registration {
        let mut seats = self.seats.lock();
        loop {
            let random: [u8; 32] = rand::random();
            let secret = if minor < LONG_KEYS_SINCE { random.get(..4) } else { Some(&random[..]) };
            // PostgreSQL's process ids are positive.
            let pid = pid.unwrap_or_else(|| rand::random_range(1..=u32::MAX >> 1));
            let Some(key) = secret.and_then(|secret| CancelKey::new(pid, secret)) else { continue };
            if let Entry::Vacant(vacant) = seats.entry(key.clone()) {
                vacant.insert(Arc::clone(seat));
                return Registration { keys: Arc::clone(self), key };
            }
        }
    }

    /// Requests with unknown keys are passed on by this from now on.
    pub(crate) fn meet(&self, neighbour: Neighbour, by: &mpsc::Sender<CancelKey>) {
        *neighbour.of(&mut self.neighbours.lock()) = Some(by.clone());
    }

    /// They are not passed on by this any more.
    pub(crate) fn part(&self, neighbour: Neighbour, by: &mpsc::Sender<CancelKey>) {
        let mut neighbours = self.neighbours.lock();
        let present = neighbour.of(&mut neighbours);
        *present = present.take().filter(|present| !present.same_channel(by));
    }

    /// Carries out a request, of a client or passed on by a neighbour. As in PostgreSQL, nobody is told whether the key was
    /// right.
    pub(crate) async fn cancel(&self, key: CancelKey) {
        let seat = self.seats.lock().get(&key).cloned();
        let Some(seat) = seat else { return self.pass_on(key).await };
        if let Some(request) = seat.cancel() {
            request.send().await;
        }
    }
}

impl CancelKeys {
    /// True if a session of this process has it.
    pub(crate) fn knows(&self, key: &CancelKey) -> bool {
        self.seats.lock().contains_key(key)
    }

    /// Passes a request on that comes from a neighbour: along the row of them, never back.
    pub(crate) fn relay(&self, key: &CancelKey, from: Neighbour) {
        let [older, newer] = &*self.neighbours.lock();
        let onwards = match from {
            Neighbour::Older => newer,
            Neighbour::Newer => older,
        };
        let passed = onwards.as_ref().is_some_and(|by| by.try_send(key.clone()).is_ok());
        tracing::debug!(
            pid = key.pid,
            passed,
            "cancel request of another pgherd for none of this one's sessions"
        );
    }

    /// A client's request is for a session of another pgherd, or for none.
    async fn pass_on(&self, key: CancelKey) {
        let neighbours = self.neighbours.lock().clone();
        if neighbours.iter().all(Option::is_none) {
            tracing::debug!(pid = key.pid, "cancel request for a session that does not exist");
        }
        for by in neighbours.into_iter().flatten() {
            // Where so many wait that it takes longer, nobody waits for this one any more.
            let _ = by.send_timeout(key.clone(), PASSED_ON_WITHIN).await;
        }
    }
}

/// Keeps a session's key valid.
#[derive(Debug)]
pub(crate) struct Registration {
    keys: Arc<CancelKeys>,
    /// The key.
    pub(crate) key: CancelKey,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.keys.seats.lock().remove(&self.key);
    }
}
