//! The one bridge from the raw configuration to the resolved one. Collects all errors before it gives up.

mod etcd;
mod pool;
mod routing;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use pgherd_failover::CommandSettings;
use pgherd_tls::ServerTls;

use super::keys;
use super::problem::{Origin, Problem};
use super::raw::{Layer, Raw, Value};
use super::value::{self, Read};
use super::{
    Admin, Config, Etcd, Failover, Http, Log, Monitor, Repmgr, Runtime, Secret, Ssh, nodes, secret_file,
};

const DAY: Duration = Duration::from_secs(86_400);
const GRACE: RangeInclusive<Duration> = Duration::ZERO..=DAY;
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=DAY;
const PROBE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);

/// What is wrong with a value, and where within it.
pub(crate) struct Fault {
    /// The place, if it is another than the key's.
    pub(crate) origin: Option<Origin>,
    /// What is wrong.
    pub(crate) message: String,
}

impl Fault {
    /// A fault of the value as a whole.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { origin: None, message: message.into() }
    }
}

/// Builds the configuration. None if there are errors; they are added to `raw`'s.
pub(crate) fn resolve(raw: &mut Raw) -> Option<(Config, BTreeMap<&'static str, Origin>)> {
    let mut bridge = Bridge { raw, errors: Vec::new(), origins: BTreeMap::new() };
    let config = bridge.config();
    let (errors, origins) = (bridge.errors, bridge.origins);
    raw.errors.extend(errors);
    raw.errors.is_empty().then_some((config?, origins))
}

/// `before`, with what is given for the section that the key `name` stands in, and for those that depend on it.
pub(crate) fn resolve_section(raw: &Raw, name: &str, before: &Config) -> Result<Config, Vec<Problem>> {
    let mut bridge = Bridge { raw, errors: Vec::new(), origins: BTreeMap::new() };
    let config = bridge.section(name.split('.').next().unwrap_or_default(), before.clone());
    match config {
        Some(config) if bridge.errors.is_empty() => Ok(config),
        _ => Err(bridge.errors),
    }
}

/// The section `http`, whatever is wrong with others.
pub(crate) fn resolve_http(raw: &Raw) -> Option<Http> {
    Bridge { raw, errors: Vec::new(), origins: BTreeMap::new() }.http()
}

/// What is read, and what is found wrong with it.
pub(super) struct Bridge<'a> {
    raw: &'a Raw,
    pub(super) errors: Vec<Problem>,
    pub(super) origins: BTreeMap<&'static str, Origin>,
}

