//! The control loop's tie to the lease in etcd, where there is one.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::etcd::Lease;
use crate::{EtcdSettings, Machine, Ruling, Served};

/// The lease, and what its keeper was told.
#[derive(Debug)]
pub(super) struct Tie {
    settings: Option<EtcdSettings>,
    lease: Option<Lease>,
    keeper: Option<JoinHandle<()>>,
    cluster: Option<u64>,
    served: Option<Served>,
}

impl Tie {
    /// Before the loop runs.
    pub(super) const fn new(settings: Option<EtcdSettings>) -> Self {
        Self { settings, lease: None, keeper: None, cluster: None, served: None }
    }

    /// Begins to look after the lease, and to hold it, if this pgherd `campaigns` for it.
    pub(super) fn begin(&mut self, campaigns: bool) {
        if let Some(settings) = self.settings.take() {
            let (lease, keeper) = Lease::keep(settings, campaigns);
            (self.lease, self.keeper) = (Some(lease), Some(tokio::spawn(keeper)));
        }
    }

    /// Under which commands are carried out.
    pub(super) const fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// What etcd says.
    pub(super) fn ruling(&mut self) -> Ruling {
        self.lease.as_mut().map_or_else(Ruling::alone, Lease::ruling)
    }

    /// Ready when etcd says something else; never without one. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        match &mut self.lease {
            Some(lease) => lease.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Says which cluster it is about, and what is served there. What could not be said is said at the next step.
    pub(super) fn tell(&mut self, machine: &Machine) {
        let Some(lease) = &self.lease else { return };
        let (cluster, served) = (machine.cluster(), to_tell(self.served, machine.served()));
        if let Some(identifier) = cluster.filter(|_| self.cluster != cluster)
            && lease.tell_cluster(identifier)
        {
            self.cluster = cluster;
        }
        if let Some(now) = served.filter(|_| self.served != served)
            && lease.record(now)
        {
            self.served = served;
        }
    }

    /// Takes the lease, if it can be had, and holds it.
    pub(super) fn campaign(&self) {
        if let Some(lease) = &self.lease {
            lease.campaign(true, Vec::new());
        }
    }

    /// Gives the lease back, and tells who waits for that.
    pub(super) fn give_back(&self, waiting: Vec<oneshot::Sender<()>>) {
        match &self.lease {
            Some(lease) => lease.campaign(false, waiting),
            None => waiting.into_iter().for_each(|it| it.send(()).unwrap_or_default()),
        }
    }

    /// Gives the lease back at the end.
    pub(super) async fn end(&mut self) {
        self.lease = None;
        if let Some(keeper) = self.keeper.take() {
            // It ends by itself: nobody can ask it any more.
            let _ = keeper.await;
        }
    }
}

/// What is served, or was last. While nobody is served nothing is settled: who is told to promote meanwhile is another case.
fn to_tell(before: Option<Served>, now: Option<Served>) -> Option<Served> {
    now.or_else(|| before.map(|before| Served { settled: false, ..before }))
}

#[cfg(test)]
mod tests {
    use pgherd_health::TimelineId;

    use super::*;

    #[test]
    fn a_candidate_that_is_settled_is_so_only_as_long_as_somebody_is_served() {
        let settled = Served { system_identifier: 1, timeline: TimelineId(1), chosen: false, settled: true };
        let open = Served { settled: false, ..settled };
        assert_eq!(to_tell(None, None), None);
        assert_eq!(to_tell(Some(open), Some(settled)), Some(settled));
        assert_eq!(to_tell(Some(settled), None), Some(open));
    }
}
