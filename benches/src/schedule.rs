//! The run: rounds of workloads of peers, interleaved, then the report.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::environment::Environment;
use crate::idle::{self, Crowd};
use crate::options::{Arguments, Plan};
use crate::peers::{Peer, Place, Running};
use crate::pgbench::{self, Measured};
use crate::postgres::{Postgres, is_ready};
use crate::procfs::Memory;
use crate::results::{Idle, Load, Results, Start};
use crate::scale::{self, MOST_CLIENTS, MOST_POOLS, Scale};
use crate::server::log_tail;
use crate::transfer::{Accounts, Kind};
use crate::workload::{Mode, Subject, Workload};
use crate::{plot, report};

/// Idle clients through a peer that needs a server connection for each.
const MOST_UNSHARED_IDLE: u32 = 200;
/// Standbys of the subjects that have some.
const STANDBYS: u16 = 2;
/// How often the configuration is read while that is measured.
const RELOAD_EVERY: Duration = Duration::from_millis(100);
/// The longest that a peer may take from its start to the first answer.
const LONGEST_START: Duration = Duration::from_secs(30);

/// Measures as asked, prints the tables, and writes the raw results and a plot.
///
/// # Errors
/// When PostgreSQL cannot be set up, a peer that is installed does not serve, or a run fails. Everything that was started
/// has been ended by then; the rounds that were completed are in the raw results.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let plan = Plan::new(arguments)?;
    let results = measure(&plan).await?;
    println!("{}\nRaw results: {}", report::render(&results), results.path().display());
    let plot = results.path().with_extension("svg");
    if plot::draw(&results.loads, &plot)? {
        println!("Plot: {}", plot.display());
    }
    Ok(())
}

/// Measures what `plan` says.
///
/// # Errors
/// See [`run`].
pub async fn measure(plan: &Plan) -> Result<Results> {
    let environment = Environment::new(plan.pg_bindir.as_deref())?;
    let mut results = Results::new(plan)?;
    let peers = installed(plan, &environment, &mut results);
    ensure!(!peers.is_empty(), "none of the peers is installed");
    eprintln!("Raw results, round by round: {}", results.path().display());
    eprintln!("Setting up PostgreSQL on {} (pgbench scale {})", environment.address, plan.scale);
    let unshared = plan.most_clients().max(MOST_UNSHARED_IDLE.min(plan.idle_clients));
    let pools = if plan.subjects.contains(&Subject::Scale) { MOST_POOLS } else { 0 };
    let max_connections = unshared + 3 * plan.pool_size + pools + 40;
    let mut postgres = Postgres::start(&environment, max_connections, plan.scale).await?;
    postgres.create_pool_users(pools).await?;
    for round in 1..=plan.rounds {
        for &subject in &plan.subjects {
            let is_slow = matches!(subject, Subject::Crowd | Subject::Idle | Subject::Scale);
            if is_slow && round > plan.slow_rounds {
                continue;
            }
            let standbys = if subject.has_standbys() { STANDBYS } else { 0 };
            postgres.with_standbys(&environment, standbys).await?;
            let peers: Vec<Peer> = peers.iter().copied().filter(|peer| peer.takes(subject)).collect();
            let run = Run { plan, environment: &environment, postgres: &postgres, subject, round };
            run.subject(&peers, &mut results).await?;
            results.save()?;
        }
    }
    Ok(results)
}

fn installed(plan: &Plan, environment: &Environment, results: &mut Results) -> Vec<Peer> {
    let mut peers = Vec::new();
    for &peer in &plan.peers {
        match peer.version(plan, environment) {
            Ok(version) => {
                results.versions.insert(peer.name(), version);
                peers.push(peer);
            }
            Err(reason) => {
                eprintln!("Left out: {peer}: {reason:#}");
                results.left_out.insert(peer.name(), format!("{reason:#}"));
            }
        }
    }
    peers
}

/// The order of a turn: another peer is first in most, and every second turn goes backwards, so that no peer always runs
/// after the same other.
fn order(peers: &[Peer], turn: u32) -> Vec<Peer> {
    let mut order = peers.to_vec();
    if !order.is_empty() {
        let turn = turn as usize;
        order.rotate_left((turn + turn / peers.len()) % peers.len());
    }
    if turn.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// One subject in one round.
struct Run<'a> {
    plan: &'a Plan,
    environment: &'a Environment,
    postgres: &'a Postgres,
    subject: Subject,
    round: u32,
}

