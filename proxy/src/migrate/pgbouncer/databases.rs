//! `[databases]` and `[users]`.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::defaults;
use crate::config::{keys, units};
use crate::migrate::draft::{Draft, Fate, Table, fault, table_fault};
use crate::migrate::ini;
use crate::migrate::servers::{self, Server};
use crate::migrate::source::{Fault, Setting};
use crate::migrate::toml_value::Toml;

/// Where the list of databases was a bound.
const ALL_DATABASES: &str = "PgBouncer let clients into the databases of its list alone; pgherd into all that the servers have. \
                             Rules for `hba_file` bound that.";

/// PgBouncer's names of what may be different for a database or a user, and those of here; true for times.
const FIELDS: &[(&str, &str, bool)] = &[
    ("pool_mode", "mode", false),
    ("pool_size", "size", false),
    ("min_pool_size", "min_pool_size", false),
    ("reserve_pool_size", "reserve_pool_size", false),
    ("reserve_pool", "reserve_pool_size", false),
    ("max_db_connections", "max_db_connections", false),
    ("max_db_client_connections", "max_db_client_connections", false),
    ("max_user_connections", "max_user_connections", false),
    ("max_user_client_connections", "max_user_client_connections", false),
    ("server_lifetime", "server_lifetime", true),
    ("query_timeout", "query_timeout", true),
    ("query_wait_timeout", "query_wait_timeout", true),
    ("idle_transaction_timeout", "idle_transaction_timeout", true),
    ("transaction_timeout", "transaction_timeout", true),
    ("client_idle_timeout", "client_idle_timeout", true),
];

const BY_ALTER: &str = "connections are not set up by pgherd: ALTER DATABASE ... SET, or ALTER ROLE ... IN DATABASE ... SET, on the servers does it for all";
const RENAMED: &str = "clients name the database as the servers have it: there are no other names for one here. Have applications connect to";
const ELSEWHERE: &str = "these databases are on other servers than those of backends.nodes. One pgherd serves one cluster, the primary and its standbys. If they are \
                         standbys of it, add them there, and pgherd sends reads to them by itself (`routing.reads`); if they are another \
                         cluster, run one more pgherd for it";
const SOME: &str = "user= is for all databases but those that are named without one: write a `[[auth.map]]` for each database that it is for. One without a \
                    database would be for all";
const QUERIES: &str = "the query for passwords is the same for all databases: see `query`";

/// An entry of `[databases]`, or of `[users]`.
struct Entry {
    setting: Setting,
    pairs: Vec<(String, Zeroizing<String>)>,
}

impl Entry {
    fn new(setting: Setting) -> Result<Self, Fault> {
        let what = "is no connection string, name=value pairs with spaces between them and quotes around values that have some";
        match ini::pairs(&setting.value) {
            Some(pairs) => Ok(Self { setting, pairs }),
            None => Err(Fault::new(&setting.place, what)),
        }
    }