impl Bridge<'_> {
    // In each of these functions all keys are read before the first `?`, so that all errors are seen.

    fn config(&mut self) -> Option<Config> {
        let listen = self.listen();
        let nodes = self.nodes();
        let discover = self.get("backends.discover", value::choice);
        let server_tls = self.server_tls();
        let monitor = self.monitor();
        let pool = self.pool();
        let routing = self.routing();
        let auth = self.auth();
        let failover = self.failover();
        let http = self.http();
        let memory_limit = self.memory_limit();
        let runtime = self.runtime();
        let admin = self.admin(monitor.as_ref());
        let log = self.log();
        let trace = self.trace();
        Some(Config {
            listen: listen?,
            nodes: nodes?,
            discover: discover?,
            server_tls: server_tls?,
            monitor: monitor?,
            pool: pool?,
            routing: routing?,
            auth: auth?,
            failover: failover?,
            http: http?,
            memory_limit: memory_limit?,
            runtime: runtime?,
            admin: admin?,
            log: log?,
            trace: trace?,
        })
    }

    /// `config` with this section as it is given, and what depends on it.
    fn section(&mut self, section: &str, mut config: Config) -> Option<Config> {
        match section {
            "listen" => config.listen = self.listen()?,
            "backends" => {
                let (nodes, server_tls) = (self.nodes(), self.server_tls());
                config.discover = self.get("backends.discover", value::choice)?;
                (config.nodes, config.server_tls) = (nodes?, server_tls?);
            }
            "monitor" | "admin" => {
                let monitor = self.monitor();
                let admin = self.admin(monitor.as_ref());
                (config.monitor, config.admin) = (monitor?, admin?);
            }
            "pool" => config.pool = self.pool()?,
            "routing" => config.routing = self.routing()?,
            "auth" => config.auth = self.auth()?,
            "failover" => config.failover = self.failover()?,
            "http" => config.http = self.http()?,
            "memory" => config.memory_limit = self.memory_limit()?,
            "runtime" => config.runtime = self.runtime()?,
            "log" => config.log = self.log()?,
            "trace" => config.trace = self.trace()?,
            _ => return None,
        }
        Some(config)
    }

    /// The monitor's user administers if nobody is named.
    fn admin(&mut self, monitor: Option<&Monitor>) -> Option<Admin> {
        let users = self.get("admin.users", value::names);
        let stats_users = self.get("admin.stats_users", value::names).unwrap_or_default();
        let users = users.or_else(|| Some(vec![monitor?.user.clone()]))?;
        Some(Admin { users, stats_users })
    }

    fn log(&mut self) -> Option<Log> {
        let level = self.get("log.level", value::choice);
        let format = self.get("log.format", value::choice);
        Some(Log { level: level?, format: format? })
    }

    fn nodes(&mut self) -> Option<Vec<pgherd_health::Node>> {
        let given = self.raw.settings.iter().any(|setting| setting.key.name == "backends.nodes");
        // A file that can't be read may well have named them.
        if !given && !self.raw.unreadable {
            let message = "is required: `id:host:port:weight:datadir:flag`, as many as there are servers, \
                           for example \"0:pg01:5432,1:pg02:5432\" (or in PG_BACKEND_NODE_LIST)";
            self.errors.push(Problem {
                origin: None,
                key: Some("backends.nodes".into()),
                message: message.into(),
            });
        }
        Some(self.read("backends.nodes", nodes::read)?.1)
    }

    fn server_tls(&mut self) -> Option<Arc<ServerTls>> {
        let mode = self.get("backends.tls.mode", value::choice);
        let ca = self.get("backends.tls.ca", value::authorities);
        let certificate = self.get("backends.tls.cert", value::path);
        let key = self.get("backends.tls.key", value::path);
        let channel_binding = self.get("backends.tls.channel_binding", value::choice);
        let settings =
            pgherd_tls::Settings { mode: mode?, ca, certificate, key, channel_binding: channel_binding? };
        let refused = |error: pgherd_tls::LoadError| {
            let name = match error.subject {
                pgherd_tls::Subject::Mode => "backends.tls.mode",
                pgherd_tls::Subject::Ca => "backends.tls.ca",
                pgherd_tls::Subject::Certificate => "backends.tls.cert",
                pgherd_tls::Subject::Key => "backends.tls.key",
            };
            let origin = self.origins.get(name).cloned().unwrap_or(Origin::Default);
            self.errors.push(Problem::new(origin, name, error.message));
        };
        ServerTls::load(settings).map(Arc::new).map_err(refused).ok()
    }

    fn monitor(&mut self) -> Option<Monitor> {
        let user = self.get("monitor.user", value::text);
        let password = self.secret("monitor.password", "monitor.password_file");
        let database = self.get("monitor.database", value::text);
        let interval = self.get("monitor.interval", value::duration(PROBE));
        let timeout = self.get("monitor.timeout", value::duration(PROBE));
        let system_identifier = self.get("monitor.system_identifier", value::system_identifier);
        Some(Monitor {
            user: user?,
            password,
            database: database?,
            interval: interval?,
            timeout: timeout?,
            system_identifier,
        })
    }

    /// A password that one key gives, or a file of it that another names, whichever source counts more.
    pub(super) fn secret(&mut self, name: &'static str, file_name: &'static str) -> Option<Secret> {
        let direct = self.read(name, plain(value::secret));
        let file = self.read(file_name, plain(value::path));
        let (Some((direct_layer, _)), Some((file_layer, _))) = (&direct, &file) else {
            return direct.map(|(_, secret)| secret).or_else(|| self.secret_in(&file?.1, name, file_name));
        };
        if direct_layer == file_layer {
            let origin = self.origins.get(file_name).cloned().unwrap_or(Origin::Default);
            let message = format!("is given beside {name}; keep one of them");
            self.errors.push(Problem::new(origin, file_name, message));
        }
        if direct_layer > file_layer {
            self.origins.remove(file_name);
            return direct.map(|(_, secret)| secret);
        }
        self.secret_in(&file?.1, name, file_name)
    }

    fn secret_in(
        &mut self,
        path: &std::path::Path,
        name: &'static str,
        file_name: &'static str,
    ) -> Option<Secret> {
        let origin = self.origins.get(file_name).cloned()?;
        self.origins.insert(name, origin.clone());
        secret_file::read(path).map_err(|why| self.errors.push(Problem::new(origin, file_name, why))).ok()
    }

    fn failover(&mut self) -> Option<Failover> {
        let mode = self.get("failover.mode", value::choice);
        let executor = self.get("failover.executor", value::choice);
        let confirm = self.get("failover.confirm", value::duration(GRACE));
        let restart_grace = self.get("failover.restart_grace", value::duration(GRACE));
        let start_grace = self.get("failover.start_grace", value::duration(GRACE));
        let cold_grace = self.get("failover.cold_grace", value::duration(GRACE));
        let max_data_loss = self.get("failover.max_data_loss", value::size);
        let reclone = self.get("failover.reclone", value::boolean);
        let min_interval = self.get("failover.min_interval", value::duration(GRACE));
        let switchover_timeout = self.get("failover.switchover_timeout", value::duration(GRACE));
        let write_wait = self.get("failover.write_wait", value::duration(GRACE));
        let max_waiting = self.get("failover.max_waiting", value::integer(0..=1_000_000));
        let ssh = self.ssh();
        let repmgr = self.repmgr();
        let commands = self.commands();
        let etcd = self.etcd();
        Some(Failover {
            mode: mode?,
            executor: executor?,
            confirm: confirm?,
            restart_grace: restart_grace?,
            start_grace: start_grace?,
            cold_grace: cold_grace?,
            max_data_loss: max_data_loss?,
            reclone: reclone?,
            min_interval: min_interval?,
            switchover_timeout: switchover_timeout?,
            write_wait: write_wait?,
            max_waiting: max_waiting?,
            ssh: ssh?,
            repmgr: repmgr?,
            commands,
            etcd: etcd?,
        })
    }

    fn ssh(&mut self) -> Option<Ssh> {
        let user = self.get("failover.ssh.user", value::text);
        let port = self.get("failover.ssh.port", value::integer(1..=usize::from(u16::MAX)));
        let key = self.get("failover.ssh.key", value::path);
        let known_hosts = self.get("failover.ssh.known_hosts", value::path);
        let connect_timeout = self.get("failover.ssh.connect_timeout", value::duration(TIMEOUT));
        let port = u16::try_from(port?).ok();
        Some(Ssh { user: user?, port: port?, key, known_hosts, connect_timeout: connect_timeout? })
    }

    fn repmgr(&mut self) -> Option<Repmgr> {
        let binary = self.get("failover.repmgr.binary", value::text);
        let config = self.get("failover.repmgr.config", value::repmgr_config);
        let pg_bindir = self.get("failover.repmgr.pg_bindir", value::text);
        Some(Repmgr { binary: binary?, config: config?, pg_bindir })
    }

    fn commands(&mut self) -> CommandSettings {
        CommandSettings {
            promote: self.get("failover.command.promote", value::command(false)),
            fence: self.get("failover.command.fence", value::command(false)),
            follow: self.get("failover.command.follow", value::command(true)),
            rejoin: self.get("failover.command.rejoin", value::command(true)),
            clone: self.get("failover.command.clone", value::command(true)),
            stop: self.get("failover.command.stop", value::command(false)),
            start: self.get("failover.command.start", value::command(false)),
        }
    }

    fn memory_limit(&mut self) -> Option<Option<u64>> {
        self.get("memory.limit", value::size_or_off)
    }

    fn runtime(&mut self) -> Option<Runtime> {
        let workers = self.get("runtime.workers", value::integer(1..=1024)).and_then(NonZeroUsize::new);
        let drain_timeout = self.get("runtime.drain_timeout", value::duration(GRACE));
        let handover = self.get("runtime.handover", value::path);
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Some(Runtime { workers: workers.unwrap_or_else(cores), drain_timeout: drain_timeout?, handover })
    }

    pub(super) fn get<T: PartialEq>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Value) -> Read<T>,
    ) -> Option<T> {
        self.read(name, plain(read)).map(|(_, value)| value)
    }

    /// The value of the source that counts most, and its layer. Values of the others are checked as well.
    pub(super) fn read<T: PartialEq>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Value) -> Result<T, Vec<Fault>>,
    ) -> Option<(Layer, T)> {
        let mut best: Option<(Layer, T, Origin)> = None;
        for setting in self.raw.settings.iter().filter(|setting| setting.key.name == name) {
            let origin = &setting.item.origin;
            let value = match read(&setting.item.value) {
                Ok(value) => value,
                Err(faults) => {
                    self.errors.extend(faults.into_iter().map(|fault| {
                        Problem::new(fault.origin.unwrap_or_else(|| origin.clone()), name, fault.message)
                    }));
                    continue;
                }
            };
            match &best {
                Some((layer, other, first)) if *layer == setting.layer => {
                    if *other != value {
                        let message = format!("is given a second time with another value, besides {first}");
                        self.errors.push(Problem::new(origin.clone(), name, message));
                    }
                }
                Some((layer, ..)) if *layer > setting.layer => {}
                _ => best = Some((setting.layer, value, origin.clone())),
            }
        }
        let (layer, value, origin) = best.or_else(|| {
            let default = read(&Value::plain(keys::find(name)?.default?)).ok()?;
            Some((Layer::Default, default, Origin::Default))
        })?;
        self.origins.insert(name, origin);
        Some((layer, value))
    }
}

fn plain<T>(read: impl Fn(&Value) -> Read<T>) -> impl Fn(&Value) -> Result<T, Vec<Fault>> {
    move |value| read(value).map_err(|why| vec![Fault::new(why)])
}