impl Run<'_> {
    /// Measures it with each of these peers in turn.
    async fn subject(&self, peers: &[Peer], results: &mut Results) -> Result<()> {
        let round = self.round;
        let workloads = self.plan.workloads.iter().filter(|workload| workload.subject == self.subject);
        for (index, &workload) in (0..).zip(workloads) {
            for peer in order(peers, round + index) {
                results.loads.push(self.load(peer, workload).await?);
            }
        }
        match self.subject {
            Subject::Copy => {
                let bindir = &self.environment.pg_bindir;
                let scratch = self.environment.scratch();
                let accounts = Accounts::new(bindir, &self.postgres.login, scratch).await?;
                for (index, kind) in (0..).zip(Kind::ALL) {
                    for peer in order(peers, round + index) {
                        let running = peer.start(self.place(), Mode::Simple, 1).await?;
                        let logins = (&running.login, &self.postgres.login);
                        let transfer =
                            accounts.transfer(bindir, logins, (round, peer, kind), running.id).await;
                        let transfer = transfer.with_context(|| self.failed(peer, kind.name()))?;
                        self.say(peer, &format!("{}, {:.2} s", kind.name(), transfer.seconds));
                        results.transfers.push(transfer);
                    }
                }
            }
            Subject::Start => {
                for peer in order(peers, round) {
                    results.starts.push(self.start(peer).await?);
                }
            }
            Subject::Scale => {
                for (index, (of, count)) in (0..).zip(scale::all()) {
                    for peer in order(peers, round + index) {
                        results.scales.push(self.scale(peer, of, count).await?);
                    }
                }
            }
            Subject::Idle => {
                for has_tls in [false, true] {
                    for peer in order(peers, round) {
                        if !has_tls || peer.multiplexes() {
                            results.idle.push(self.idle(peer, has_tls).await?);
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn place(&self) -> Place<'_> {
        let Self { plan, environment, postgres, subject, .. } = *self;
        Place { plan, environment, postgres, has_tls: subject.has_tls(), users: 1, is_counted: false }
    }

    async fn load(&self, peer: Peer, workload: Workload) -> Result<Load> {
        let clients = workload.clients + workload.idle;
        let running = peer.start(self.place(), workload.mode, clients).await?;
        let _crowd = Crowd::open(&running.login, workload.idle, None)
            .await
            .with_context(|| self.failed(peer, &format!("{} idle clients", workload.idle)))?;
        let measured = self.pgbench(&running, workload).await;
        let measured = measured.with_context(|| self.failed(peer, &format!("pgbench, {workload}")))?;
        let load = Load::new(self.round, peer, workload, &measured);
        self.say(peer, &format!("{workload}, {:.0} TPS", load.tps));
        Ok(load)
    }

    async fn pgbench(&self, running: &Running, workload: Workload) -> Result<Measured> {
        let Environment { pg_bindir, .. } = self.environment;
        let trees: Vec<u32> = running.id.into_iter().chain(self.postgres.ids()).collect();
        let scratch = self.environment.scratch();
        let measured = pgbench::run(pg_bindir, &running.login, workload, self.plan.seconds, scratch, &trees);
        if self.subject != Subject::Reload {
            return measured.await;
        }
        tokio::select! {
            measured = measured => measured,
            failed = reload(running.id) => failed,
        }
    }

    async fn start(&self, peer: Peer) -> Result<Start> {
        let begun = Instant::now();
        let mut running = peer.launch(self.place(), Mode::Simple, 1)?;
        let config = running.login.config();
        while !is_ready(&config).await {
            running.check()?;
            ensure!(begun.elapsed() < LONGEST_START, "{}", self.failed(peer, "start"));
            sleep(Duration::from_millis(1)).await;
        }
        let first_answer_ms = begun.elapsed().as_secs_f64() * 1e3;
        let empty_kib = running.id.map_or(0, |id| Memory::of_tree(id).rss);
        self.say(peer, &format!("first answer after {first_answer_ms:.0} ms"));
        Ok(Start { round: self.round, peer, first_answer_ms, empty_kib })
    }

    async fn idle(&self, peer: Peer, has_tls: bool) -> Result<Idle> {
        let most = if peer.multiplexes() { self.plan.idle_clients } else { MOST_UNSHARED_IDLE };
        let clients = self.plan.idle_clients.min(most);
        let running = peer.start(Place { has_tls, ..self.place() }, Mode::Simple, clients).await?;
        let root = running.id.or_else(|| self.postgres.ids().first().copied()).context("nothing runs")?;
        let trusted = has_tls.then_some(&self.environment.certificate);
        let first = clients / 10;
        let measured = idle::measure(&running.login, (first, clients - first), trusted, root).await;
        let (before, after) =
            measured.with_context(|| self.failed(peer, &format!("{clients} idle clients")))?;
        self.say(peer, &format!("{clients} idle clients{}", if has_tls { ", TLS" } else { "" }));
        Ok(Idle { round: self.round, peer, has_tls, first, clients: clients - first, before, after })
    }

    async fn scale(&self, peer: Peer, of: scale::Of, count: u32) -> Result<Scale> {
        let running =
            peer.start(Place { users: MOST_POOLS, ..self.place() }, Mode::Simple, MOST_CLIENTS).await?;
        let root = running.id.context("nothing runs")?;
        let measured =
            Scale::measure((self.round, peer), (of, count), (&running.login, root), self.plan.seconds).await;
        let measured = measured.with_context(|| self.failed(peer, &format!("{count} {}", of.name())))?;
        self.say(peer, &format!("{count} {}, {:.0} TPS", of.name(), measured.tps));
        Ok(measured)
    }

    fn say(&self, peer: Peer, what: &str) {
        eprintln!("round {}/{}  {peer:12}  {what}", self.round, self.plan.rounds);
    }

    fn failed(&self, peer: Peer, what: &str) -> String {
        format!("{what} through {peer}{}", log_of(self.environment, peer))
    }
}

/// Has a process read its configuration again and again; comes to an end only where that fails.
async fn reload<T>(id: Option<u32>) -> Result<T> {
    let pid = id.and_then(|id| Pid::from_raw(id.try_into().ok()?)).context("there is nothing to reload")?;
    loop {
        sleep(RELOAD_EVERY).await;
        if let Err(error) = kill_process(pid, Signal::HUP) {
            bail!("it cannot be told to reload: {error}");
        }
    }
}

/// The end of a peer's log, for an error: the log itself is gone when the error is read.
fn log_of(environment: &Environment, peer: Peer) -> String {
    let tail = log_tail(&environment.scratch().join(format!("{peer}.log")));
    if tail.is_empty() { String::new() } else { format!("; its log ends with:\n{tail}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_is_first_in_some_round() {
        let first: std::collections::BTreeSet<Peer> =
            (1..=16).filter_map(|turn| order(&Peer::ALL, turn).first().copied()).collect();
        assert_eq!(first.len(), Peer::ALL.len());
        assert!(order(&[], 3).is_empty());
    }
}
