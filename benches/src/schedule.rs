//! The run: rounds of workloads of peers, interleaved, then the report.

use anyhow::{Context, Result, ensure};

use crate::environment::Environment;
use crate::idle;
use crate::options::{Arguments, Plan, Workload};
use crate::peers::Peer;
use crate::pgbench::{self, Mode};
use crate::postgres::Postgres;
use crate::report;
use crate::results::{Idle, Load, Results};
use crate::server::log_tail;

/// Idle clients through a peer that needs a server connection for each.
const MOST_UNSHARED_IDLE: u32 = 200;

/// Measures as asked, prints the tables, and writes the raw results.
///
/// # Errors
/// When PostgreSQL cannot be set up, a peer that is installed does not serve, or a run fails. Everything that was started
/// has been ended by then; the rounds that were completed are in the raw results.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let plan = Plan::new(arguments)?;
    let results = measure(&plan).await?;
    println!("{}\nRaw results: {}", report::render(&results), results.path().display());
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
    let max_connections = unshared + 3 * plan.pool_size + 40;
    let postgres = Postgres::start(&environment, max_connections, plan.scale).await?;
    let run = Run { plan, environment: &environment, postgres: &postgres };
    for round in 1..=plan.rounds {
        for (index, &workload) in (0..).zip(&plan.workloads) {
            for peer in order(&peers, round + index) {
                let load = run.load(round, peer, workload).await?;
                results.loads.push(load);
            }
        }
        if plan.idle_clients > 0 && round <= plan.idle_rounds {
            for peer in order(&peers, round) {
                let idle = run.idle(round, peer).await?;
                results.idle.push(idle);
            }
        }
        results.save()?;
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

/// The order of a turn: another peer is first each time, and every second turn goes backwards, so that no peer always runs
/// after the same other.
fn order(peers: &[Peer], turn: u32) -> Vec<Peer> {
    let mut order = peers.to_vec();
    if !order.is_empty() {
        order.rotate_left(turn as usize % peers.len());
    }
    if turn.is_multiple_of(2) {
        order.reverse();
    }
    order
}

struct Run<'a> {
    plan: &'a Plan,
    environment: &'a Environment,
    postgres: &'a Postgres,
}

impl Run<'_> {
    async fn load(&self, round: u32, peer: Peer, workload: Workload) -> Result<Load> {
        let (plan, environment) = (self.plan, self.environment);
        let Workload { mode, clients } = workload;
        let running = peer.start(plan, environment, self.postgres, mode, clients).await?;
        let trees: Vec<u32> = running.id.into_iter().chain([self.postgres.id()]).collect();
        let (bindir, scratch) = (&environment.pg_bindir, environment.scratch());
        let measured = pgbench::run(bindir, &running.login, workload, plan.seconds, scratch, &trees)
            .await
            .with_context(|| {
                format!("pgbench through {peer}, {mode}, {clients} clients{}", log_of(environment, peer))
            })?;
        let load = Load::new(round, peer, workload, &measured);
        let rounds = plan.rounds;
        eprintln!("round {round}/{rounds}  {mode:8} {clients:>4} clients  {peer:11} {:>8.0} TPS", load.tps);
        Ok(load)
    }

    async fn idle(&self, round: u32, peer: Peer) -> Result<Idle> {
        let (plan, environment) = (self.plan, self.environment);
        let most = if peer.multiplexes() { plan.idle_clients } else { MOST_UNSHARED_IDLE };
        let clients = plan.idle_clients.min(most);
        let running = peer.start(plan, environment, self.postgres, Mode::Simple, clients).await?;
        let root = running.id.unwrap_or_else(|| self.postgres.id());
        let (before, after) = idle::measure(&running.login, clients, root)
            .await
            .with_context(|| format!("{clients} idle clients of {peer}{}", log_of(environment, peer)))?;
        eprintln!("round {round}/{}  {clients} idle clients  {peer}", plan.rounds);
        Ok(Idle { round, peer, clients, before, after })
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
            (1..=14).filter_map(|turn| order(&Peer::ALL, turn).first().copied()).collect();
        assert_eq!(first.len(), Peer::ALL.len());
        assert!(order(&[], 3).is_empty());
    }
}
