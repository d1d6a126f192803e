//! The binary `pgherd`.

mod check;
mod cli;
mod config;

use std::io;
use std::process::ExitCode;

use clap::Parser;

fn main() -> io::Result<ExitCode> {
    match cli::Cli::parse().into_command() {
        cli::Command::Check(args) => check::run(&args),
        cli::Command::Run(_) => Ok(ExitCode::SUCCESS),
    }
}
