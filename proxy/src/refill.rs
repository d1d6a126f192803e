//! Keeps `pool.min_pool_size` connections open in each pool that was ever used or is named in an override, also on a server that
//! has just become the primary. One task does it, on the first worker, one connection after the other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::acquire::connect;
use crate::server::lease::{Lease, Permit};
use crate::server::table::{DatabaseAndUser, Server};
use crate::worker::{Stage, Worker};

/// How often the pools are looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// A pool whose connections could not be opened is tried again after this time.
const PAUSE: Duration = Duration::from_secs(15);

/// Ends when the worker begins to drain.
pub(crate) async fn keep_filled(worker: &Worker) {
    let mut upkeep = Upkeep::default();
    let mut interval = tokio::time::interval(INTERVAL);
    while worker.stage() == Stage::Serving {
        interval.tick().await;
        upkeep.fill(worker).await;
    }
}

#[derive(Default)]
struct Upkeep {
    /// Whose pools are to be there, whichever server is the primary.
    known: HashSet<DatabaseAndUser>,
    pauses: HashMap<DatabaseAndUser, Pause>,
}

/// A pool whose connections could not be opened.
struct Pause {
    until: Instant,
    /// It had none at all: there may have been nothing to log in with yet.
    was_unused: bool,
}

impl Upkeep {
    async fn fill(&mut self, worker: &Worker) {
        let Some(primary) = self.pools_of_primary(worker) else { return };
        let now = Instant::now();
        self.pauses.retain(|_, pause| now < pause.until);
        for names in &self.known {
            let pool = primary.pool(&names.0, &names.1);
            let is_unused = pool.is_unused();
            if self.pauses.get(names).is_some_and(|pause| pause.was_unused && !is_unused) {
                self.pauses.remove(names);
            }
            // One right at a time: somebody may be waiting for what the others would take.
            while !self.pauses.contains_key(names)
                && worker.stage() == Stage::Serving
                && let Some(permit) = pool.lack()
            {
                if !primary.may_be_tried() {
                    return;
                }
                if !open(&primary, names, permit, worker).await {
                    let until = Instant::now() + PAUSE;
                    self.pauses.insert(names.clone(), Pause { until, was_unused: is_unused });
                }
            }
        }
    }

    /// The primary, once it is known whose pools are to have connections.
    fn pools_of_primary(&mut self, worker: &Worker) -> Option<Arc<Server>> {
        let config = worker.shared.config.load();
        let keeps = |names: &DatabaseAndUser| config.pool.sizes_for(&names.0, &names.1).min_size > 0;
        if !config.pool.keeps_any() {
            self.known.clear();
            return None;
        }
        let primary = worker.shared.backends.primary()?;
        let named = config
            .pool
            .overrides
            .iter()
            .filter_map(|it| Some((it.database.as_deref()?.into(), it.user.as_deref()?.into())));
        let served = primary.served().into_iter().chain(named).filter(keeps);
        self.known.extend(served);
        self.known.retain(keeps);
        Some(primary)
    }
}

/// Opens a connection for a pool; false if that failed.
async fn open(server: &Server, (database, user): &DatabaseAndUser, permit: Permit, worker: &Worker) -> bool {
    match connect(server, (database, user), &[], worker).await {
        Ok(connection) => {
            permit.fill(connection).into_iter().for_each(Lease::give_back);
            true
        }
        Err(error) => {
            tracing::debug!(server = %server.node, %database, %user, %error, "pool.min_pool_size is not reached");
            false
        }
    }
}
