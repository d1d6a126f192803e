//! The command line.

mod console;
mod events;
mod health;
mod herd;
mod man;
mod status;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub(crate) use herd::{plain, print};

use crate::{check, daemon, migrate};

/// What the program is called.
const NAME: &str = "pgherd";

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well, or it was done
  1  the configuration has errors, or migrate could make none that has not; pgherd could not serve or was told twice to end; or an order was refused or has failed; health: it lets nobody in
  2  the command line is wrong
  3  the running pgherd can't be reached
  4  status: there is no primary that takes writes";

/// One endpoint for a herd of PostgreSQL servers: pools connections, and promotes a standby when the primary dies.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// What to do. All but the first three and the last two ask the running pgherd, on its console or by HTTP.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients until SIGTERM or SIGINT (the default).
    #[command(after_help = EXIT_CODES)]
    Run(RunArgs),
    /// Read the configuration, say what is wrong with it and what is in force. No server is contacted.
    #[command(after_help = EXIT_CODES)]
    Check(CheckArgs),
    /// Make a configuration of pgpool's or PgBouncer's, with what has no equal explained in it. No server is contacted.
    #[command(after_help = EXIT_CODES)]
    Migrate(MigrateArgs),
    /// Say how the herd is: who is the primary, what each server does, what is wrong and what to do about it.
    #[command(after_help = EXIT_CODES)]
    Status(StatusArgs),
    /// Say whether the running pgherd answers, for health checks: exit code 0 if it does. That there is no primary is no fault of its own.
    #[command(after_help = EXIT_CODES)]
    Health(HealthArgs),
    /// Say what has happened to the herd of late, the latest first.
    #[command(after_help = EXIT_CODES)]
    Events(EventsArgs),
    #[command(flatten)]
    Order(Order),
    /// Print what completes the command line in a shell.
    #[command(after_help = EXIT_CODES)]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, for man(1).
    #[command(after_help = EXIT_CODES)]
    Man,
}

/// What the running pgherd is to do.
#[derive(Debug, Subcommand)]
enum Order {
    /// Make another server the primary while all is well; no client meets an error.
    #[command(after_help = EXIT_CODES)]
    Switchover(SwitchoverArgs),
    /// Have a standby promoted where there is no primary and pgherd does not do so by itself.
    #[command(after_help = EXIT_CODES)]
    Failover(FailoverArgs),
    /// Make a server a standby of the primary now.
    #[command(after_help = EXIT_CODES)]
    Rejoin(RejoinArgs),
    /// Promote nobody and repair nothing, until `resume` or a restart.
    #[command(after_help = EXIT_CODES)]
    Pause(Access),
    /// End `pause`.
    #[command(after_help = EXIT_CODES)]
    Resume(Access),
    /// Read from a server again, and let it be promoted.
    #[command(after_help = EXIT_CODES)]
    Attach(ServerArgs),
    /// Neither read from a server nor promote it, until `attach` or a restart.
    #[command(after_help = EXIT_CODES)]
    Detach(ServerArgs),
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

/// Arguments of `migrate`.
#[derive(Args, Debug)]
pub(crate) struct MigrateArgs {
    /// pgpool.conf or pgbouncer.ini, whatever it is called.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Whose file it is [default: it is told by what stands in it].
    #[arg(long, value_enum, value_name = "PEER")]
    pub(crate) from: Option<Peer>,
    /// pool_hba.conf, or another file with rules for logins [default: the one beside pgpool.conf if pgpool uses it, or that of auth_hba_file].
    #[arg(long, value_name = "FILE")]
    pub(crate) hba: Option<PathBuf>,
    /// Where it is written; files for the passwords that were found are written beside it. `-` is standard output [default: -].
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite what is there.
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// Print what became of each setting as one JSON object, and nothing else; without --output the configuration is in it.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whose configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// pgpool-II.
    Pgpool,
    /// PgBouncer.
    Pgbouncer,
}

/// Where the running pgherd is, and who asks it. By default the configuration says both.
#[derive(Args, Clone, Debug)]
struct Access {
    /// The configuration file of the running pgherd [default: $PGHERD_CONFIG, else /etc/pgherd/pgherd.toml if it exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its host, or the directory of its Unix socket [default: that of listen.unix, else of listen.address].
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Its port [default: that of listen.address].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// A user of admin.users [default: monitor.user]. The password is $PGPASSWORD [default: monitor.password].
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

#[derive(Args, Debug)]
struct StatusArgs {
    #[command(flatten)]
    access: Access,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Print it again every two seconds, until Ctrl-C.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

#[derive(Args, Debug)]
struct HealthArgs {
    /// The configuration file of the running pgherd [default: $PGHERD_CONFIG, else /etc/pgherd/pgherd.toml if it exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where it answers HTTP [default: http.address].
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,
    /// Whether it lets clients in: not before it has found a server, nor while it ends.
    #[arg(long)]
    ready: bool,
}

#[derive(Args, Debug)]
struct EventsArgs {
    #[command(flatten)]
    access: Access,
    /// Print one JSON list.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct SwitchoverArgs {
    #[command(flatten)]
    access: Access,
    /// The next primary: its number, host, host:port, or repmgr's name of it [default: the best standby].
    #[arg(value_name = "NODE")]
    to: Option<String>,
    /// Only say what would be done, and what stands against it.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args, Debug)]
struct FailoverArgs {
    #[command(flatten)]
    access: Access,
    /// Promote this server or none: its number, host, host:port, or repmgr's name of it.
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Promote although commits that clients were told of may be lost.
    #[arg(long)]
    allow_data_loss: bool,
    /// Of timelines of which none contains the others, this one is right; what the others have is given up.
    #[arg(long, value_name = "NUMBER")]
    accept_timeline: Option<u32>,
    /// Only say what would be done, and which guards hold.
    #[arg(long)]
    dry_run: bool,
    /// Print the table by which pgherd decides, in Markdown, with a diagram in Mermaid. Nobody is asked.
    #[arg(long, exclusive = true)]
    explain: bool,
}

#[derive(Args, Debug)]
struct RejoinArgs {
    #[command(flatten)]
    access: Access,
    /// The server: its number, host, host:port, or repmgr's name of it.
    #[arg(value_name = "NODE")]
    server: String,
    /// Also if it has WAL of its own, which is lost then.
    #[arg(long)]
    allow_data_loss: bool,
    /// Clone it anew from the primary instead of rewinding what it has.
    #[arg(long)]
    reclone: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args, Debug)]
struct ServerArgs {
    #[command(flatten)]
    access: Access,
    /// The server: its number, host, host:port, or repmgr's name of it.
    #[arg(value_name = "NODE")]
    server: String,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// When the process cannot be set up, or standard output can't be written.
    pub(crate) fn run(self) -> io::Result<ExitCode> {
        match self.command.unwrap_or(Command::Run(self.run)) {
            Command::Run(args) => daemon::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Migrate(args) => migrate::run(&args),
            Command::Status(args) => status::run(&args),
            Command::Health(args) => health::run(&args),
            Command::Events(args) => events::run(&args),
            Command::Order(Order::Failover(args)) if args.explain => herd::explain(),
            Command::Order(order) => herd::run(order),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), NAME, &mut script);
                print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
            }
            Command::Man => {
                let mut page = Vec::new();
                man::render(&mut page)?;
                print(&String::from_utf8_lossy(&page)).map(|()| ExitCode::SUCCESS)
            }
        }
    }
}
