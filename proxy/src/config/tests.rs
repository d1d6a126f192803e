//! The table of keys, the bridge and the reference in docs/configure.md say the same.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use pgherd_health::NodeId;

use super::keys::KEYS;
use super::*;

const REFERENCE: &str = include_str!("../../../docs/configure.md");
const MIGRATION: &str = include_str!("../../../docs/migrate.md");

pub(crate) fn load_with(variables: &[(&str, &str)]) -> Loaded {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    load_from(None, Path::new("/no/such/file"), variables).unwrap()
}

fn defaults() -> Loaded {
    load_with(&[("PG_BACKEND_NODE_LIST", "0:pg01")])
}

/// The cells of the reference's table of keys.
fn reference() -> Vec<Vec<&'static str>> {
    let keys = REFERENCE.split("\n## ").find(|section| section.starts_with("Keys\n")).unwrap();
    let rows = keys.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn the_reference_has_every_key_with_its_variable_and_default_and_no_other() {
    let expected: Vec<Vec<String>> = KEYS
        .iter()
        .map(|key| {
            let default = match (key.name, key.default) {
                ("runtime.workers", _) => "number of cores".to_owned(),
                ("backends.nodes", _) => "required".to_owned(),
                ("listen.tls.mode", _) => "`allow` with a certificate, else `disable`".to_owned(),
                ("admin.users", _) => "the monitor's user".to_owned(),
                (_, Some(default)) => format!("`{default}`"),
                (_, None) => "none".to_owned(),
            };
            vec![format!("`{}`", key.name), format!("`{}`", key.variable()), default]
        })
        .collect();
    let found: Vec<Vec<String>> =
        reference().iter().map(|row| [row[0], row[1], row[3]].map(str::to_owned).to_vec()).collect();
    assert_eq!(found, expected);
    for row in reference() {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(!row[2].is_empty() && row[4].len() > 10, "{row:?}");
    }
}

#[test]
fn the_reference_names_no_key_that_is_not_known() {
    let known: BTreeSet<String> =
        KEYS.iter().flat_map(|key| [Some(key.name.to_owned()), key.alias_name()]).flatten().collect();
    let sections: BTreeSet<&str> = KEYS.iter().filter_map(|key| key.name.split('.').next()).collect();
    let named = [REFERENCE, MIGRATION].into_iter().flat_map(|page| page.split('`').skip(1).step_by(2));
    for code in named {
        let plain = !code.is_empty() && code.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.');
        if plain && code.split_once('.').is_some_and(|(section, _)| sections.contains(section)) {
            let is_section = known.iter().any(|key| key.rsplit_once('.').is_some_and(|(it, _)| it == code));
            assert!(known.contains(code) || is_section, "{code}");
        }
    }
    for key in KEYS.iter().filter_map(keys::Key::alias_name) {
        let leaf = key.rsplit_once('.').unwrap().1;
        assert!(REFERENCE.contains(leaf), "{key}");
    }
}

#[test]
fn each_default_is_shown_as_the_table_writes_it() {
    let shown = defaults().config.describe();
    for key in KEYS {
        let Some((_, value)) = shown.iter().find(|(name, _)| *name == key.name) else {
            assert!(is_file_of_a_secret(key), "{} is not described", key.name);
            continue;
        };
        if !matches!(key.name, "runtime.workers" | "backends.nodes" | "listen.tls.mode" | "admin.users") {
            assert_eq!(value.as_deref(), key.default, "{}", key.name);
        }
    }
    assert_eq!(shown.len(), KEYS.iter().filter(|key| !is_file_of_a_secret(key)).count());
}

/// What it holds is shown under the secret's own name.
fn is_file_of_a_secret(key: &keys::Key) -> bool {
    key.name.ends_with("password_file")
}