    /// Of several the last counts.
    fn get(&self, name: &str) -> Option<&Zeroizing<String>> {
        self.pairs.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn is_fallback(&self) -> bool {
        self.setting.name == "*"
    }

    fn servers(&self) -> Result<Vec<Server>, String> {
        let hosts = self.get("host").map_or("", |hosts| hosts.as_str());
        let port = self.get("port").map(|port| port.as_str());
        hosts.split(',').map(|host| Server::new(host, port)).collect()
    }
}

/// Sets exceptions for users. They are the first: PgBouncer goes by them before it goes by databases.
pub(super) fn users(users: BTreeMap<String, Setting>, draft: &mut Draft) -> Result<(), Fault> {
    for setting in users.into_values() {
        let entry = Entry::new(setting)?;
        exceptions(&entry, "user", draft);
        draft.became(&entry.setting, Fate::Taken("pool.override".to_owned()));
    }
    Ok(())
}

/// Sets servers, exceptions for databases, and as whom clients log in there.
pub(super) fn migrate(
    order: &[String],
    mut databases: BTreeMap<String, Setting>,
    draft: &mut Draft,
) -> Result<(), Fault> {
    let in_order = order.iter().filter_map(|name| databases.remove(name)).map(Entry::new);
    let mut entries = in_order.collect::<Result<Vec<_>, Fault>>()?;
    // What is for all the others comes last: the first table that fits counts.
    entries.sort_by_key(Entry::is_fallback);
    let elsewhere = nodes(&entries, draft);
    let is_only = entries.len() == 1;
    let all_are_others = entries.iter().all(|entry| entry.get("user").is_some());
    for entry in &entries {
        if elsewhere.contains(&entry.setting.name) {
            draft.became(&entry.setting, Fate::Todo(ELSEWHERE.to_owned()));
            continue;
        }
        database(entry, is_only, draft);
        match entry.get("user") {
            Some(_) if entry.is_fallback() && !all_are_others => draft.must("auth", &entry.setting, SOME),
            Some(user) => forced_user(entry, user, draft),
            None => {}
        }
    }
    if !entries.is_empty() && !entries.iter().any(Entry::is_fallback) {
        draft.remark("auth", ALL_DATABASES);
        draft.todo("auth", ALL_DATABASES);
    }
    Ok(())
}

/// Sets `backends.nodes` to the servers of most databases; says which databases are on others.
fn nodes(entries: &[Entry], draft: &mut Draft) -> Vec<String> {
    let mut groups: Vec<(Vec<Server>, Vec<&Entry>)> = Vec::new();
    for entry in entries {
        let mut servers = match entry.servers() {
            Ok(servers) => servers,
            Err(why) => {
                draft.must("backends", &entry.setting, &why);
                continue;
            }
        };
        servers.sort();
        servers.dedup();
        match groups.iter_mut().find(|(known, _)| *known == servers) {
            Some((_, entries)) => entries.push(entry),
            None => groups.push((servers, vec![entry])),
        }
    }
    // The first of those with the most databases.
    groups.sort_by_key(|(_, entries)| std::cmp::Reverse(entries.len()));
    let mut groups = groups.into_iter();
    let (servers, _) = groups.next().unwrap_or_default();
    let nodes: Vec<String> = servers.iter().zip(0..).map(|(server, id)| server.entry(id)).collect();
    let fault = (!nodes.is_empty()).then(|| fault("backends.nodes", &Toml::List(nodes.clone())));
    match fault.flatten() {
        Some(why) => {
            draft.remark("backends", format!("nodes {why}"));
            servers::write(
                Vec::new(),
                "",
                "what [databases] names is no server that can be written here",
                draft,
            );
        }
        None => servers::write(nodes, "", "[databases] names no server", draft),
    }
    reads(servers.len(), draft);
    let mut elsewhere = Vec::new();
    for (servers, entries) in groups {
        let there: Vec<String> = servers.iter().map(Server::shown).collect();
        let names: Vec<&str> = entries.iter().map(|entry| entry.setting.name.as_str()).collect();
        let about = format!("{} on {}", names.join(", "), there.join(", "));
        draft.note_of("backends", &about, ELSEWHERE);
        draft.todo(
            "backends",
            &format!("{about}: other servers than those of nodes. What to do is said there"),
        );
        elsewhere.extend(names.into_iter().map(str::to_owned));
    }
    elsewhere
}

/// Where several hosts are given, PgBouncer connects to each in turn.
fn reads(servers: usize, draft: &mut Draft) {
    match servers {
        0 | 1 => {
            draft.set("routing.reads", Toml::Text("primary".to_owned()), "as PgBouncer has it");
            draft.remark("routing", "`reads = \"standbys\"` has what only reads run on standbys that have all that the session has written (docs/reads.md).");
        }
        _ => {
            draft.set("routing.reads", Toml::Text("any".to_owned()), "host has several");
            draft.remark(
                "routing",
                "What writes goes to the primary, whichever of the servers that is; what only reads to all.",
            );
        }
    }
}

fn database(entry: &Entry, is_only: bool, draft: &mut Draft) {
    let (setting, name) = (&entry.setting, &entry.setting.name);
    if let Some(other) = entry.get("dbname").filter(|other| other.as_str() != name) {
        if entry.is_fallback() {
            draft.must(
                "pool",
                setting,
                "dbname sends clients of all databases to one: clients name the database that they want here",
            );
        } else {
            draft.must("pool", setting, &format!("{RENAMED} {}", other.as_str()));
        }
    } else {
        draft.became(setting, Fate::Taken("backends.nodes".to_owned()));
    }
    if entry.is_fallback() {
        fallback(entry, is_only, draft);
    } else {
        exceptions(entry, "database", draft);
    }
    for (name, _) in &entry.pairs {
        let about = format!("{name} of {}", setting.name);
        match name.as_str() {
            "connect_query" | "client_encoding" | "datestyle" | "timezone" | "application_name" => {
                draft.note_of("pool", &about, BY_ALTER);
            }
            "auth_user" | "auth_query" | "auth_dbname" => draft.note_of("auth", &about, QUERIES),
            "host" | "port" | "dbname" | "user" | "password" | "load_balance_hosts" => {}
            known if FIELDS.iter().any(|(name, ..)| *name == known) => {}
            _ => draft.note_of("pool", &about, "is no parameter of PgBouncer's that pgherd knows of"),
        }
    }
}

/// What is for all databases that are not named.
fn fallback(entry: &Entry, is_only: bool, draft: &mut Draft) {
    for (name, key, is_time) in FIELDS {
        let Some(value) = entry.get(name) else { continue };
        let section_key = format!("pool.{key}");
        let text = if *is_time { units::from_pgbouncer(value) } else { value.to_string() };
        if !is_only {
            let why = "it is for all databases that are not named; pgherd has exceptions for those that are, and values for all";
            draft.note_of("pool", &format!("{name} of *"), why);
            draft.todo("pool", &format!("{name} of *: {why}"));
            continue;
        }
        let Some(known) = keys::find(&section_key) else { continue };
        let value = Toml::of(known, &text);
        match fault(&section_key, &value) {
            None => draft.set(&section_key, value, format!("{name} of *")),
            Some(why) => draft.note_of("pool", &format!("{name} of *"), &why),
        }
    }
}

/// A table with all that is different for a database or a user.
fn exceptions(entry: &Entry, of: &'static str, draft: &mut Draft) {
    let mut fields = vec![(of, Toml::Text(entry.setting.name.clone()))];
    for (name, key, is_time) in FIELDS {
        let Some(value) = entry.get(name) else { continue };
        let about = format!("{name} of {}", entry.setting.name);
        let value = match is_time {
            // A connection that serves once has no equal, nor has a number below zero: it says that nothing is set.
            _ if value.starts_with('-') || *name == "server_lifetime" && defaults::is_zero(value) => {
                draft.note_of("pool", &about, "has no equal: it stays as it is by default");
                continue;
            }
            true => Toml::Text(units::from_pgbouncer(value)),
            false if *key == "mode" => Toml::Text(value.to_ascii_lowercase()),
            false => Toml::number(value),
        };
        let table = [fields.first().map(show), Some(show(&(*key, value.clone())))];
        let table: Vec<String> = table.into_iter().flatten().collect();
        match table_fault("pool.override", &table) {
            None if fields.iter().any(|(known, _)| known == key) => {}
            None => fields.push((*key, value)),
            Some(why) => draft.note_of("pool", &about, &format!("{why}; it stays as it is by default")),
        }
    }
    if fields.len() > 1 {
        let remark = format!("[{}] {}", entry.setting.section, entry.setting.name);
        draft.tables.push(Table { key: "pool.override", fields, remark });
    }
    if of == "user" {
        let unknown = entry.pairs.iter().filter(|(name, _)| !FIELDS.iter().any(|(known, ..)| known == name));
        for (name, _) in unknown {
            let about = format!("{name} of {}", entry.setting.name);
            draft.note_of("pool", &about, "is no parameter of PgBouncer's that pgherd knows of");
        }
    }
}

fn show((name, value): &(&'static str, Toml)) -> String {
    format!("{name} = {value}")
}

/// All clients of a database are one user at the servers.
fn forced_user(entry: &Entry, user: &Zeroizing<String>, draft: &mut Draft) {
    let name = &entry.setting.name;
    let mut fields = Vec::new();
    if !entry.is_fallback() {
        fields.push(("database", Toml::Text(name.clone())));
    }
    fields.push(("server_user", Toml::Text(user.to_string())));
    if let Some(password) = entry.get("password") {
        match draft.password(user, password) {
            Some(path) => fields.push(("server_password_file", Toml::Text(path))),
            None => {
                let what = "its password stands in pgbouncer.ini: write it into a file, and name that as server_password_file (--output does it)";
                draft.note_of("auth", &format!("user {} of {name}", user.as_str()), what);
                draft.todo(
                    "auth",
                    &format!(
                        "server_password_file: the password of {}, which stands at {}",
                        user.as_str(),
                        entry.setting.place
                    ),
                );
            }
        }
    }
    draft.tables.push(Table { key: "auth.map", fields, remark: format!("user of [databases] {name}") });
}
