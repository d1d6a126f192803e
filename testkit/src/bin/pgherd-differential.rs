//! The program behind `make differential`: the same messages to PostgreSQL and to pgherd, and what is not answered alike.

// It talks to whoever runs it.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use clap::Parser;
use pgherd_testkit::differential::{Differential, DifferentialReport, Mode};
use pgherd_testkit::{Cluster, Result};

/// Sequences of messages by chance, sent to PostgreSQL directly and through pgherd in all its modes: the replies must be the same.
#[derive(Debug, Parser)]
#[command(name = "make differential")]
struct Options {
    /// How many sequences, in all modes together.
    #[arg(long, env = "SEQUENCES", default_value_t = 100_000)]
    sequences: u64,
    /// The seed of the first sequence. Others follow: with SEQUENCES=1 and the mode that a difference was printed with, it is repeated.
    #[arg(long, env = "SEED", default_value_t = 1)]
    seed: u64,
    /// The modes: session, transaction, statement, unnamed, standbys, home. All if none is named.
    #[arg(long = "mode", env = "MODES", value_delimiter = ',')]
    modes: Vec<Mode>,
    /// A mode ends after so many differences.
    #[arg(long, default_value_t = 10)]
    most_differences: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match compare(Options::parse()).await {
        Ok(report) => {
            println!("{report}");
            if report.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("==> failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn compare(options: Options) -> Result<DifferentialReport> {
    let alone = Cluster::builder().servers(1).setting("autovacuum", "off").start().await?;
    let herd = Cluster::builder().servers(2).setting("autovacuum", "off").start().await?;
    println!("==> {} sequences from seed {}", options.sequences, options.seed);
    let modes = if options.modes.is_empty() { Mode::ALL.to_vec() } else { options.modes };
    let differential = Differential {
        sequences: options.sequences,
        seed: options.seed,
        modes,
        time: None,
        most_differences: options.most_differences,
    };
    differential.run(&alone, &herd).await
}
