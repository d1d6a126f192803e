//! What becomes of pgpool.conf.

mod backends;
mod defaults;
mod failover;
mod routing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::draft::{Draft, Fate};
use super::listen;
use super::source::Setting;
use crate::config::nearest;
use crate::config::pgpool::{Known, WATCHDOG, look_up, switch};

/// pgpool's port, as its developers and most packages have it.
const PORT: u16 = 9999;

const MODE: &str = "pgpool keeps a server connection for each client. Here one is lent for each transaction, which is safe for everything that a \
                    session may do, so that fewer do (docs/pools.md); `mode = \"session\"` is as pgpool has it.";

/// The settings that count: of several with one name the last.
struct Conf {
    settings: BTreeMap<String, Setting>,
    /// The directory from which the file names others.
    directory: PathBuf,
}

/// Makes a configuration of what pgpool.conf says.
pub(super) fn migrate(path: &Path, settings: Vec<Setting>, hba: Option<&Path>, draft: &mut Draft) {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let mut conf = Conf::new(settings, directory, draft);
    let (hosts, port) = (conf.take("listen_addresses"), conf.take("port"));
    listen::address(draft, (hosts, "localhost"), (port, PORT, " (5433 in Debian's package)"));
    sockets(&mut conf, draft);
    let servers = backends::migrate(&mut conf, draft);
    failover::monitor(&mut conf, draft);
    failover::migrate(&mut conf, servers, draft);
    routing::migrate(&mut conf, draft);
    tls(&mut conf, draft);
    rules(&mut conf, hba, draft);
    idle(&conf, draft);
    draft.remark("pool", MODE);
    let off = Off::new(&conf);
    let rest = std::mem::take(&mut conf.settings);
    rest.into_iter().for_each(|(name, setting)| other(&name, &setting, &off, draft));
}

impl Conf {
    fn new(settings: Vec<Setting>, directory: PathBuf, draft: &mut Draft) -> Self {
        let mut known = BTreeMap::<String, Setting>::new();
        for setting in settings {
            let base = defaults::name_of(&setting.name);
            let number = setting.name.trim_start_matches(|it: char| !it.is_ascii_digit());
            let is_numbered = setting.name.ends_with(|it: char| it.is_ascii_digit());
            // `recovery_1st_stage_command` has a number within, and no server.
            let name = if is_numbered { format!("{base}{}", digits_behind(number)) } else { base.to_owned() };
            let at = setting.place.to_string();
            if let Some(earlier) = known.insert(name, setting) {
                draft.became(&earlier, Fate::Unused(format!("it is given again at {at}")));
            }
        }
        Self { settings: known, directory }
    }

    /// The setting of this name; nobody else finds it then.
    fn take(&mut self, name: &str) -> Option<Setting> {
        self.settings.remove(name)
    }

    /// The same, unless it says what pgpool does anyway.
    fn take_other(&mut self, name: &str, draft: &mut Draft) -> Option<Setting> {
        let setting = self.take(name)?;
        if defaults::is_default(name, &setting.value) {
            draft.became(&setting, Fate::Default);
            return None;
        }
        Some(setting)
    }

    /// Those of servers, by their numbers.
    fn take_numbered(&mut self, base: &str) -> BTreeMap<u32, Setting> {
        let number = |name: &str| name.strip_prefix(base).and_then(|rest| rest.parse().ok());
        let found: Vec<(String, u32)> =
            self.settings.keys().filter_map(|name| Some((name.clone(), number(name)?))).collect();
        found.into_iter().filter_map(|(name, number)| Some((number, self.take(&name)?))).collect()
    }

    fn is_on(&self, name: &str) -> bool {
        self.settings.get(name).is_some_and(|setting| switch(setting.value.trim()) == Some(true))
    }

    /// A path that the file names.
    fn path(&self, text: &str) -> PathBuf {
        self.directory.join(text)
    }
}

/// The digits at the end.
fn digits_behind(text: &str) -> &str {
    let start = text.trim_end_matches(|it: char| it.is_ascii_digit()).len();
    text.get(start..).unwrap_or_default()
}

fn sockets(conf: &mut Conf, draft: &mut Draft) {
    if let Some(setting) = conf.take("unix_socket_directories") {
        let mut directories = setting.value.split(',').map(str::trim).filter(|it| !it.is_empty());
        if let Some(directory) = directories.next() {
            draft.take(&setting, "listen.unix", directory);
        } else {
            draft.became(&setting, Fate::Default);
        }
        if directories.next().is_some() {
            draft.note(
                "listen",
                &setting,
                "pgherd has one directory: links to the socket may stand in others",
            );
        }
    }
    if let Some(setting) = conf.take_other("unix_socket_permissions", draft) {
        draft.take(&setting, "listen.unix_mode", &setting.value);
    }
}

const TO_SERVERS: &str = "pgpool verified servers by it, too, those that have TLS: `mode = \"verify-ca\"` (or \"verify-full\") and `ca` \
                          in backends.tls do it for all";

