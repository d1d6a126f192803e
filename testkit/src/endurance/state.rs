//! What pgherd is made of at one moment: what it has counted, and what it holds.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::pgherd::Pgherd;
use crate::wait::eventually;

/// Metrics, descriptors and threads.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Of all clients but those that check themselves.
    pub(super) transactions: u64,
    pub(super) queries: u64,
    /// Of the one whose bytes pass as they are.
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) read_on_standbys: u64,
    pub(super) panics: u64,
    /// By thread.
    pub(super) tasks: BTreeMap<String, u64>,
    pub(super) clients: u64,
    /// To all servers, for clients.
    pub(super) server_connections: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
    pub(super) resident: u64,
}

impl State {
    pub(super) async fn of(pgherd: &Pgherd) -> Result<Self> {
        let metrics = Metrics::of(pgherd).await?;
        let pid = pgherd.pid().context("pgherd does not run")?;
        let count = |what: &str| -> Result<u64> {
            Ok(u64::try_from(fs::read_dir(format!("/proc/{pid}/{what}"))?.count())?)
        };
        let worker = [r#"database="app""#, r#"user="worker""#];
        let plain = [worker[0], r#"user="plain""#];
        let both = |name: &str| metrics.sum(name, &worker) + metrics.sum(name, &plain);
        let pools = ["active", "idle", "being_cancelled", "opening"];
        Ok(Self {
            transactions: both("pgherd_transactions_total"),
            queries: both("pgherd_queries_total"),
            received: metrics.sum("pgherd_received_bytes_total", &plain),
            sent: metrics.sum("pgherd_sent_bytes_total", &plain),
            read_on_standbys: metrics
                .sum("pgherd_queries_routed_total", &[worker[0], r#"runs_on="standby""#]),
            panics: metrics.sum("pgherd_session_panics_total", &[]),
            tasks: metrics.by_label("pgherd_tasks", "thread"),
            clients: metrics.sum("pgherd_clients", &[]),
            server_connections: pools
                .iter()
                .map(|which| metrics.sum(&format!("pgherd_pool_servers_{which}"), &[]))
                .sum(),
            descriptors: count("fd")?,
            threads: count("task")?,
            resident: pgherd.resident()?,
        })
    }

    /// What was counted since then; what is held, as it is now.
    pub(super) fn since(mut self, then: &Self) -> Self {
        self.transactions -= then.transactions;
        self.queries -= then.queries;
        self.received -= then.received;
        self.sent -= then.sent;
        self.read_on_standbys -= then.read_on_standbys;
        self
    }

    /// Waits until no client and no connection for one is there, and no worker has a task of one.
    pub(super) async fn at_rest(pgherd: &Pgherd, within: Duration) -> Result<Self> {
        eventually("pgherd is at rest", within, || async {
            let state = Self::of(pgherd).await?;
            ensure!(state.is_at_rest(), "{state:?}");
            Ok(Some(state))
        })
        .await
    }

    fn is_at_rest(&self) -> bool {
        let workers = self.tasks.iter().filter(|(thread, _)| thread.contains("worker"));
        self.clients == 0 && self.server_connections == 0 && workers.into_iter().all(|(_, tasks)| *tasks == 0)
    }

    /// Waits until it holds what it held then.
    pub(super) async fn settled_to(pgherd: &Pgherd, then: &Self, within: Duration) -> Result<Self> {
        eventually("pgherd holds what it held before", within, || async {
            let state = Self::of(pgherd).await?;
            ensure!(state.is_at_rest() && state.holds_no_more_than(then), "{state:?}, and before {then:?}");
            Ok(Some(state))
        })
        .await
    }

    fn holds_no_more_than(&self, then: &Self) -> bool {
        self.tasks == then.tasks && self.descriptors <= then.descriptors && self.threads <= then.threads
    }
}

/// What `/metrics` says.
struct Metrics(String);

impl Metrics {
    async fn of(pgherd: &Pgherd) -> Result<Self> {
        let (status, text) = pgherd.get("/metrics").await?;
        ensure!(status == 200 && text.ends_with("# EOF\n"), "{status}: {text}");
        Ok(Self(text))
    }

    /// The sum of all metrics of this name that have these labels.
    fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        self.lines(name).filter(|(all, _)| labels.iter().all(|it| all.contains(it))).map(|(_, it)| it).sum()
    }

    fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let value =
            |labels: &str| Some(labels.split_once(&format!("{label}=\""))?.1.split('"').next()?.to_owned());
        self.lines(name).filter_map(|(labels, number)| Some((value(labels)?, number))).collect()
    }

    fn lines(&self, name: &str) -> impl Iterator<Item = (&str, u64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let is_it = labels.is_empty() || labels.starts_with('{');
            // Whole numbers, written as floats.
            let value = value.split('.').next()?.parse().ok()?;
            is_it.then_some((labels, value))
        })
    }
}
