//! What the command line asks for, and the plan that it amounts to.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use crate::peers::Peer;
use crate::workload::{Mode, Subject, Workload};

/// Pgbench through pgherd and its peers, interleaved, several rounds over.
#[derive(Debug, Parser)]
#[command(name = "pgherd-bench", version)]
pub struct Arguments {
    /// What to do instead of measuring.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to measure [default: all; select and idle with --quick].
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Subject>,
    /// One workload (simple, 32 clients), 3 rounds of 2 seconds, idle memory once: under three minutes.
    #[arg(long)]
    pub quick: bool,
    /// Rounds: each measures every peer once in every workload [default: 5; 3 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Measured seconds per peer, workload and round, after a warm-up of one or two [default: 5; 2 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: Option<u32>,
    /// Numbers of pgbench clients of the subject select [default: 1,32,200; 32 with --quick].
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub clients: Vec<u32>,
    /// Query protocols of the subject select [default: all; simple with --quick].
    #[arg(long, value_delimiter = ',')]
    pub modes: Vec<Mode>,
    /// What to measure them with [default: all that are installed].
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<Peer>,
    /// Server connections that every pooler may hold.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub pool_size: u32,
    /// Idle clients for the memory measurement.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub idle_clients: u32,
    /// Idle clients of the subject crowd, whose 200 others work.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub crowd: u32,
    /// Rounds of what takes long to set up: crowd, idle and scale [default: 3; 1 with --quick].
    #[arg(long)]
    pub slow_rounds: Option<u32>,
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
    /// Count the instructions and allocations of a transaction, by valgrind.
    Count {
        /// What was counted before: more than 3 % more is an error.
        #[arg(long)]
        recorded: Option<PathBuf>,
        /// Write it to that file instead.
        #[arg(long, requires = "recorded")]
        record: bool,
    },
}

/// Arguments with every default decided.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is measured, in the order of the first round.
    pub peers: Vec<Peer>,
    /// What is measured with them.
    pub subjects: Vec<Subject>,
    /// The runs of pgbench in each round.
    pub workloads: Vec<Workload>,
    /// Number of rounds.
    pub rounds: u32,
    /// Measured seconds of a run.
    pub seconds: u32,
    /// Server connections of a pooler.
    pub pool_size: u32,
    /// Idle clients of the memory measurement.
    pub idle_clients: u32,
    /// Rounds of what takes long to set up.
    pub slow_rounds: u32,
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
        let subjects = subjects(arguments);
        let all = subjects.iter().flat_map(|subject| workloads(arguments, *subject));
        Ok(Self {
            peers,
            workloads: all.collect(),
            subjects,
            rounds,
            seconds: or(arguments.seconds, 5, 2),
            pool_size: arguments.pool_size,
            idle_clients: arguments.idle_clients,
            slow_rounds: or(arguments.slow_rounds, 3, 1).min(rounds),
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

/// In the order of a round.
fn subjects(arguments: &Arguments) -> Vec<Subject> {
    let asked: &[Subject] = match (arguments.only.as_slice(), arguments.quick) {
        ([], true) => &[Subject::Select, Subject::Idle],
        ([], false) => &Subject::ALL,
        (given, _) => given,
    };
    Subject::ALL.into_iter().filter(|subject| asked.contains(subject)).collect()
}

fn workloads(arguments: &Arguments, subject: Subject) -> Vec<Workload> {
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
    let idle = if subject == Subject::Crowd { arguments.crowd } else { 0 };
    let (modes, clients): (&[Mode], &[u32]) = match subject {
        Subject::Select => (modes, clients),
        Subject::Tpcb | Subject::Reads | Subject::Mixed | Subject::Reload => (&[Mode::Simple], &[32]),
        Subject::Tls => (&[Mode::Simple, Mode::Prepared], &[32]),
        Subject::Rows | Subject::Churn | Subject::ChurnTls => (&[Mode::Simple], &[8]),
        Subject::Crowd => (&[Mode::Simple], &[200]),
        Subject::Copy | Subject::Start | Subject::Idle | Subject::Scale => (&[], &[]),
    };
    let with = |mode| move |&clients: &u32| Workload { subject, mode, clients, idle };
    modes.iter().flat_map(|&mode| clients.iter().map(with(mode))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan> {
        Plan::new(&Arguments::try_parse_from(line.split_whitespace())?)
    }

    #[test]
    fn without_arguments_everything_is_measured_in_five_rounds() {
        let plan = plan("pgherd-bench").unwrap();
        assert_eq!((plan.peers.len(), plan.subjects.len(), plan.rounds), (Peer::ALL.len(), 14, 5));
        let of = |subject| plan.workloads.iter().filter(|workload| workload.subject == subject).count();
        assert_eq!((of(Subject::Select), of(Subject::Tls), of(Subject::Copy)), (9, 2, 0));
        assert_eq!(plan.most_clients(), 200);
    }

    #[test]
    fn quick_is_one_workload_and_yields_to_what_is_given() {
        let plan = plan("pgherd-bench --quick --rounds 2 --clients 1,8").unwrap();
        assert_eq!((plan.workloads.len(), plan.rounds, plan.seconds, plan.slow_rounds), (2, 2, 2, 1));
        assert_eq!(plan.subjects, [Subject::Select, Subject::Idle]);
    }

    #[test]
    fn a_peer_named_twice_is_an_error() {
        assert!(plan("pgherd-bench --peers relay,relay").is_err());
    }
}
