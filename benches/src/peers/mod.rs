//! What is measured: PostgreSQL itself, pgherd, and what stands in its place elsewhere.

mod settings;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::process::Signal;
use serde::Serialize;

use crate::count::under_callgrind;
use crate::environment::{Environment, carries_statements, find_program, give_to_postgres, version};
use crate::options::Plan;
use crate::postgres::{Login, Postgres, wait_until_ready};
use crate::server::{Account, Server, server_command};
use crate::workload::{Mode, Subject};
use settings::Settings;

/// One thing that pgbench is run through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// PostgreSQL without anything between: the reference.
    Direct,
    /// The plain epoll relay: the floor.
    Relay,
    /// pgherd, transaction pooling.
    Pgherd,
    /// pgbouncer, transaction pooling where it can.
    Pgbouncer,
    /// The plain relay once more: the A/A control.
    RelayAgain,
    /// haproxy, plain TCP.
    Haproxy,
    /// pgpool with its connection cache; where there are standbys, it reads from them.
    Pgpool,
    /// pgherd that reads from standbys.
    PgherdReads,
}

/// A peer that accepts clients, until dropped.
pub struct Running {
    /// Where clients log in.
    pub login: Login,
    /// The root of its processes; none for PostgreSQL itself.
    pub id: Option<u32>,
    server: Option<Server>,
}

impl Running {
    /// Says why it ended, if it did.
    ///
    /// # Errors
    /// When it does not run any more, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.server.as_mut().map_or(Ok(()), Server::check_running)
    }
}

/// Where a peer is started, and whether its clients speak TLS.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// What is measured.
    pub plan: &'a Plan,
    /// What it stands on.
    pub environment: &'a Environment,
    /// What it stands before.
    pub postgres: &'a Postgres,
    /// Clients speak TLS.
    pub has_tls: bool,
    /// Users, of whom each has a pool.
    pub users: u32,
    /// pgherd has one worker, and valgrind counts its instructions.
    pub is_counted: bool,
}

impl Peer {
    /// Every peer. The two relays are apart, so that the control sees what moves within a round.
    pub const ALL: [Self; 8] = [
        Self::Direct,
        Self::Relay,
        Self::Pgherd,
        Self::Pgbouncer,
        Self::RelayAgain,
        Self::Haproxy,
        Self::Pgpool,
        Self::PgherdReads,
    ];

