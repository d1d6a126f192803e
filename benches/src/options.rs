//! What the command line asks for, and the plan that it amounts to.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use crate::peers::Peer;
use crate::pgbench::Mode;

/// Pgbench through pgherd and its peers, interleaved, several rounds over.
#[derive(Debug, Parser)]
#[command(name = "pgherd-bench", version)]
pub struct Arguments {
    /// What to do instead of measuring.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// One workload (simple, 32 clients), 3 rounds of 2 seconds, idle memory once: under three minutes.
    #[arg(long)]
    pub quick: bool,
    /// Rounds: each measures every peer once in every workload [default: 5; 3 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Measured seconds per peer, workload and round, after a warm-up of one or two [default: 5; 2 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: Option<u32>,
    /// Numbers of pgbench clients [default: 1,32,200; 32 with --quick].
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub clients: Vec<u32>,
    /// Query protocols [default: all; simple with --quick].
    #[arg(long, value_delimiter = ',')]
    pub modes: Vec<Mode>,
    /// What to measure [default: all that are installed].
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<Peer>,
    /// Server connections that every pooler may hold.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub pool_size: u32,
    /// Idle clients for the memory measurement; 0 leaves it out.
    #[arg(long, default_value_t = 1000)]
    pub idle_clients: u32,
    /// Rounds of the memory measurement [default: 3; 1 with --quick].
    #[arg(long)]
    pub idle_rounds: Option<u32>,
    /// pgbench's scale factor.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub scale: u32,
    /// The pgherd to measure [default: the one beside this program].
    #[arg(long)]
    pub pgherd: Option<PathBuf>,
    /// Where PostgreSQL's programs are [default: the newest under /usr/lib/postgresql].
    #[arg(long)]
    pub pg_bindir: Option<PathBuf>,
    /// Where the raw results go [default: target/bench, beside this program's build directory].
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the plain relay by itself.
    Relay {
        /// Address to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// Address to connect each client to.
        #[arg(long)]
        to: SocketAddr,
    },
}

/// One pgbench workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// Query protocol.
    pub mode: Mode,
    /// Number of clients.
    pub clients: u32,
}

/// Arguments with every default decided.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is measured, in the order of the first round.
    pub peers: Vec<Peer>,
    /// The workloads of each round.
    pub workloads: Vec<Workload>,
    /// Number of rounds.
    pub rounds: u32,
    /// Measured seconds of a run.
    pub seconds: u32,
    /// Server connections of a pooler.
    pub pool_size: u32,
    /// Idle clients of the memory measurement.
    pub idle_clients: u32,
    /// Rounds of the memory measurement.
    pub idle_rounds: u32,
    /// pgbench's scale factor.
    pub scale: u32,
    /// The pgherd binary, whether or not it exists.
    pub pgherd: PathBuf,
    /// This program, which is also the relay.
    pub relay: PathBuf,
    /// PostgreSQL's programs, if not the newest.
    pub pg_bindir: Option<PathBuf>,
    /// Directory of the raw results.
    pub out: PathBuf,
}

impl Plan {
    /// Decides the defaults, from the arguments and from where this program lies.
    ///
    /// # Errors
    /// When the program cannot tell its own path, or a peer is named twice.
    pub fn new(arguments: &Arguments) -> Result<Self> {
        let relay = std::env::current_exe().context("this program's own path")?;
        let beside = relay.parent().context("this program's directory")?;
        let or =
            |given: Option<u32>, full, quick| given.unwrap_or(if arguments.quick { quick } else { full });
        let mut peers = arguments.peers.clone();
        if peers.is_empty() {
            peers = Peer::ALL.to_vec();
        }
        for (index, peer) in peers.iter().enumerate() {
            ensure!(!peers.iter().skip(index + 1).any(|other| other == peer), "--peers names {peer} twice");
        }
        let rounds = or(arguments.rounds, 5, 3);
        Ok(Self {
            peers,
            workloads: workloads(arguments),
            rounds,
            seconds: or(arguments.seconds, 5, 2),
            pool_size: arguments.pool_size,
            idle_clients: arguments.idle_clients,
            idle_rounds: or(arguments.idle_rounds, 3, 1).min(rounds),
            scale: arguments.scale,
            pgherd: arguments.pgherd.clone().unwrap_or_else(|| beside.join("pgherd")),
            out: arguments.out.clone().unwrap_or_else(|| beside.join("../bench")),
            relay,
            pg_bindir: arguments.pg_bindir.clone(),
        })
    }

    /// The largest number of clients that one pgbench run opens.
    #[must_use]
    pub fn most_clients(&self) -> u32 {
        self.workloads.iter().map(|workload| workload.clients).max().unwrap_or(1)
    }
}

fn workloads(arguments: &Arguments) -> Vec<Workload> {
    let modes: &[Mode] = match (arguments.modes.as_slice(), arguments.quick) {
        ([], true) => &[Mode::Simple],
        ([], false) => &Mode::ALL,
        (given, _) => given,
    };
    let clients: &[u32] = match (arguments.clients.as_slice(), arguments.quick) {
        ([], true) => &[32],
        ([], false) => &[1, 32, 200],
        (given, _) => given,
    };
    let all = modes.iter().flat_map(|&mode| clients.iter().map(move |&clients| Workload { mode, clients }));
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan> {
        Plan::new(&Arguments::try_parse_from(line.split_whitespace())?)
    }

    #[test]
    fn without_arguments_all_peers_run_nine_workloads_in_five_rounds() {
        let plan = plan("pgherd-bench").unwrap();
        assert_eq!((plan.peers.len(), plan.workloads.len(), plan.rounds), (Peer::ALL.len(), 9, 5));
        assert_eq!(plan.most_clients(), 200);
    }

    #[test]
    fn quick_is_one_workload_and_yields_to_what_is_given() {
        let plan = plan("pgherd-bench --quick --rounds 2 --clients 1,8").unwrap();
        assert_eq!((plan.workloads.len(), plan.rounds, plan.seconds, plan.idle_rounds), (2, 2, 2, 1));
    }

    #[test]
    fn a_peer_named_twice_is_an_error() {
        assert!(plan("pgherd-bench --peers relay,relay").is_err());
    }
}
