//! The lease in etcd that one of several pgherds holds: only the holder acts on the servers.
//!
//! A key is bound to a lease that the holder renews. How long it lasts is reckoned here from before the renewal was *sent*, by
//! this machine's monotonic clock, and so is over here before it is over in etcd, whatever the network does.

mod client;
mod keeper;
mod requests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pgherd_health::Password;
use pgherd_tls::ServerTls;
use tokio::sync::{mpsc, oneshot, watch};

use crate::lease::{Candidate, Claim, Ruling};
use keeper::Keeper;

/// Requests to the keeper that may wait; whoever has one more waits for a place.
const QUEUE: usize = 64;

/// One member of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Over TLS.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// Port of its clients' URL.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl Endpoint {
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Where the lease is, and how it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdSettings {
    /// Members of one etcd.
    pub endpoints: Vec<Endpoint>,
    /// What its keys begin with.
    pub prefix: String,
    /// How long a lease lasts that is not renewed.
    pub ttl: Duration,
    /// User and password, where etcd asks for them.
    pub login: Option<(String, Password)>,
    /// How members over TLS are verified.
    pub tls: Option<Arc<ServerTls>>,
    /// Who this pgherd is, for whoever reads it in etcd. No other has this name.
    pub identity: String,
}

/// What the keeper is asked for.
#[derive(Debug)]
enum Ask {
    /// Look now; what was seen. Nothing that was known before counts. If somebody is to be told to promote, write that down.
    Check(Option<Candidate>, oneshot::Sender<Ruling>),
    /// This is the cluster.
    Cluster(u64),
    /// Hold the lease, if it can be had; or give it back, and tell these then.
    Campaign(bool, Vec<oneshot::Sender<()>>),
    /// This timeline is served.
    Record(crate::lease::Served),
}

/// The way to the keeper; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    asks: mpsc::Sender<Ask>,
    ruling: watch::Receiver<Ruling>,
}

impl Lease {
    /// The way to a keeper, which runs until nobody can ask it any more.
    pub(crate) fn keep(settings: EtcdSettings, campaigns: bool) -> (Self, impl Future<Output = ()>) {
        let (asks, asked) = mpsc::channel(QUEUE);
        let (publish, ruling) = watch::channel(Ruling::unknown());
        let keeper = Keeper::new(Arc::new(settings), campaigns, publish);
        (Self { asks, ruling }, keeper.run(asked))
    }

    /// What is known now.
    pub(crate) fn ruling(&mut self) -> Ruling {
        self.ruling.borrow_and_update().clone()
    }

    /// Ready when something else is known; never again once the keeper has ended. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        if self.ruling.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Looks whether the lease is held, before something is done; `candidate` is who is to be told to promote.
    ///
    /// # Errors
    /// Why it is not, or that it cannot be seen.
    pub(crate) async fn check(&self, candidate: Option<Candidate>) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let asked = self.asks.send(Ask::Check(candidate, reply)).await;
        match (asked, answer.await) {
            (Ok(()), Ok(Ruling { claim: Claim::Held { .. }, .. })) => Ok(()),
            (Ok(()), Ok(ruling)) => Err(ruling.claim.to_string()),
            _ => Err("the keeper of the lease has ended".to_owned()),
        }
    }

    /// Ready as soon as the lease is not held any more.
    pub(crate) async fn lost(&self) {
        let mut ruling = self.ruling.clone();
        loop {
            let until = ruling.borrow_and_update().claim.until();
            let over = async {
                if let Some(until) = until {
                    tokio::time::sleep_until(until.into()).await;
                }
            };
            tokio::select! {
                // It may have been renewed just before that end.
                biased;
                changed = ruling.changed() => if changed.is_err() { return },
                () = over => return,
            }
        }
    }

    /// Says which cluster it is about, or what is served there; nobody waits for it.
    pub(crate) fn tell_cluster(&self, system_identifier: u64) -> bool {
        self.asks.try_send(Ask::Cluster(system_identifier)).is_ok()
    }

    /// Has the timeline that is served written down.
    pub(crate) fn record(&self, served: crate::lease::Served) -> bool {
        self.asks.try_send(Ask::Record(served)).is_ok()
    }

    /// Holds the lease from now on, or gives it back. Those who wait are told when that was tried.
    pub(crate) fn campaign(&self, campaigns: bool, waiting: Vec<oneshot::Sender<()>>) {
        if self.asks.try_send(Ask::Campaign(campaigns, waiting)).is_err() {
            tracing::error!(
                campaigns,
                "the keeper of the lease is not to be reached; this is a defect of pgherd"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn held_for(time: Duration) -> Ruling {
        let claim = Claim::Held { until: Instant::now() + time };
        Ruling { claim, ..Ruling::unknown() }
    }

    /// Whoever waits for its end had no time to look in between.
    #[tokio::test]
    async fn a_lease_that_was_renewed_in_time_is_not_lost_however_late_that_is_seen() {
        const BRIEF: Duration = Duration::from_millis(20);
        for _ in 0..10 {
            let (told, ruling) = watch::channel(held_for(BRIEF));
            let lease = Lease { asks: mpsc::channel(QUEUE).0, ruling };
            let mut lost = Box::pin(lease.lost());
            let is_lost =
                tokio::select! { biased; () = &mut lost => true, () = std::future::ready(()) => false };
            assert!(!is_lost);
            let _ = told.send(held_for(Duration::from_secs(60)));
            std::thread::sleep(BRIEF * 2);
            assert!(tokio::time::timeout(BRIEF, lost).await.is_err());
        }
    }
}