    /// Its name on the command line and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Pgherd => "pgherd",
            Self::Pgbouncer => "pgbouncer",
            Self::RelayAgain => "relay-again",
            Self::Haproxy => "haproxy",
            Self::Pgpool => "pgpool",
            Self::PgherdReads => "pgherd-reads",
        }
    }

    /// Whether this is measured with it. TLS ends in poolers; only pgherd and pgpool know standbys; no other than poolers take
    /// thousands of clients, or read their configuration again.
    #[must_use]
    pub const fn takes(self, subject: Subject) -> bool {
        match subject {
            Subject::Reads | Subject::Mixed => {
                matches!(self, Self::Direct | Self::Pgherd | Self::PgherdReads | Self::Pgpool)
            }
            Subject::Tls | Subject::ChurnTls | Subject::Crowd | Subject::Reload | Subject::Scale => {
                self.multiplexes()
            }
            Subject::Start => !matches!(self, Self::Direct | Self::RelayAgain | Self::PgherdReads),
            _ => !matches!(self, Self::PgherdReads),
        }
    }

    /// Whether idle clients share few server connections.
    #[must_use]
    pub const fn multiplexes(self) -> bool {
        matches!(self, Self::Pgherd | Self::Pgbouncer)
    }

    /// What a reader of this peer's figures must know, if it is of this version.
    #[must_use]
    pub fn note(self, mode: Mode, version: &str) -> Option<&'static str> {
        match self {
            Self::Pgbouncer if mode == Mode::Prepared && !carries_statements(version) => Some(
                "pgbouncer before 1.21 cannot carry prepared statements from one server connection to another: \
                 in this mode it pools sessions, and its pool is as large as the number of clients",
            ),
            Self::Pgpool => Some(
                "pgpool has a process and a server connection for each client, whatever the size of the pools",
            ),
            _ => None,
        }
    }

    const fn port(self) -> u16 {
        6430 + self as u16
    }

    fn program(self, plan: &Plan) -> Option<PathBuf> {
        match self {
            Self::Direct | Self::Relay | Self::RelayAgain => Some(plan.relay.clone()),
            Self::Pgherd | Self::PgherdReads => Some(plan.pgherd.clone()).filter(|file| file.is_file()),
            Self::Pgbouncer | Self::Haproxy | Self::Pgpool => find_program(self.name()),
        }
    }

    /// What exactly is measured, or, as the error, why it is left out.
    ///
    /// # Errors
    /// When it is not installed (or not built).
    pub fn version(self, plan: &Plan, environment: &Environment) -> Result<String> {
        let program = self.program(plan).with_context(|| match self {
            Self::Pgherd | Self::PgherdReads => format!("{} does not exist", plan.pgherd.display()),
            _ => "not installed".to_owned(),
        })?;
        Ok(match self {
            Self::Direct => version(&environment.pg_bindir.join("postgres"), "--version"),
            Self::Relay | Self::RelayAgain => format!("plain epoll relay {}", env!("CARGO_PKG_VERSION")),
            Self::Haproxy => version(&program, "-v"),
            Self::Pgherd | Self::PgherdReads | Self::Pgbouncer | Self::Pgpool => {
                version(&program, "--version")
            }
        })
    }

    /// Starts it before `postgres`, for so many clients at once, and waits until a client is served.
    ///
    /// # Errors
    /// When it does not serve, with the end of its log.
    pub async fn start(self, place: Place<'_>, mode: Mode, clients: u32) -> Result<Running> {
        let mut running = self.launch(place, mode, clients)?;
        if let Some(server) = &mut running.server {
            wait_until_ready(&running.login.config(), Some(server))
                .await
                .with_context(|| format!("start {self}"))?;
        }
        Ok(running)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(self, place: Place<'_>, mode: Mode, clients: u32) -> Result<Running> {
        let Place { plan, environment, postgres, has_tls, users, is_counted } = place;
        let mut login = postgres.login.clone();
        if self == Self::Direct {
            return Ok(Running { login, id: None, server: None });
        }
        login.port = self.port();
        if self == Self::Pgbouncer && mode == Mode::Prepared && !environment.carries_statements {
            login.database = settings::PGBOUNCER_SESSIONS.to_owned();
        }
        let settings = Settings {
            postgres,
            address: environment.address,
            port: self.port(),
            pool_size: plan.pool_size,
            // Room for pgbench's first connection, which only looks around, and for ours.
            clients: clients + 8,
            users,
            carries_statements: environment.carries_statements,
            tls: has_tls.then_some(&environment.tls),
            workers: is_counted.then_some(1),
        };
        let (command, stop) = self.command((plan, is_counted), environment, &settings)?;
        let server = Server::start(self.name(), environment.scratch(), command, stop)?;
        Ok(Running { login, id: Some(server.id()), server: Some(server) })
    }

    /// The command that runs it in the foreground, and the signal that ends it at once.
    fn command(
        self,
        (plan, is_counted): (&Plan, bool),
        environment: &Environment,
        settings: &Settings,
    ) -> Result<(Command, Signal)> {
        let program = self.program(plan).with_context(|| format!("{self} is not installed"))?;
        let files = settings.files(self, &environment.scratch().join(self.name()));
        let directory = environment.directory(self.name(), &files)?;
        let (account, on_death, stop) = match self {
            Self::Pgbouncer => (Account::Postgres, "TERM", Signal::TERM),
            // SIGTERM would wait for clients.
            Self::Pgpool => (Account::Postgres, "INT", Signal::INT),
            _ => (Account::Own, "TERM", Signal::TERM),
        };
        if account == Account::Postgres {
            give_to_postgres(&directory)?;
        }
        let mut command = if is_counted {
            let (valgrind, arguments) = under_callgrind(&directory);
            let mut command = server_command(account, on_death, valgrind);
            command.args(arguments).arg(program);
            command
        } else {
            server_command(account, on_death, program)
        };
        command.current_dir(&directory);
        let file = |name: &str| directory.join(name);
        match self {
            Self::Direct | Self::Relay | Self::RelayAgain => {
                let (listen, to) = (settings.listen(), (settings.address, settings.postgres.login.port));
                command.args(["relay", "--listen", &listen, "--to", &socket_address(to)]);
            }
            Self::Pgherd | Self::PgherdReads => {
                command.args(["run", "--config"]).arg(file("pgherd.toml"));
            }
            Self::Pgbouncer => _ = command.arg(file("pgbouncer.ini")),
            Self::Haproxy => _ = command.arg("-db").arg("-f").arg(file("haproxy.cfg")),
            Self::Pgpool => {
                command.args(["-n", "-D", "-f"]).arg(file("pgpool.conf"));
                command.arg("-a").arg(file("pool_hba.conf")).arg("-F").arg(file("pcp.conf"));
            }
        }
        Ok((command, stop))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

fn socket_address((address, port): (Ipv4Addr, u16)) -> String {
    format!("{address}:{port}")
}