fn tls(conf: &mut Conf, draft: &mut Draft) {
    if !conf.is_on("ssl") {
        return;
    }
    for (name, key) in [
        ("ssl_cert", "listen.tls.cert"),
        ("ssl_key", "listen.tls.key"),
        ("ssl_ca_cert", "listen.tls.client_ca"),
        ("ssl_crl_file", "listen.tls.client_crl"),
    ] {
        let Some(setting) = conf.take_other(name, draft) else { continue };
        let path = conf.path(&setting.value);
        draft.take_path(&setting, key, &path);
        if name == "ssl_ca_cert" {
            draft.must("backends.tls", &setting, TO_SERVERS);
        }
    }
    if let Some(setting) = conf.take("ssl") {
        draft.became(&setting, Fate::Taken("listen.tls.mode".to_owned()));
    }
    if let Some(setting) = conf.take_other("ssl_passphrase_command", draft) {
        draft.must(
            "listen.tls",
            &setting,
            "the key must not be encrypted: decrypt it into a file that pgherd's user alone may read",
        );
    }
    for name in ["ssl_ciphers", "ssl_prefer_server_ciphers", "ssl_ecdh_curve", "ssl_dh_params_file"] {
        if let Some(setting) = conf.take_other(name, draft) {
            draft.needless(
                "listen.tls",
                &setting,
                "there are no weak ciphers to choose from; see `listen.tls.min_version`",
            );
        }
    }
    if let Some(setting) = conf.take_other("ssl_ca_cert_dir", draft) {
        draft.must("listen.tls", &setting, "write the certificates into one file, for `client_ca`");
    }
}

/// The rules for logins, which are in the format of PostgreSQL's at both.
fn rules(conf: &mut Conf, hba: Option<&Path>, draft: &mut Draft) {
    let is_on = conf.is_on("enable_pool_hba");
    let setting = conf.take("enable_pool_hba");
    let beside = conf.path("pool_hba.conf");
    let path = match hba {
        Some(path) => Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())),
        None => Some(beside).filter(|path| is_on && path.exists()),
    };
    let Some(setting) = setting else {
        if let Some(path) = path {
            draft.set("auth.hba_file", super::toml_value::Toml::Text(path.display().to_string()), "--hba");
        }
        return;
    };
    match path {
        Some(path) => {
            draft.take_path(&setting, "auth.hba_file", &path);
            draft.remark(
                "auth",
                "Copy the rules before pgpool's package is purged. Who is let in by `trust` or `cert` gives nothing to log in at the \
                 servers with: docs/authentication.md says what does.",
            );
        }
        None if is_on => {
            draft.must(
                "auth",
                &setting,
                "pool_hba.conf is not beside pgpool.conf: name it with --hba, for `hba_file`",
            );
        }
        None => draft.became(&setting, Fate::Default),
    }
}

/// pgpool's limit counts within transactions, too.
fn idle(conf: &Conf, draft: &mut Draft) {
    let Some(setting) = conf.settings.get("client_idle_limit") else { return };
    if let (Known::Mapped(to), false) =
        (look_up("client_idle_limit"), defaults::is_default("client_idle_limit", &setting.value))
        && let Some(text) = to.value(&setting.value)
    {
        let remark = format!("{}, which counts within transactions, too", setting.shown());
        draft.set("pool.idle_transaction_timeout", super::toml_value::Toml::Text(text), remark);
    }
}

/// Parts of pgpool that are turned off, so that their settings say nothing.
struct Off(Vec<(&'static [&'static str], &'static str)>);

impl Off {
    fn new(conf: &Conf) -> Self {
        const PARTS: [(&str, &[&str]); 5] = [
            ("use_watchdog", WATCHDOG),
            ("use_watchdog", &["clear_memqcache"]),
            ("memory_cache_enabled", &["memqcache_", "cache_safe_", "cache_unsafe_"]),
            ("ssl", &["ssl_"]),
            (
                "logging_collector",
                &["log_directory", "log_filename", "log_file_mode", "log_rotation", "log_truncate"],
            ),
        ];
        Self(
            PARTS
                .into_iter()
                .filter(|(switch, _)| !conf.is_on(switch))
                .map(|(switch, names)| (names, switch))
                .collect(),
        )
    }

    fn of(&self, name: &str) -> Option<&'static str> {
        self.0
            .iter()
            .find(|(starts, switch)| name != *switch && starts.iter().any(|start| name.starts_with(start)))
            .map(|(_, switch)| *switch)
    }
}

/// A setting of which there is nothing special to know.
fn other(name: &str, setting: &Setting, off: &Off, draft: &mut Draft) {
    let name = defaults::name_of(name);
    if defaults::is_default(name, &setting.value) {
        draft.became(setting, Fate::Default);
        return;
    }
    if let Some(switch) = off.of(name) {
        draft.became(setting, Fate::Unused(format!("{switch} is off")));
        return;
    }
    match look_up(name) {
        Known::Mapped(to) => match to.value(setting.value.trim()) {
            Some(text) => draft.take(setting, to.key(), &text),
            None => {
                let section = super::draft::section_of(to.key());
                draft.replaced(section, setting, &format!("pgpool takes no such value; see `{}`", to.key()));
            }
        },
        Known::Replaced(it) if defaults::names().any(|known| known == name) => {
            draft.replaced(it.section, setting, it.why);
        }
        Known::Replaced(it) => {
            // It begins as one that is known, and may be a password with a misspelt name.
            draft.note_of(it.section, &setting.name, it.why);
            draft.became(setting, Fate::Replaced(it.why.to_owned()));
        }
        Known::Unknown => {
            draft.unknown(setting, "pgpool", nearest::word(name, defaults::names()));
        }
    }
}