/// Values that keys take, and not by default.
const OTHERS: &[(&str, &str)] = &[
    ("listen.address", "127.0.0.1:1"),
    ("listen.unix", "/x"),
    ("listen.unix_mode", "0700"),
    ("listen.proxy_protocol", "10.0.0.0/8,192.0.2.1/32"),
    ("listen.tls.mode", "disable"),
    ("listen.tls.min_version", "1.3"),
    ("backends.nodes", "7:x:1:1:/data:ALLOW_TO_FAILOVER"),
    ("backends.discover", "off"),
    ("backends.tls.mode", "require"),
    ("backends.tls.ca", "33"),
    ("backends.tls.channel_binding", "disable"),
    ("pool.mode", "session"),
    ("pool.hidden_state", "check"),
    ("pool.sequences", "pin"),
    ("pool.custom_parameters", "a.b,c.d"),
    ("pool.server_round_robin", "true"),
    ("pool.tcp_keepalive", "false"),
    ("pool.prepare_unnamed", "auto"),
    ("pool.override", "[{ user = \"a\", size = 1 }]"),
    ("routing.reads", "any"),
    ("routing.consistency", "eventual"),
    ("routing.location", "berlin"),
    ("routing.latency_aware", "false"),
    ("routing.read_functions", "get_*,app_now"),
    ("routing.write_functions", "refresh_*"),
    ("routing.override", "[{ application = \"a\", max_lag = \"1MiB\" }]"),
    ("failover.mode", "manual"),
    ("failover.repmgr.config", "/x"),
    ("failover.etcd.endpoints", "http://a:1,http://b:2379"),
    ("failover.etcd.prefix", "/x"),
    ("failover.etcd.password", "<set>"),
    ("http.address", "127.0.0.1:2"),
    ("http.anonymous", "true"),
    ("http.trusted_proxies", "10.0.0.0/8"),
    ("http.user_header", "x-user"),
    ("http.docker_socket", "/run/docker.sock"),
    ("log.level", "warn"),
    ("log.format", "json"),
    ("trace.endpoint", "http://collector:4318/v1/traces"),
    ("trace.ratio", "0.5"),
    ("memory.limit", "33MiB"),
    ("monitor.password", "<set>"),
    ("failover.executor", "sql"),
    ("failover.command.promote", "[\"/bin/x\", \"{host}\"]"),
    ("failover.command.fence", "[\"/bin/x\", \"{node}\"]"),
    ("failover.command.follow", "[\"/bin/x\", \"{upstream_host}\"]"),
    ("failover.command.rejoin", "[\"/bin/x\", \"{upstream_name}\"]"),
    ("failover.command.clone", "[\"/bin/x\", \"{upstream_port}\"]"),
    ("failover.reclone", "true"),
    ("failover.command.stop", "[\"/bin/x\", \"{data_directory}\"]"),
    ("failover.command.start", "[\"/bin/x\", \"a b\"]"),
    ("auth.query_password", "<set>"),
    ("auth.map", "[{ user = \"a\", server_user = \"b\" }]"),
];

