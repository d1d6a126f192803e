//! What becomes of pgbouncer.ini.

mod auth;
mod databases;
mod defaults;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::draft::{Draft, Fate, section_of};
use super::listen;
use super::source::{Fault, Setting};
use super::toml_value::Toml;
use crate::config::keys::{self, Known};
use crate::config::pgbouncer::{self, Replaced};
use crate::config::{nearest, units};

/// PgBouncer's port.
const PORT: u16 = 6432;
/// Each table of exceptions is compared with every other one.
const MOST_ENTRIES: usize = 10_000;

/// The settings of `[pgbouncer]` that count: of several with one name the last.
struct Ini {
    settings: BTreeMap<String, Setting>,
    /// The file, from which others are named.
    path: PathBuf,
}

impl Ini {
    /// The setting of this name; nobody else finds it then.
    fn take(&mut self, name: &str) -> Option<Setting> {
        self.settings.remove(name).filter(|setting| !setting.value.is_empty())
    }

    /// A path that the file names.
    fn file(&self, text: &str) -> PathBuf {
        let path = super::ini::beside(&self.path, text);
        std::path::absolute(&path).unwrap_or(path)
    }
}

/// Makes a configuration of what pgbouncer.ini says.
pub(super) fn migrate(
    path: &Path,
    settings: Vec<Setting>,
    hba: Option<&Path>,
    draft: &mut Draft,
) -> Result<(), Fault> {
    let (mut databases, mut users) = (BTreeMap::new(), BTreeMap::new());
    let mut ini = Ini { settings: BTreeMap::new(), path: path.to_owned() };
    let mut order = Vec::new();
    for setting in settings {
        let name = setting.name.clone();
        let at = setting.place.to_string();
        let earlier = match setting.section {
            "databases" => {
                order.push(name.clone());
                databases.insert(name, setting)
            }
            "users" => users.insert(name, setting),
            "pgbouncer" => ini.settings.insert(name, setting),
            _ => {
                draft
                    .became(&setting, Fate::Needless("one pgherd uses as many cores as it needs".to_owned()));
                None
            }
        };
        if let Some(earlier) = earlier {
            draft.became(&earlier, Fate::Unused(format!("it is given again at {at}")));
        }
    }
    if databases.len() + users.len() > MOST_ENTRIES {
        return Err(Fault::of(
            path,
            format!("has more than {MOST_ENTRIES} databases and users: pgherd can't have as many exceptions"),
        ));
    }
    let (hosts, port) = (ini.take("listen_addr"), ini.take("listen_port"));
    listen::address(draft, (hosts, ""), (port, PORT, ""));
    socket(&mut ini, draft);
    tls(&mut ini, draft);
    pool_mode(&mut ini, draft);
    databases::users(users, draft)?;
    databases::migrate(&order, databases, draft)?;
    auth::migrate(&mut ini, hba, draft);
    let rest = std::mem::take(&mut ini.settings);
    rest.into_values().for_each(|setting| other(&setting, draft));
    failover(draft);
    Ok(())
}

fn socket(ini: &mut Ini, draft: &mut Draft) {
    if let Some(setting) = ini.take("unix_socket_dir") {
        if setting.value.starts_with('@') {
            draft.replaced(
                "listen",
                &setting,
                "pgherd has no socket without a file: name a directory, `unix`",
            );
        } else {
            draft.take(&setting, "listen.unix", &setting.value);
        }
    }
    if let Some(setting) = ini.take("unix_socket_group") {
        draft.replaced(
            "listen",
            &setting,
            "give the directory of `unix` that group, and bound who may enter it",
        );
    }
}

fn pool_mode(ini: &mut Ini, draft: &mut Draft) {
    const SAFE: &str = "In session mode as many clients are served as there are connections. `mode = \"transaction\"` serves many times as many, \
                        and is safe here for everything that a session may do (docs/pools.md).";
    let setting = ini.take("pool_mode");
    match &setting {
        Some(setting) => draft.take(setting, "pool.mode", &setting.value.to_ascii_lowercase()),
        None => draft.set("pool.mode", Toml::Text("session".to_owned()), "PgBouncer's default"),
    }
    if draft.value("pool.mode") == Some(&Toml::Text("session".to_owned())) {
        draft.remark("pool", SAFE);
    }
}

