//! The program behind `make soak`: one server with pgherd before it, and clients that do what clients should not, for as long as one likes.

// It talks to whoever runs it.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pgherd_testkit::soak::Soak;
use pgherd_testkit::{Cluster, Pgherd, Result};

/// Storms of cancel requests, connections cut in the middle of anything, and pools that are used up; afterwards nothing may be left of it.
#[derive(Debug, Parser)]
#[command(name = "make soak")]
struct Options {
    /// How long, in seconds.
    #[arg(long, env = "SOAK_SECONDS", default_value_t = 600)]
    seconds: u64,
    /// How many clients at a time.
    #[arg(long, default_value_t = 60)]
    clients: u32,
    /// Where chance begins: the same seed does the same things.
    #[arg(long, env = "SOAK_SEED", default_value_t = 1)]
    seed: u64,
    /// The pool's mode.
    #[arg(long, default_value = "transaction")]
    mode: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match soak(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("==> failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn soak(options: &Options) -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let pgherd = Pgherd::builder(&cluster)
        .set("pool.mode", options.mode.as_str())
        .set("pool.size", 10)
        .set("pool.pinned_size", 5)
        .set("pool.query_wait_timeout", "5s")
        .start()
        .await?;
    pgherd.wait_log("writes are open", Duration::from_secs(30)).await?;
    println!("==> {} clients for {} s, seed {}", options.clients, options.seconds, options.seed);
    let soak = Soak {
        duration: Duration::from_secs(options.seconds),
        clients: options.clients,
        seed: options.seed,
        most_connections: 15,
    };
    let report = soak.run(&cluster, &pgherd).await?;
    println!("{report}\n==> nothing was left, and nobody saw what was not theirs");
    Ok(())
}
