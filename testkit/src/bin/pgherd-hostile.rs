//! The program behind `make hostile`: attacks of every kind, one after the other, and what well-behaved clients notice.

// It talks to whoever runs it.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pgherd_testkit::hostile::{Attack, Hostile};
use pgherd_testkit::{Cluster, Result};

/// Attacks of every kind on a pgherd, and what well-behaved clients beside them notice.
#[derive(Debug, Parser)]
#[command(name = "make hostile")]
struct Options {
    /// How long each attack lasts, in seconds.
    #[arg(long, env = "HOSTILE_SECONDS", default_value_t = 30)]
    seconds: u64,
    /// How many connections attack at once; half-open ones are a hundred times as many.
    #[arg(long, default_value_t = 500)]
    strength: usize,
    /// Only attacks in whose names this stands.
    #[arg(long, default_value = "")]
    only: String,
    /// `memory.limit`, in MiB.
    #[arg(long, default_value_t = 256)]
    memory_limit: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match besiege(&Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("==> failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn besiege(options: &Options) -> Result<bool> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let hostile = Hostile {
        time: Duration::from_secs(options.seconds),
        strength: options.strength,
        memory_limit: options.memory_limit,
    };
    println!("{}", Hostile::HEAD);
    let mut all_well = true;
    for attack in Attack::ALL.into_iter().filter(|attack| attack.name().contains(&options.only)) {
        match hostile.run(&cluster, attack).await {
            Ok(siege) => println!("{siege}"),
            Err(error) => {
                all_well = false;
                println!("| {} | **{error:#}** | | | | | |", attack.name());
            }
        }
    }
    Ok(all_well)
}
