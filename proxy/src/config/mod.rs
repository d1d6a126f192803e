//! The configuration: defaults, then the file, then the variables of the system that pgherd replaces, then `PGHERD_...`
//! variables.
//!
//! Sources are read into a [`raw`](raw::Raw) form, in which every name is known to be a key. [`resolve`] is the one
//! bridge to [`Config`], whose values need no further check.

mod auth;
mod changes;
mod describe;
mod environment;
mod file;
mod http;
pub(crate) mod keys;
mod legacy;
mod listen;
mod live;
pub(crate) mod nearest;
pub(crate) mod nodes;
mod overrides;
pub(crate) mod pgbouncer;
pub(crate) mod pgpool;
mod pool;
mod problem;
mod raw;
mod redirect;
mod resolve;
mod resolved;
mod routing;
mod secret;
mod secret_file;
mod set;
mod tables;
mod tcp;
#[cfg(test)]
mod tests;
mod trace;
pub(crate) mod units;
mod user_maps;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pgherd_failover::CommandSettings;
use pgherd_tls::{ChannelBinding, Mode, ServerTls};

pub(crate) use auth::{Auth, ServerPassword, UserMap};
pub(crate) use changes::FIXED;
pub(crate) use http::Http;
pub(crate) use keys::KEYS;
pub(crate) use listen::{Listen, ListenTls, TlsVersion};
pub(crate) use live::Live;
pub(crate) use pool::{HiddenState, Pool, PoolMode, PoolOverride, PrepareUnnamed, Sizes, Timeouts};
pub(crate) use problem::{Origin, Problem};
#[cfg(test)]
pub(crate) use redirect::Preference;
pub(crate) use redirect::Preferred;
pub(crate) use resolved::{
    Admin, Config, Discover, Etcd, Executor, Failover, FailoverMode, Log, LogFormat, LogLevel, Monitor,
    Repmgr, Runtime, Ssh,
};
pub(crate) use routing::{Consistency, MaxLag, ReadPolicy, Reads, Routing};
pub(crate) use secret::Secret;
pub(crate) use set::{Change, Refusal, Sources};
pub(crate) use tcp::Tcp;
#[cfg(test)]
pub(crate) use tests::load_with;
pub(crate) use trace::Trace;
pub(crate) use units::as_pgbouncer;
pub(crate) use value::Choice;

use environment::Environment;
use raw::Raw;

use crate::tls::Acceptor;

/// The file that is read where none is named, if it is there.
pub(crate) const DEFAULT_FILE: &str = "/etc/pgherd/pgherd.toml";

/// A configuration that pgherd can run with.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What is in force.
    pub(crate) config: Config,
    /// Where each key's value comes from; keys without a value are missing.
    pub(crate) origins: BTreeMap<&'static str, Origin>,
    /// The file that was read, if any.
    pub(crate) file: Option<PathBuf>,
    /// What has no effect, or not the one that may be expected.
    pub(crate) warnings: Vec<Problem>,
    /// What the sources say, for those who change something of it later.
    pub(crate) sources: Sources,
}

/// Why a configuration can't be used.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// All errors; at least one.
    pub(crate) errors: Vec<Problem>,
    /// The file that was read, if any.
    pub(crate) file: Option<PathBuf>,
    /// As in [`Loaded`].
    pub(crate) warnings: Vec<Problem>,
}

/// Reads the configuration of this process: from `file`, else the one that `PGHERD_CONFIG` names, else
/// [`DEFAULT_FILE`] if it exists; and from the environment.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn load(file: Option<&Path>) -> Result<Loaded, Rejected> {
    load_from(file, Path::new(DEFAULT_FILE), std::env::vars_os())
}

