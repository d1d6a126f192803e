//! The console of the running pgherd, from the command line.

use std::env;
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pgherd_health::{ConnectFailure, Login, Session, drive};
use pgherd_tls::{Authorities, Mode, ServerTls, Settings};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;

use super::Access;
use super::herd::plain;
use crate::check::{CONFIGURATION_ERROR, print_problems};
use crate::config::{self, Config};
use crate::listener;

/// How long a connection and its login may take.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
/// The console's database.
const DATABASE: &str = "pgherd";
/// Exit code where nobody answers.
const UNREACHABLE: u8 = 3;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The configuration has errors, which have been printed.
    Configuration,
    /// Nobody answers there, or lets the user in.
    Unreachable(String),
    /// It answers with an error.
    Refused(String),
}

impl Failure {
    /// Says it, and what the process ends with.
    pub(super) fn report(&self) -> ExitCode {
        // Where nobody reads it, the exit code says it still.
        match self {
            Self::Configuration => ExitCode::from(CONFIGURATION_ERROR),
            Self::Unreachable(why) => {
                let _ = writeln!(io::stderr(), "error: {why}");
                ExitCode::from(UNREACHABLE)
            }
            Self::Refused(why) => {
                let _ = writeln!(io::stderr(), "error: {why}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Where pgherd is.
#[derive(Debug)]
enum Place {
    Tcp(String, u16),
    Unix(String, u16),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(directory, port) => listener::path_of(Path::new(directory), *port).display().fmt(f),
        }
    }
}

/// One row, by the names of its columns.
#[derive(Debug)]
pub(super) struct Row(tokio_postgres::SimpleQueryRow);

impl Row {
    /// A value; empty where it is NULL or there is no such column.
    pub(super) fn text(&self, column: &str) -> &str {
        self.value(column).unwrap_or_default()
    }

    /// A value, unless it is NULL.
    pub(super) fn value(&self, column: &str) -> Option<&str> {
        self.0.try_get(column).ok().flatten()
    }
}

/// A session on the console.
#[derive(Debug)]
pub(super) struct Console(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(Session),
    Unix { client: Client, _driver: AbortOnDropHandle<()> },
}

impl Console {
    /// Logs in.
    ///
    /// # Errors
    /// When the configuration has errors, or nobody lets the user in.
    pub(super) async fn open(access: &Access) -> Result<Self, Failure> {
        let config = configuration(access)?;
        let place = place(access, config.as_ref());
        let user = match (&access.user, &config) {
            (Some(user), _) => user.clone(),
            (None, Some(config)) => config.monitor.user.clone(),
            (None, None) => "repmgr".to_owned(),
        };
        let configured = || {
            let password = config.as_ref()?.monitor.password.as_ref()?;
            let of_user = config.as_ref().is_some_and(|config| config.monitor.user == user);
            of_user.then(|| password.expose().to_owned())
        };
        let password = env::var("PGPASSWORD").ok().or_else(configured);
        let opened = timeout(CONNECTS_WITHIN, connect(&place, &user, password.as_deref())).await;
        let why = match opened {
            Ok(Ok(kind)) => return Ok(Self(kind)),
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", CONNECTS_WITHIN.as_secs()),
        };
        Err(Failure::Unreachable(format!(
            "pgherd cannot be reached at {place} as user \"{user}\": {why}\n\
             Is it running? --config, --host, --port, --user and $PGPASSWORD say where it is and who asks."
        )))
    }

    /// What a command answers.
    ///
    /// # Errors
    /// When it is refused, or the connection is lost.
    pub(super) async fn ask(&self, command: &str) -> Result<Vec<Row>, Failure> {
        let client = match &self.0 {
            Kind::Tcp(session) => session.client(),
            Kind::Unix { client, .. } => client,
        };
        let messages = client.simple_query(command).await.map_err(|error| told(&error))?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(Row(row)),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }
}

/// Runs something that asks the running pgherd.
///
/// # Errors
/// When the process has no means for that, or standard output can't be written.
pub(super) fn run(what: impl Future<Output = Result<io::Result<ExitCode>, Failure>>) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(what).unwrap_or_else(|failure| Ok(failure.report()))
}

/// The configuration; none where it is not needed and cannot be had.
fn configuration(access: &Access) -> Result<Option<Config>, Failure> {
    let is_told = access.host.is_some() && access.user.is_some();
    if is_told {
        return Ok(config::load(access.config.as_deref()).ok().map(|loaded| loaded.config));
    }
    load(access.config.as_deref()).map(Some).inspect_err(|_| {
        let _ = writeln!(io::stderr(), "--host and --user say without a configuration where pgherd is.");
    })
}

/// The configuration of the running pgherd; what is wrong with it is printed.
///
/// # Errors
/// When it has errors.
pub(super) fn load(file: Option<&Path>) -> Result<Config, Failure> {
    config::load(file).map(|loaded| loaded.config).map_err(|rejected| {
        let _ = print_problems(&mut io::stderr(), &rejected.errors, &rejected.warnings);
        Failure::Configuration
    })
}

fn place(access: &Access, config: Option<&Config>) -> Place {
    let listen = config.map(|config| &config.listen);
    let port = access.port.or(listen.map(|listen| listen.address.port())).unwrap_or(5432);
    match (&access.host, listen) {
        (Some(host), _) if host.starts_with('/') => Place::Unix(host.clone(), port),
        (Some(host), _) => Place::Tcp(host.clone(), port),
        (None, Some(listen)) => match &listen.unix {
            Some(directory) => Place::Unix(directory.display().to_string(), port),
            None => Place::Tcp(local(listen.address).ip().to_string(), port),
        },
        (None, None) => Place::Tcp("127.0.0.1".to_owned(), port),
    }
}

/// Where an address that pgherd listens at is reached on the same machine.
pub(super) fn local(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn connect(place: &Place, user: &str, password: Option<&str>) -> Result<Kind, String> {
    match place {
        Place::Tcp(host, port) => {
            let tls = transport()?;
            let login = Login {
                user,
                password,
                database: DATABASE,
                application_name: "pgherd",
                options: "",
                tls: &tls,
                notice: Some(show_notice),
            };
            login.at(host, *port).await.map(Kind::Tcp).map_err(|why| why.to_string())
        }
        Place::Unix(directory, port) => {
            let path = listener::path_of(Path::new(directory), *port);
            let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
            let mut config = tokio_postgres::Config::new();
            config.user(user).dbname(DATABASE).application_name("pgherd");
            if let Some(password) = password {
                config.password(password);
            }
            let opened = config.connect_raw(stream, NoTls).await;
            let (client, connection) = opened.map_err(|error| ConnectFailure::of(&error).to_string())?;
            let driver = tokio::spawn(async { drop(drive(connection, Some(show_notice)).await) });
            Ok(Kind::Unix { client, _driver: AbortOnDropHandle::new(driver) })
        }
    }
}

/// How an order goes, as it goes; what it came to is printed apart.
fn show_notice(message: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", plain(message));
}

/// TLS as libpq's variables say: PGSSLMODE and PGSSLROOTCERT.
fn transport() -> Result<ServerTls, String> {
    let modes = [Mode::Disable, Mode::Allow, Mode::Prefer, Mode::Require, Mode::VerifyCa, Mode::VerifyFull];
    let mode = match env::var("PGSSLMODE") {
        Ok(name) => {
            modes.into_iter().find(|mode| mode.name() == name).ok_or("PGSSLMODE is no mode of libpq")?
        }
        Err(_) => Mode::Prefer,
    };
    let ca = env::var_os("PGSSLROOTCERT").map(|file| Authorities::File(file.into()));
    ServerTls::load(Settings { mode, ca, ..Settings::default() }).map_err(|error| error.to_string())
}

/// What the console says, with what it adds.
fn told(error: &tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(said) => {
            let more = [said.detail(), said.hint()].into_iter().flatten();
            let lines: Vec<&str> = std::iter::once(said.message()).chain(more).collect();
            Failure::Refused(lines.join("\n"))
        }
        None => Failure::Unreachable(format!(
            "the connection to pgherd was lost: {error}\nAn order that it has taken stands: see pgherd status."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_on_the_same_machine() {
        for (listens, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.7:80", "10.0.0.7:80"),
            ("[fe80::1%7]:80", "[fe80::1%7]:80"),
        ] {
            let address = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text} is an address"));
            assert_eq!(local(address(listens)), address(asked));
        }
    }
}
