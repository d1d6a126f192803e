//! All of the binary `pgherd`: [`run`], and what reads the input of others ([`input`]), for those who throw anything at it.

mod buffer;
mod cancel;
mod check;
mod cli;
mod client;
mod config;
mod console;
mod control;
mod credentials;
mod crew;
mod daemon;
mod descriptors;
mod failures;
mod handover;
mod hba;
mod hidden;
mod hosts;
mod http;
mod identities;
pub mod input;
mod listener;
mod log;
mod memory;
mod migrate;
mod naming;
mod narrator;
mod one_copy;
mod peer;
mod places;
mod provoke;
mod reactor;
mod refill;
mod reload;
mod roster;
mod seat;
mod sequences;
mod server;
mod shared;
mod spare;
mod strangers;
mod stream;
mod survey;
mod tls;
mod traces;
mod traffic;
mod userlist;
mod verifiers;
mod vitals;
mod watchdog;
mod worker;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

/// The life of the process.
#[must_use]
pub fn run() -> ExitCode {
    cli::Cli::parse().run().unwrap_or_else(|error| {
        // Where nobody reads it, the exit code says it still.
        let _ = writeln!(io::stderr(), "error: {error}");
        ExitCode::FAILURE
    })
}