/// The same, of other sources.
pub(crate) fn load_from(
    file: Option<&Path>,
    default_file: &Path,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Rejected> {
    let (mut raw, file) = gather(file, default_file, variables);
    match resolve::resolve(&mut raw) {
        Some((config, origins)) => {
            let mut warnings = std::mem::take(&mut raw.warnings);
            warnings.extend(doubts(&config));
            Ok(Loaded { config, origins, file, warnings, sources: Sources::new(raw) })
        }
        None => {
            raw.errors.sort_by_key(Problem::place);
            Err(Rejected { errors: raw.errors, file, warnings: raw.warnings })
        }
    }
}

/// What is wrong with a text, and what is doubtful, if it were the file at `path` and there were no other source.
pub(crate) fn check_text(text: &str, path: &Path) -> (Vec<Problem>, Vec<Problem>) {
    let mut raw = Raw::default();
    file::parse(text, path, &mut raw);
    let doubts = resolve::resolve(&mut raw).map(|(config, _)| doubts(&config)).unwrap_or_default();
    raw.errors.sort_by_key(Problem::place);
    (raw.errors, raw.warnings.into_iter().chain(doubts).collect())
}

/// What the same sources say of `http`, also where something else of them is wrong: it is not changed before a restart, so that a pgherd
/// that runs is asked there. None where that itself is wrong.
pub(crate) fn load_http(file: Option<&Path>) -> Option<Http> {
    let (raw, _) = gather(file, Path::new(DEFAULT_FILE), std::env::vars_os());
    resolve::resolve_http(&raw)
}

/// What the sources say, and the file that is one of them.
fn gather(
    file: Option<&Path>,
    default_file: &Path,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> (Raw, Option<PathBuf>) {
    let environment = Environment::new(variables);
    let named = || environment.raw(environment::CONFIG_VARIABLE).map(PathBuf::from);
    let present = || default_file.exists().then(|| default_file.to_owned());
    let file = file.map(Path::to_owned).or_else(named).or_else(present);
    let mut raw = Raw::default();
    if let Some(path) = &file {
        file::read(path, &mut raw);
    }
    environment::read(&environment, &mut raw);
    legacy::read(&environment, &mut raw);
    (raw, file)
}

/// What becomes of a herd that pgherd can reach over SQL alone.
const WITHOUT_SSH: &str = "without ssh pgherd promotes and repoints standbys over SQL, and can neither stop a server nor make an \
                           old primary a standby";

/// What is valid, and yet hardly meant.
fn doubts(config: &Config) -> Vec<Problem> {
    let doubt =
        |key: &str, message: &str| Problem { origin: None, key: Some(key.into()), message: message.into() };
    let missing = |path: &Option<PathBuf>| path.is_none();
    let Failover { mode, executor, ssh, commands, .. } = &config.failover;
    let mut doubts = Vec::new();
    if let Ok(Some(acceptor)) = Acceptor::load(&config.listen.tls)
        && acceptor.expires_at() < SystemTime::now()
    {
        doubts.push(doubt("listen.tls.cert", "has expired: clients that verify it do not connect"));
    }
    if *mode == FailoverMode::Automatic && config.nodes.len() > 1 && *executor == Executor::Ssh {
        if missing(&ssh.key) {
            let what = format!("is not set: {WITHOUT_SSH}");
            doubts.push(doubt("failover.ssh.key", &what));
        }
        if missing(&ssh.known_hosts) {
            let what = format!("is not set, so that no host key is trusted: {WITHOUT_SSH}");
            doubts.push(doubt("failover.ssh.known_hosts", &what));
        }
    }
    let given = *commands != CommandSettings::default();
    if given != (*executor == Executor::Command) {
        let what = if given {
            "has commands, which are not used: failover.executor is not `command`"
        } else {
            "has no command: failover.executor = `command` does no more than `sql`"
        };
        doubts.push(doubt("failover.command", what));
    }
    doubts.extend(doubts_of_tls(&config.server_tls).map(|(key, message)| doubt(key, &message)));
    doubts.extend(auth::doubts(config));
    doubts
}

/// What looks as if it protected connections to the servers, and does not.
fn doubts_of_tls(tls: &ServerTls) -> impl Iterator<Item = (&'static str, String)> {
    let mode = tls.mode();
    let goes_without = matches!(mode, Mode::Disable | Mode::Allow | Mode::Prefer);
    let ca = (tls.settings().ca.is_some() && goes_without).then(|| {
        let message = format!(
            "protects little with mode {}: a server that it does not vouch for is connected to without TLS; \
             verify-full connects to no such server",
            mode.name()
        );
        ("backends.tls.ca", message)
    });
    let binding = (tls.channel_binding() == ChannelBinding::Require && goes_without).then(|| {
        let message = format!("needs TLS, and mode {} connects without it too: set require", mode.name());
        ("backends.tls.channel_binding", message)
    });
    ca.into_iter().chain(binding)
}
