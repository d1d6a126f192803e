//! The binary `pgherd`.

mod buffer;
mod cancel;
mod check;
mod cli;
mod client;
mod config;
mod crew;
mod daemon;
mod descriptors;
mod listener;
mod seat;
mod server;
mod shared;
mod verifiers;
mod worker;

use std::io;
use std::process::ExitCode;

use clap::Parser;

fn main() -> io::Result<ExitCode> {
    match cli::Cli::parse().into_command() {
        cli::Command::Check(args) => check::run(&args),
        cli::Command::Run(args) => daemon::run(&args),
    }
}
