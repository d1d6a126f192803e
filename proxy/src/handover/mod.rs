//! A pgherd that starts takes over from one that runs on the same machine, and no client is refused meanwhile.
//!
//! Who serves listens at a Unix socket (`runtime.handover`). Who starts gets its listening sockets there, so that what waits to be
//! accepted is accepted by one of them, whatever happens. Of the two at most one decides about the servers: the new one begins when the old
//! one has said that it has stopped, or is seen to be gone, and never because it is silent.

mod inherited;
mod link;
mod neighbour;
mod predecessor;
mod successor;

use std::future::pending;
use std::io;
use std::path::Path;

use pgherd_failover::actor::Control;
use tokio::sync::watch;

pub(crate) use inherited::Inherited;
use link::{Link, Message};
pub(crate) use neighbour::{Household, Met};
pub(crate) use predecessor::Predecessor;
use successor::Reception;
pub(crate) use successor::Sockets;

/// What taking over and handing over need of this process.
#[derive(Debug)]
pub(crate) struct Estate<'a> {
    pub(crate) household: &'a Household,
    /// The listening sockets.
    pub(crate) sockets: &'a Sockets,
    /// The control loop, which decides about the servers.
    pub(crate) control: &'a Control,
    /// Whether the sockets are accepted from.
    pub(crate) accepting: &'a watch::Sender<bool>,
}

impl Estate<'_> {
    /// Takes over from who runs at present, once `settled` is; then hands over to whoever comes, at this path. Ready when another serves
    /// and decides: this one is to finish what it has.
    ///
    /// # Errors
    /// When nobody could take over from this one, or it cannot be told whether the one before still decides.
    pub(crate) async fn pass(
        &self,
        path: Option<&Path>,
        predecessor: Option<Predecessor>,
        settled: impl Future<Output = ()>,
    ) -> io::Result<Met> {
        let Some(path) = path else { return pending().await };
        let (older, reception) = match predecessor {
            None => (None, Reception::open(path)?),
            Some(predecessor) => {
                settled.await;
                self.accepting.send_replace(true);
                let (older, reception) = predecessor.succeed(path, self).await?;
                self.sockets.own();
                tracing::info!("this pgherd has taken over; the one before finishes what it has");
                (Some(older), reception)
            }
        };
        let newer = reception.hand_over(self).await;
        Ok(newer.beside(older))
    }
}
