//! The program behind `make faults`: faults of every kind under a workload that checks itself, and how long each kept clients waiting.

// It talks to whoever runs it.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use clap::Parser;
use pgherd_testkit::Result;
use pgherd_testkit::faults::{Beside, Campaign, CutOff, Switchovers};
use tokio::task::JoinSet;

/// Clusters on which pgherd is cut off from its primary at the same time: nothing is measured then.
const AT_ONCE: u32 = 5;

/// Kills, freezes, stops and parts servers and pgherd, one after the other, and looks whether anything was lost, done twice or promoted
/// that should not be; then orders switchovers under load, cuts pgherd off from its primary, and does the same to pgpool.
#[derive(Debug, Parser)]
#[command(name = "make faults")]
struct Options {
    /// How many faults, of every kind about the same number; 0 leaves them out, here and below.
    #[arg(long, env = "FAULTS", default_value_t = 100)]
    faults: usize,
    /// Where chance begins: the same seed brings the same faults.
    #[arg(long, env = "SEED", default_value_t = 1)]
    seed: u64,
    /// How many faults where commits wait for no standby: what is lost is counted.
    #[arg(long, default_value_t = 0)]
    asynchronous: usize,
    /// How many switchovers under pgbench with 16 clients.
    #[arg(long, default_value_t = 20)]
    switchovers: usize,
    /// How often pgherd is cut off from an idle primary.
    #[arg(long, default_value_t = 50)]
    cut_off: u32,
    /// How often pgpool and pgherd each lose a primary in each of three ways, side by side.
    #[arg(long, env = "PGPOOL", default_value_t = 0)]
    pgpool: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(wrong) if wrong.is_empty() => {
            println!("==> nothing was lost, nothing was done twice, and all promises were kept");
            ExitCode::SUCCESS
        }
        Ok(wrong) => {
            println!("==> {} things are wrong (seed {}):\n{}", wrong.len(), options.seed, wrong.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("==> failed (seed {}): {error:#}", options.seed);
            ExitCode::FAILURE
        }
    }
}

/// Gives what is wrong.
async fn run(options: &Options) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (faults, synchronous) in [(options.faults, 1), (options.asynchronous, 0)] {
        if faults > 0 {
            println!("==> {faults} faults, {synchronous} synchronous standbys, seed {}", options.seed);
            let campaign = Campaign { faults, seed: options.seed, synchronous, short: false };
            let report = campaign.run(|told| println!("{told}")).await?;
            println!("{report}");
            wrong.extend(report.broken_promises());
            wrong.extend(report.wrong);
        }
    }
    if options.switchovers > 0 {
        println!("==> {} switchovers under pgbench -c 16", options.switchovers);
        let switchovers = Switchovers { times: options.switchovers, clients: 16 };
        let report = switchovers.run(|told| println!("{told}")).await?;
        println!("{report}");
        wrong.extend(report.broken_promise());
        wrong.extend(report.errors);
    }
    if options.cut_off > 0 {
        println!("==> pgherd cut off {} times from an idle primary, seed {}", options.cut_off, options.seed);
        cut_off(options).await?;
        println!("nobody was promoted");
    }
    if options.pgpool > 0 {
        println!("==> pgpool beside pgherd, {} times each", options.pgpool);
        println!("{}", Beside { rounds: options.pgpool }.run(|told| println!("{told}")).await?);
    }
    Ok(wrong)
}

async fn cut_off(options: &Options) -> Result<()> {
    let mut running = JoinSet::new();
    for part in 0..AT_ONCE.min(options.cut_off) {
        let tries = options.cut_off / AT_ONCE + u32::from(part < options.cut_off % AT_ONCE);
        let seed = options.seed.wrapping_add(u64::from(part) << 20);
        running.spawn(CutOff { tries, seed }.run());
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}