/// A key that the table has and the bridge does not read would be accepted and have no effect.
#[test]
fn each_key_given_in_the_environment_comes_into_force() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (hba, idents) = (file("hba", "local all all peer"), file("idents", "map x y"));
    let users = file("users", "\"x\" \"y\"");
    let files = [
        ("auth.hba_file", hba.as_str()),
        ("auth.ident_file", idents.as_str()),
        ("auth.userlist_file", users.as_str()),
    ];
    // Those of http.tls are two files that belong together, and are read: their test has both.
    let is_alone = |key: &&keys::Key| !is_file_of_a_secret(key) && !key.name.starts_with("http.tls.");
    for key in KEYS.iter().filter(is_alone) {
        let other = OTHERS.iter().chain(&files).find(|(name, _)| *name == key.name).map(|(_, value)| *value);
        let unit = key.default.map_or("", |default| default.trim_start_matches(|c: char| c.is_ascii_digit()));
        let value = other.unwrap_or(match unit {
            "" => "33",
            "ms" | "s" | "min" | "h" | "off" => "33s",
            "MiB" => "33MiB",
            _ => "other",
        });
        let mut given = vec![("PG_BACKEND_NODE_LIST", "0:pg01")];
        // One alone says nothing, or names a file that is not there.
        given.extend(key.name.starts_with("listen.tls.").then_some(("PGHERD_LISTEN__TLS__MODE", "disable")));
        given.extend(
            key.name.starts_with("backends.tls.").then_some(("PGHERD_BACKENDS__TLS__MODE", "disable")),
        );
        let variable = key.variable();
        given.retain(|(name, _)| *name != variable);
        given.push((&variable, value));
        let loaded = load_with(&given);
        assert!(loaded.config.describe().contains(&(key.name, Some(value.to_owned()))), "{}", key.name);
        assert_eq!(loaded.origins.get(key.name), Some(&Origin::Variable(key.variable())), "{}", key.name);
    }
}

#[test]
fn a_secret_is_not_in_the_debug_form_of_the_configuration() {
    let loaded = load_with(&[("PG_BACKEND_NODE_LIST", "0:pg01"), ("REPMGRPWD", "s3cr3t")]);
    assert!(!format!("{loaded:?}").contains("s3cr3t"));
    assert_eq!(loaded.config.monitor.password.unwrap().expose(), "s3cr3t");
}

#[test]
fn the_first_override_that_fits_and_gives_a_value_counts() {
    let list =
        "[{ database = \"a\", user = \"u\", size = 1 }, { database = \"a\", mode = \"session\", size = 2 }]";
    let pool = load_with(&[("PG_BACKEND_NODE_LIST", "0:x"), ("PGHERD_POOL__OVERRIDE", list)]).config.pool;
    assert_eq!((pool.sizes_for("a", "u").size, pool.mode_for("a", "u")), (1, PoolMode::Session));
    assert_eq!((pool.sizes_for("a", "v").size, pool.mode_for("a", "v")), (2, PoolMode::Session));
    assert_eq!((pool.sizes_for("b", "u").size, pool.mode_for("b", "u")), (20, PoolMode::Transaction));
}

#[test]
fn the_first_routing_override_that_fits_and_gives_a_value_counts() {
    let list = "[{ application = '/^rep', consistency = 'eventual', max_lag = '1min', prefer = '1(0.3)' }, \
                { database = 'a', user = 'u', reads = 'any', consistency = 'strong' }, { user = 'u', max_lag = 'off' }]";
    let given = [
        ("PG_BACKEND_NODE_LIST", "0:x"),
        ("PGHERD_ROUTING__OVERRIDE", list),
        ("PGHERD_ROUTING__MAX_LAG", "1MiB"),
    ];
    let routing = load_with(&given).config.routing;
    let policy = |reads, consistency, max_lag| ReadPolicy { reads, consistency, max_lag, prefer: None };
    let lag = Some(MaxLag::Bytes(1024 * 1024));
    let minute = Some(MaxLag::Time(Duration::from_secs(60)));
    assert_eq!(routing.policy_for("b", "v", "a rep"), policy(Reads::Standbys, Consistency::Session, lag));
    assert_eq!(routing.policy_for("b", "u", ""), policy(Reads::Standbys, Consistency::Session, None));
    assert_eq!(routing.policy_for("a", "u", "psql"), policy(Reads::Any, Consistency::Strong, None));
    let prefer = Some(Preference { of: Preferred::Node(NodeId(1)), ratio: 0.3 });
    let reports = ReadPolicy { prefer, ..policy(Reads::Any, Consistency::Eventual, minute) };
    assert_eq!(routing.policy_for("a", "u", "reports"), reports);
    assert_eq!(Consistency::named("STRONG"), Some(Consistency::Strong));
    assert_eq!(Consistency::named("weak"), None);
}
