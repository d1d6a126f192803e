//! `pgherd-bench`: see `docs/benchmarks.md`.
#![allow(clippy::print_stderr, reason = "a command-line program reports to its terminal")]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use pgherd_benches::options::{Arguments, Command};
use pgherd_benches::{count, relay, schedule};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pgherd-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    if let Some(Command::Relay { listen, to }) = arguments.command {
        return relay::serve(listen, to).context("the relay ended");
    }
    // One thread: the servers are tied to the thread that started them, and end with it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        // Losing branches are dropped, and with the schedule all that it started.
        tokio::select! {
            finished = async {
                match &arguments.command {
                    Some(Command::Count { recorded, record }) => {
                        count::run(&arguments, recorded.as_deref(), *record).await
                    }
                    _ => schedule::run(&arguments).await,
                }
            } => finished,
            _ = interrupt.recv() => bail!("interrupted; everything that was started has been ended"),
            _ = terminate.recv() => bail!("terminated; everything that was started has been ended"),
            _ = hangup.recv() => bail!("hung up; everything that was started has been ended"),
        }
    })
}