fn tls(ini: &mut Ini, draft: &mut Draft) {
    const FILES: [(&str, &str, &str); 6] = [
        ("client_", "tls_cert_file", "listen.tls.cert"),
        ("client_", "tls_key_file", "listen.tls.key"),
        ("client_", "tls_ca_file", "listen.tls.client_ca"),
        ("server_", "tls_cert_file", "backends.tls.cert"),
        ("server_", "tls_key_file", "backends.tls.key"),
        ("server_", "tls_ca_file", "backends.tls.ca"),
    ];
    for (side, key) in [("client_", "listen.tls.mode"), ("server_", "backends.tls.mode")] {
        let setting = ini.take(&format!("{side}tls_sslmode"));
        let mode = setting.as_ref().map(|setting| setting.value.to_string());
        let default = if side == "client_" { "disable" } else { "prefer" };
        let is_off = mode.as_deref().unwrap_or(default) == "disable";
        if let Some(setting) = setting {
            draft.take(&setting, key, &setting.value);
        }
        for (_, name, key) in FILES.iter().filter(|(of, ..)| *of == side) {
            let Some(setting) = ini.take(&format!("{side}{name}")) else { continue };
            if is_off {
                draft.became(&setting, Fate::Unused(format!("{side}tls_sslmode is disable")));
            } else {
                let path = ini.file(&setting.value);
                draft.take_path(&setting, key, &path);
            }
        }
        let section = section_of(key);
        if let Some(setting) = ini.take(&format!("{side}tls_protocols")) {
            protocols(&setting, section, draft);
        }
    }
}

fn protocols(setting: &Setting, section: &'static str, draft: &mut Draft) {
    let is_newest = matches!(setting.value.to_ascii_lowercase().as_str(), "tlsv1.3");
    match section {
        _ if defaults::is_default(&setting.name, &setting.value) => draft.became(setting, Fate::Default),
        "listen.tls" if is_newest => draft.take(setting, "listen.tls.min_version", "1.3"),
        _ => draft.needless(section, setting, "TLS 1.2 and 1.3 are spoken, and nothing older"),
    }
}

/// A setting of which there is nothing special to know.
fn other(setting: &Setting, draft: &mut Draft) {
    let (name, value) = (setting.name.as_str(), setting.value.trim());
    // Of these it is another thing that the default does.
    let is_other_here = matches!(name, "max_client_conn" | "default_pool_size");
    if value.is_empty() || !is_other_here && defaults::is_default(name, value) {
        return draft.became(setting, Fate::Default);
    }
    match name {
        "server_lifetime" if defaults::is_zero(value) => {
            return draft.replaced(
                "pool",
                setting,
                "a connection that serves once has no equal: connections live for `server_lifetime`",
            );
        }
        "server_login_retry" => {
            let why = "a server that could not be reached is tried again after 50 ms, by one client for all, while the others wait";
            return draft.replaced("pool", setting, why);
        }
        "tcp_user_timeout" => {
            return draft.take(setting, "pool.tcp_user_timeout", &format!("{value}ms"));
        }
        "listen_backlog" => return draft.take(setting, "listen.backlog", value),
        "verbose" => return draft.take(setting, "log.level", if value == "1" { "debug" } else { "trace" }),
        _ => {}
    }
    match (keys::look_up_bare(name), pgbouncer::find(name)) {
        (Known::Key(key), _) if is_of_pool(key.name) => {
            let text = if key.is_in_seconds() { units::from_pgbouncer(value) } else { value.to_owned() };
            draft.take(setting, key.name, &text);
        }
        (_, Some((section, Replaced::Needless(why)))) => draft.needless(section, setting, why),
        (_, Some((section, Replaced::Elsewhere(why)))) => draft.replaced(section, setting, why),
        _ => {
            draft.unknown(setting, "PgBouncer", nearest::word(name, defaults::names()));
        }
    }
}

fn is_of_pool(key: &str) -> bool {
    key.starts_with("pool.") || key == "listen.unix_mode"
}

/// PgBouncer does nothing to servers, and sends nothing elsewhere.
fn failover(draft: &mut Draft) {
    draft.set("failover.mode", Toml::Text("manual".to_owned()), "PgBouncer promotes nobody");
    draft.remark(
        "failover",
        "`mode = \"automatic\"` has pgherd promote a standby when the primary is lost (docs/failover.md).",
    );
    draft.todo("monitor", "user, database, password_file: the role that watches the servers (docs/operate.md, What the servers need)");
    draft.remark(
        "monitor",
        "PgBouncer watches nothing; pgherd does, as `user` (\"repmgr\"), a superuser as a rule, in `database` (\"repmgr\": where repmgr's tables are, \
         if there is a repmgr, else \"postgres\"). Its password is in the file that `password_file` names.",
    );
}
