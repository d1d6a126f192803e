//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well
  1  the configuration has errors, or pgherd could not serve or was told twice to end
  2  the command line is wrong";

/// One endpoint for a herd of PostgreSQL servers: pools connections, and promotes a standby when the primary dies.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve clients until SIGTERM or SIGINT (the default).
    #[command(after_help = EXIT_CODES)]
    Run(RunArgs),
    /// Read the configuration, say what is wrong with it and what is in force. No server is contacted.
    #[command(after_help = EXIT_CODES)]
    Check(CheckArgs),
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The configuration file [default: $PGHERD_CONFIG, else /etc/pgherd/pgherd.toml if it exists].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// The configuration file [default: $PGHERD_CONFIG, else /etc/pgherd/pgherd.toml if it exists].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Cli {
    /// The command that was given, or `run`.
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}
