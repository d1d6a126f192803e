//! What becomes of pgbouncer.ini.

use std::fs;

use super::{PGBOUNCER, Source, fate};

#[test]
fn pgbouncers_settings_come_into_force() {
    let source = Source::new(PGBOUNCER);
    let settings = source.in_force();
    for (key, value) in [
        ("listen.address", "0.0.0.0:6432"),
        ("backends.nodes", "0:pg01:5432:1:/data:ALLOW_TO_FAILOVER"),
        ("backends.tls.mode", "require"),
        ("pool.mode", "statement"),
        ("pool.max_clients", "2000"),
        ("pool.size", "50"),
        ("pool.query_timeout", "30s"),
        ("pool.query_wait_timeout", "off"),
        ("pool.server_lifetime", "1h"),
        ("pool.server_idle_timeout", "500ms"),
        ("pool.server_login_retry", "50ms"),
        ("pool.tcp_user_timeout", "12s"),
        ("pool.tcp_keepalive", "false"),
        ("routing.reads", "primary"),
        ("auth.query", "SELECT name, password FROM pgb.lookup($1)"),
        ("auth.query_user", "lookup"),
        ("auth.map", "[{ database = \"shop\", server_user = \"shop_rw\", server_password = <set> }]"),
        ("admin.users", "alice,bob,repmgr"),
        ("admin.stats_users", "mon"),
    ] {
        assert_eq!(settings[key]["value"], value, "{key}");
    }
    let overrides = settings["pool.override"]["value"].as_str().unwrap();
    for part in [
        "{ user = \"batch\", mode = \"session\", max_user_connections = 10 }, { database = ",
        "database = \"shop\", mode = \"transaction\", size = 5",
        "database = \"odd db\", reserve_pool_size = 3, server_lifetime = \"1min\"",
    ] {
        assert!(overrides.contains(part), "{part}: {overrides}");
    }
    assert_eq!(fs::read_to_string(source.path("made.shop_rw.password")).unwrap(), "it's first-s3cret\n");
}

#[test]
fn databases_that_one_pgherd_cannot_serve_are_named() {
    let migrated = Source::new(PGBOUNCER).migrate(&[]);
    assert!(
        migrated.said.contains("reports on pg08:5433, pg09:5433: other servers than those of nodes"),
        "{migrated:#?}"
    );
    assert!(migrated.out.replace("\n# ", " ").contains("run one more pgherd for it"), "{}", migrated.out);
    assert!(migrated.said.contains("Have applications connect to app"), "{migrated:#?}");
    let json = Source::new(PGBOUNCER).json();
    assert_eq!(fate(&json, "[databases] reports").0, "todo");
    assert_eq!(fate(&json, "server_lifetime").0, "replaced");
    assert_eq!(fate(&json, "[peers] 1").0, "needless");
}

#[test]
fn a_user_that_is_for_the_databases_without_a_name_is_not_given_to_the_others() {
    let both = "[databases]\napp = host=a\n* = host=a user=super password=x\n";
    let migrated = Source::new(both).migrate(&[]);
    assert!(
        !migrated.out.contains("\n[[auth.map]]") && migrated.said.contains("for each database"),
        "{migrated:#?}"
    );
    let alone = Source::new("[databases]\n* = host=a user=super pool_size=7\n").in_force();
    assert_eq!(
        (&alone["auth.map"]["value"], &alone["pool.size"]["value"]),
        (&"[{ server_user = \"super\" }]".into(), &"7".into())
    );
}

#[test]
fn several_hosts_of_one_database_are_read_alike() {
    let settings = Source::new("[databases]\n* = host=pg02,pg01 port=5433\n").in_force();
    assert_eq!(settings["routing.reads"]["value"], "any");
    assert!(settings["backends.nodes"]["value"].as_str().unwrap().contains("pg02:5433"), "{settings:#}");
}

#[test]
fn passwords_of_users_whose_names_are_alike_have_files_of_their_own() {
    let entry = |database: &str, user: &str, password: &str| {
        format!("{database} = host=a user='{user}' password={password}\n")
    };
    let entries = [("a", "u", "1"), ("b", "u", "2"), ("c", "u", "1"), ("d", "u-2", "3"), ("e", "u/2", "4")];
    let entries = entries.map(|(database, user, password)| entry(database, user, password)).concat();
    let source = Source::new(format!("[databases]\n{entries}"));
    source.in_force();
    for (name, password) in [("u", "1\n"), ("u.2", "2\n"), ("u-2", "3\n"), ("u_2", "4\n")] {
        let file = source.path(&format!("made.{name}.password"));
        assert_eq!(fs::read_to_string(&file).unwrap(), password, "{name}");
    }
}

#[test]
fn thousands_of_databases_are_migrated_and_more_are_refused() {
    let entries = |count: usize| {
        (0..count).map(|it| format!("d{it} = host=a pool_size=5 dbname=x{it}\n")).collect::<String>()
    };
    let many = Source::new(format!("[databases]\n{}", entries(1000))).migrate(&[]);
    assert_eq!(many.code, 0, "{}", many.said);
    let refused = Source::new(format!("[databases]\n{}", entries(10_001))).migrate(&[]);
    assert!(
        refused.code == 1 && refused.said.contains("more than 10000 databases and users"),
        "{}",
        refused.said
    );
}
