//! The program behind `make soak`: clients that do what clients should not, and then work of every kind over a herd that fails.

// It talks to whoever runs it.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pgherd_testkit::endurance::Endurance;
use pgherd_testkit::soak::Soak;
use pgherd_testkit::{Cluster, Pgherd, Result, ensure};

/// Storms of cancel requests, connections cut in the middle of anything, and pools that are used up, before one server; then work of every kind
/// over a herd of three with faults, switchovers and reloads. Afterwards everything adds up, and nothing is left of it.
#[derive(Debug, Parser)]
#[command(name = "make soak")]
struct Options {
    /// How long the herd is worked on, in minutes; the storms before take a tenth of that.
    #[arg(long, env = "MINUTES", default_value_t = 10.0)]
    minutes: f64,
    /// How many clients storm at a time.
    #[arg(long, default_value_t = 60)]
    storming: u32,
    /// How many clients work at a time.
    #[arg(long, default_value_t = 24)]
    clients: u32,
    /// Where chance begins: the same seed does the same things.
    #[arg(long, env = "SOAK_SEED", default_value_t = 1)]
    seed: u64,
    /// The pool's mode while clients storm.
    #[arg(long, default_value = "transaction")]
    mode: String,
    /// Leave the storms out.
    #[arg(long)]
    no_storms: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("==> failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let duration = Duration::from_secs_f64(options.minutes * 60.0);
    if !options.no_storms {
        storm(options, duration / 10).await?;
    }
    println!(
        "==> {} clients over a herd that fails, for {} minutes, seed {}",
        options.clients, options.minutes, options.seed
    );
    let calm = (duration / 20).clamp(Duration::from_secs(5), Duration::from_secs(60));
    let endurance = Endurance { duration, calm, clients: options.clients, seed: options.seed };
    let report = endurance.run(|told| println!("{told}")).await?;
    println!("{report}");
    ensure!(report.wrong.is_empty(), "{} things are wrong:\n{}", report.wrong.len(), report.wrong.join("\n"));
    println!("==> everything adds up, and nothing was left");
    Ok(())
}

async fn storm(options: &Options, duration: Duration) -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let pgherd = Pgherd::builder(&cluster)
        .set("pool.mode", options.mode.as_str())
        .set("pool.size", 10)
        .set("pool.pinned_size", 5)
        .set("pool.query_wait_timeout", "5s")
        .start()
        .await?;
    pgherd.wait_log("writes are open", Duration::from_secs(30)).await?;
    println!("==> {} clients storm for {} s, seed {}", options.storming, duration.as_secs(), options.seed);
    let soak = Soak { duration, clients: options.storming, seed: options.seed, most_connections: 15 };
    let report = soak.run(&cluster, &pgherd).await?;
    println!("{report}\n==> nothing was left, and nobody saw what was not theirs");
    Ok(())
}
