//! What becomes of pgpool.conf.

use std::fs;

use serde_json::Value as Json;

use super::{PGPOOL, Source, fate};

#[test]
fn pgpools_settings_come_into_force() {
    let source = Source::new(PGPOOL);
    let settings = source.in_force();
    for (key, value) in [
        ("listen.address", "0.0.0.0:9999"),
        ("listen.unix", "/run/pgpool"),
        ("pool.size", "200"),
        ("pool.client_idle_timeout", "10min"),
        ("pool.idle_transaction_timeout", "10min"),
        ("pool.server_idle_timeout", "1min"),
        ("pool.server_connect_timeout", "5s"),
        ("pool.client_login_timeout", "1min"),
        ("monitor.user", "watcher"),
        ("monitor.password", "<set>"),
        ("monitor.database", "postgres"),
        ("routing.reads", "any"),
        ("routing.max_lag", "10MiB"),
        ("routing.read_functions", "get_*,shown"),
        ("routing.write_functions", "nextval,setval"),
        ("failover.executor", "sql"),
        ("failover.mode", "automatic"),
    ] {
        assert_eq!(settings[key]["value"], value, "{key}");
    }
    let nodes = settings["backends.nodes"]["value"].as_str().unwrap();
    for node in [
        "0:pg01:5432:0:/var/lib/postgresql/15/main:ALLOW_TO_FAILOVER",
        "1:pg02:5433:1:/data:DISALLOW_TO_FAILOVER",
        "2:[fd00::3]:5432:1:/data:ALLOW_TO_FAILOVER",
    ] {
        assert!(nodes.contains(node), "{nodes}");
    }
    let overrides = settings["routing.override"]["value"].as_str().unwrap();
    let expected = "[{ application = \"psql\", prefer = \"primary\" }, { application = \"reports\", prefer = \"standbys\" }, \
                    { database = \"postgres\", prefer = \"primary\" }, { database = \"/^mydb[0-4]$\", prefer = \"1(0.3)\" }, \
                    { user = \"batch\", prefer = \"2\" }]";
    assert_eq!(overrides, expected);
    assert_eq!(fs::read_to_string(source.path("made.monitor.password")).unwrap(), "first-s3cret\n");
}

#[test]
fn what_has_no_equal_at_pgpool_is_explained_in_its_section() {
    let source = Source::new(PGPOOL);
    let page = source.migrate(&[]).out;
    let section = |name: &str| {
        let rest = page.split(&format!("\n[{name}]\n")).nth(1).unwrap_or_else(|| panic!("{name}: {page}"));
        rest.split("\n[").next().unwrap().replace("\n# ", " ")
    };
    for (name, parts) in [
        ("pool", vec!["max_pool = 8: there are no processes", "authentication_timeout = 0: ", "never off"]),
        ("monitor", vec!["superuser", "health_check_period0 = 5"]),
        (
            "routing",
            vec![
                "f[0-9]",
                "SELECT .* FROM orders",
                "no query cache",
                "disable_load_balance_on_write = always",
            ],
        ),
        (
            "failover",
            vec![
                "failover_command, follow_primary_command: ",
                "delegate_ip = 192.0.2.50",
                "no online recovery",
            ],
        ),
        ("runtime", vec!["load_balanc_mode: is no setting", "load_balance_mode that is meant"]),
        ("log", vec!["log_statement"]),
    ] {
        for part in parts {
            assert!(section(name).contains(part), "{name}: {part}: {}", section(name));
        }
    }
    assert!(!page.contains("child_life_time"), "it is pgpool's default: {page}");
    let json = source.json();
    let unused = ("unused".to_owned(), "ssl is off".to_owned());
    assert_eq!((fate(&json, "child_life_time").0.as_str(), fate(&json, "ssl_key")), ("default", unused));
    assert_eq!(fate(&json, "num_init_children"), ("taken".to_owned(), "pool.size".to_owned()));
}

#[test]
fn servers_that_pgpool_keeps_equal_are_said_to_be_nothing_for_pgherd() {
    for mode in [
        "backend_clustering_mode = 'native_replication'",
        "replication_mode = on",
        "master_slave_mode = on\nmaster_slave_sub_mode = 'slony'",
    ] {
        let migrated = Source::new(format!("{mode}\nbackend_hostname0 = 'a'\n")).migrate(&[]);
        assert!(migrated.said.contains("are served by no pgherd"), "{mode}: {migrated:#?}");
    }
}

#[test]
fn rules_for_logins_are_named_where_they_are() {
    let source = Source::new("enable_pool_hba = on\nbackend_hostname0 = 'a'\n");
    let missing = source.migrate(&[]);
    assert!(missing.said.contains("name it with --hba"), "{missing:#?}");
    let rules = "host all all 10.0.0.0/8 scram-sha-256\n";
    fs::write(source.path("pool_hba.conf"), rules).unwrap();
    let value = |settings: Json| settings["auth.hba_file"]["value"].as_str().unwrap().to_owned();
    assert!(value(source.in_force()).ends_with("/pool_hba.conf"));
    fs::write(source.path("other.conf"), rules).unwrap();
    let migrated = source.migrate(&["--hba", "other.conf"]);
    assert!(migrated.out.contains("/other.conf\""), "{migrated:#?}");
    fs::write(source.path("other.conf"), "host all all all pam\n").unwrap();
    let refused = source.migrate(&["--hba", "other.conf"]);
    assert!(refused.code == 1 && refused.said.contains("other.conf:1"), "{refused:#?}");
    let gone = source.migrate(&["--hba", "gone.conf"]);
    assert!(gone.code == 1 && gone.said.starts_with("error: gone.conf: can't be read"), "{gone:#?}");
}
