//! Holds the lease: takes it, renews it, looks at it, gives it back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};
use tracing::{info, warn};

use super::client::{Client, Failure};
use super::requests::{Keys, View};
use super::{Ask, EtcdSettings};
use crate::lease::{Candidate, Claim, Ruling, Served};

/// The longest and the shortest time between two looks.
const PACE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The lease of this pgherd.
#[derive(Debug)]
struct Own {
    number: String,
    /// When it is over, if it is not renewed.
    until: Instant,
}

/// The task that holds the lease.
pub(super) struct Keeper {
    settings: Arc<EtcdSettings>,
    client: Client,
    keys: Option<Keys>,
    cluster: Option<u64>,
    campaigns: bool,
    own: Option<Own>,
    served: Option<Served>,
    /// Who is about to be told to promote, until that is written down.
    candidate: Option<Candidate>,
    publish: watch::Sender<Ruling>,
}

impl Keeper {
    pub(super) fn new(settings: Arc<EtcdSettings>, campaigns: bool, publish: watch::Sender<Ruling>) -> Self {
        let client = Client::new(Arc::clone(&settings));
        Self {
            settings,
            client,
            keys: None,
            cluster: None,
            campaigns,
            own: None,
            served: None,
            candidate: None,
            publish,
        }
    }

    /// Runs until nobody can ask any more; gives the lease back then.
    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        let pace = (self.settings.ttl / 10).clamp(PACE.0, PACE.1);
        let mut next = Instant::now();
        loop {
            let ask = tokio::select! {
                ask = asked.recv() => match ask {
                    Some(ask) => Some(ask),
                    None => break,
                },
                () = sleep_until(next.into()) => None,
            };
            // One look answers all who have asked before it.
            let mut checks = Vec::new();
            let (mut given_back, mut looks) = (Vec::new(), ask.is_none());
            let mut pending = ask;
            while let Some(ask) = pending.take() {
                looks |= self.heed(ask, &mut checks, &mut given_back);
                pending = asked.try_recv().ok();
            }
            if looks {
                self.look().await;
                next = Instant::now() + pace;
            }
            for reply in checks {
                let _ = reply.send(self.publish.borrow().clone());
            }
            for reply in given_back {
                let _ = reply.send(());
            }
        }
        self.campaigns = false;
        self.look().await;
    }

    /// Takes a request in; true if it calls for a look now.
    fn heed(
        &mut self,
        ask: Ask,
        checks: &mut Vec<oneshot::Sender<Ruling>>,
        done: &mut Vec<oneshot::Sender<()>>,
    ) -> bool {
        match ask {
            Ask::Check(candidate, reply) => {
                self.candidate = candidate.or_else(|| self.candidate.take());
                checks.push(reply);
            }
            Ask::Campaign(campaigns, waiting) => {
                self.campaigns = campaigns;
                done.extend(waiting);
            }
            Ask::Cluster(cluster) if self.cluster != Some(cluster) => {
                self.cluster = Some(cluster);
                self.keys = Some(Keys::of(&self.settings.prefix, cluster));
                // The lease is that of another cluster: it runs out.
                self.own = None;
            }
            Ask::Record(served) if self.served != Some(served) => self.served = Some(served),
            Ask::Cluster(_) | Ask::Record(_) => return false,
        }
        true
    }

    /// Asks etcd, and makes known what it says.
    async fn look(&mut self) {
        let Some(keys) = self.keys.clone() else { return };
        let seen = match timeout(self.settings.patience(), self.turn(&keys)).await {
            Ok(seen) => seen,
            Err(_) => Err(Failure::Unreachable("no answer in time".to_owned())),
        };
        // What was not written down now is not done.
        self.candidate = None;
        let before = self.publish.borrow().clone();
        let ruling = match seen {
            Ok(view) => Ruling {
                claim: self.claim(&view),
                cluster: self.cluster,
                floor: view.timeline.map(|(timeline, _)| timeline),
                own_candidate: view.candidate.as_ref().is_some_and(|(_, by)| *by == self.settings.identity),
                candidate: view.candidate.map(|(candidate, _)| candidate),
            },
            Err(failure) => {
                let until = self.own.as_ref().map(|own| own.until);
                let claim = Claim::Unreachable { why: failure.to_string(), until };
                Ruling { claim, cluster: self.cluster, ..before.clone().of(self.cluster) }
            }
        };
        tell(&before.claim, &ruling.claim);
        self.publish.send_if_modified(|known| {
            let changes = *known != ruling;
            *known = ruling;
            changes
        });
    }

    fn claim(&self, view: &View) -> Claim {
        match (&self.own, &view.holder) {
            (Some(own), _) if view.is_ours => Claim::Held { until: own.until },
            (_, Some(holder)) => Claim::Other(holder.clone()),
            (_, None) => Claim::Nobody,
        }
    }

    /// One look. A lease that turns out to be gone, or not to hold the key, is forgotten.
    async fn turn(&mut self, keys: &Keys) -> Result<View, Failure> {
        if !self.campaigns {
            if let Some(own) = self.own.take() {
                self.client.revoke(&own.number).await?;
            }
            return self.client.look(keys, None).await;
        }
        self.renew().await?;
        let number = self.own.as_ref().map(|own| own.number.clone());
        let mut view = self.client.look(keys, number.as_deref()).await?;
        if view.holder.is_none() {
            let number = match number {
                Some(number) => number,
                None => self.grant().await?,
            };
            view = self.client.take(keys, &number, &self.settings.identity).await?;
        }
        if !view.is_ours {
            self.own = None;
        }
        self.record(keys, &view).await?;
        self.mark(keys, &mut view).await?;
        Ok(view)
    }

    async fn renew(&mut self) -> Result<(), Failure> {
        let Some(own) = &self.own else { return Ok(()) };
        let number = own.number.clone();
        let sent = Instant::now();
        let left = self.client.keep_alive(&number).await?;
        self.own = left.map(|seconds| Own { number, until: self.end(sent, seconds) });
        Ok(())
    }

    async fn grant(&mut self) -> Result<String, Failure> {
        let sent = Instant::now();
        let seconds = self.settings.ttl.as_secs().max(1);
        let number = self.client.grant(seconds).await?;
        self.own = Some(Own { number: number.clone(), until: self.end(sent, seconds) });
        Ok(number)
    }

    /// The end of a lease of so many seconds that was asked for at `sent`. Clocks may differ in their rate: a twentieth is left out.
    fn end(&self, sent: Instant, seconds: u64) -> Instant {
        let ttl = Duration::from_secs(seconds).min(self.settings.ttl);
        sent + ttl - ttl / 20
    }

    /// Writes down who is about to be told to promote. Whoever asked is not told that the lease is held unless that was done.
    async fn mark(&mut self, keys: &Keys, view: &mut View) -> Result<(), Failure> {
        let (Some(candidate), Some(own), true) = (&self.candidate, &self.own, view.is_ours) else {
            return Ok(());
        };
        view.is_ours = self.client.mark(keys, &own.number, candidate, &self.settings.identity).await?;
        Ok(())
    }

    /// Writes down what is served, if it is later than what is written there, or an operator chose it.
    async fn record(&mut self, keys: &Keys, view: &View) -> Result<(), Failure> {
        let Some(served) = self.served.filter(|served| Some(served.system_identifier) == self.cluster) else {
            return Ok(());
        };
        let written = view.timeline.as_ref();
        let is_due = written.is_none_or(|(timeline, _)| {
            *timeline < served.timeline || (served.chosen && *timeline != served.timeline)
        });
        if let (true, true, Some(own), Some(_)) = (served.settled, view.is_ours, &self.own, &view.candidate) {
            self.client.forget(keys, &own.number).await?;
        }
        if is_due && view.is_ours {
            let before = written.map(|(_, revision)| revision.as_str());
            // Where another was faster, the next look sees it.
            self.client.record(keys, served.timeline, before).await?;
        }
        Ok(())
    }
}

/// Says what has changed, but for the time.
fn tell(before: &Claim, now: &Claim) {
    if std::mem::discriminant(before) == std::mem::discriminant(now) {
        return;
    }
    match now {
        Claim::Held { .. } => info!("{now}"),
        Claim::Unreachable { .. } => warn!("{now}"),
        other => info!("{other}"),
    }
}
