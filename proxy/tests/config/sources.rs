//! The sources of settings: which counts more, secrets, and the variables of the system that pgherd replaces.

use std::io::Write as _;
use std::process::Command;

use super::{NODES, check, error, errors, lines, run, value, warnings_about};

#[test]
fn variables_that_kubernetes_sets_for_a_service_of_this_name_are_no_error() {
    let links = [NODES, ("PGHERD_PORT", "tcp://10.0.0.1:5432"), ("PGHERD_SERVICE_HOST", "10.0.0.1")];
    assert_eq!(value("", &links, "pool.size"), "20");
    assert_eq!(value("", &[NODES, ("PGHERD_PORT_5432_TCP_ADDR", "10.0.0.1")], "pool.size"), "20");
}

#[test]
fn the_environment_overrides_the_seed_variables_and_those_the_file() {
    let file = "[pool]\nsize = 5\n[backends]\nnodes = \"0:infile\"\n";
    let legacy = ("NUM_INIT_CHILDREN", "6");
    assert_eq!(value("", &[NODES], "pool.size"), "20");
    assert_eq!(value(file, &[], "pool.size"), "5");
    assert_eq!(value(file, &[legacy], "pool.size"), "6");
    assert_eq!(value(file, &[legacy, ("PGHERD_POOL__SIZE", "7")], "pool.size"), "7");
    assert_eq!(
        value(file, &[legacy, ("PGHERD_POOL__SIZE", "")], "pool.size"),
        "6",
        "an empty variable is not set"
    );
    let (json, _) = check(file, &[NODES]);
    assert_eq!(json["settings"]["backends.nodes"]["source"], "environment variable PG_BACKEND_NODE_LIST");
    assert!(json["settings"]["pool.size"]["source"].as_str().unwrap().ends_with(".toml:2:1"));
    assert_eq!(json["settings"]["log.level"]["source"], "default");
}

#[test]
fn an_overridden_value_must_be_right_all_the_same() {
    let error = error("[pool]\nsize = \"many\"\n", &[NODES, ("PGHERD_POOL__SIZE", "7")]);
    assert_eq!(error, "pool.size: takes a whole number from 1 to 10000, got `many`");
}

#[test]
fn one_setting_with_two_values_in_one_source_is_an_error() {
    let both = |size| format!("[pool]\ndefault_pool_size = 10\nsize = {size}\n");
    assert!(
        error(&both(11), &[NODES]).contains("pool.size: is given a second time with another value, besides")
    );
    assert_eq!(value(&both(10), &[NODES], "pool.size"), "10");
    let twice = [NODES, ("NUM_INIT_CHILDREN", "6"), ("PGPOOL_NUM_INIT_CHILDREN", "7")];
    assert!(error("", &twice).contains("besides environment variable NUM_INIT_CHILDREN"));
}

#[test]
fn pgbouncers_names_are_taken_in_file_and_environment() {
    let file = "[pool]\npool_mode = \"session\"\nmax_client_conn = 7\nmax_prepared_statements = 8\n";
    assert_eq!(value(file, &[NODES], "pool.mode"), "session");
    assert_eq!(value(file, &[NODES], "pool.max_clients"), "7");
    assert_eq!(value(file, &[NODES], "pool.prepared_statements"), "8");
    assert_eq!(value("", &[NODES, ("PGHERD_POOL__DEFAULT_POOL_SIZE", "9")], "pool.size"), "9");
}

#[test]
fn what_pgbouncer_has_and_pgherd_needs_not_is_a_warning_and_what_stands_elsewhere_an_error() {
    let file = "[pool]\nignore_startup_parameters = \"extra_float_digits\"\nserver_reset_query_always = 1\nsize = 3\n";
    let (json, code) = check(file, &[NODES, ("PGHERD_POOL__STATS_PERIOD", "60")]);
    assert_eq!(code, 0, "{json:#}");
    let warnings = lines(&json, "warnings");
    for (name, part) in [
        ("pool.ignore_startup_parameters", "every run-time parameter"),
        ("pool.server_reset_query_always", "is undone before another gets it"),
        ("PGHERD_POOL__STATS_PERIOD", "log.level"),
    ] {
        assert!(warnings.iter().any(|line| line.starts_with(name) && line.contains(part)), "{warnings:?}");
    }
    let listen = error("[pool]\nlisten_port = 6432\n", &[NODES]);
    assert!(
        listen.starts_with("pool.listen_port: is a setting of PgBouncer's: it is `listen.address`"),
        "{listen}"
    );
    assert!(error("", &[NODES, ("PGHERD_POOL__AUTH_TYPE", "any")]).contains("section `auth`"));
    assert!(error("[pgbouncer]\npool_mode = \"session\"\n", &[NODES]).contains("section `pool`"));
}

#[test]
fn the_password_comes_from_a_file_and_is_never_shown() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"s3cr3t\n").unwrap();
    let path = file.path().to_str().unwrap();
    for name in ["PGHERD_MONITOR__PASSWORD_FILE", "REPMGRPWD_FILE"] {
        assert_eq!(value("", &[NODES, (name, path)], "monitor.password"), "<set>");
    }
    for arguments in [&["--json"][..], &[]] {
        for variables in
            [&[NODES, ("REPMGRPWD", "s3cr3t")][..], &[("REPMGRPWD", "s3cr3t"), ("DEBUG_LEVEL", "x")]]
        {
            let (output, _) = run("", variables, arguments);
            assert!(!String::from_utf8(output.stdout).unwrap().contains("s3cr3t"));
        }
    }
}

#[test]
fn a_higher_source_of_the_password_wins_whether_file_or_text() {
    let missing = ("REPMGRPWD_FILE", "/does/not/exist");
    assert_eq!(value("", &[NODES, missing, ("PGHERD_MONITOR__PASSWORD", "x")], "monitor.password"), "<set>");
    assert_eq!(
        error("", &[NODES, missing]),
        "monitor.password_file: can't read `/does/not/exist`: No such file or directory (os error 2)"
    );
    let both = errors("", &[NODES, missing, ("REPMGRPWD", "x")]);
    assert!(
        both.contains(
            &"monitor.password_file: is given beside monitor.password; keep one of them".to_owned()
        ),
        "{both:?}"
    );
}

#[test]
fn errors_in_a_file_with_a_password_quote_none_of_it() {
    let broken = [
        "[monitor]\npassword = \"s3cr3t\n",
        "[monitor]\npassword = s3cr3t\n",
        "[monitor]\npassword: s3cr3t\n",
        "[monitor]\npassword = \"\"\"s3cr3t\n",
        "[monitor]\npassword = [\"s3cr3t\"]\n",
        "[monitor]\npasswrd = \"s3cr3t\"\n",
        "[monitor]\npassword = \"a\"\npassword = \"s3cr3t\"\n",
        "[monitor]\npassword = { a = \"s3cr3t\" }\n",
    ];
    for file in broken {
        for arguments in [&["--json"][..], &[]] {
            let (output, _) = run(file, &[NODES], arguments);
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(1), "{file}");
            assert!(!text.contains("s3cr3t"), "{file}\n{text}");
        }
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_the_only_error() {
    let missing = error("", &[("PGHERD_CONFIG", "/unused"), NODES, ("PGHERD_POOL__SIZE", "x")]);
    assert!(missing.contains("pool.size"), "--config counts more than PGHERD_CONFIG: {missing}");
    let output = Command::new(env!("CARGO_BIN_EXE_pgherd"))
        .arg("check")
        .env_clear()
        .env("PGHERD_CONFIG", "/no/such")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("error: /no/such: can't be read: No such file"), "{text}");
    let (json, _) = check("[pool\nsize = 1\n", &[]);
    assert_eq!(json["errors"][0]["line"], 1);
    assert_eq!(lines(&json, "errors"), ["-: not valid TOML: unclosed table, expected `]`"]);
}

#[test]
fn the_old_systems_variables_work_as_they_are() {
    let legacy = [
        NODES,
        ("REPMGRPWD", "rep123"),
        ("FAILOVER_MODE", "MANUAL"),
        ("NUM_INIT_CHILDREN", "62"),
        ("FAILOVER_ON_BACKEND_ERROR", "off"),
        ("CONNECTION_CACHE", "on"),
        ("DEBUG_LEVEL", "1"),
        ("PGPOOL_PORT", "9999"),
        ("PGPOOL_CONNECTION_LIFE_TIME", "0"),
        ("PGPOOL_CONNECT_TIMEOUT", "10000"),
        ("PGPOOL_LOAD_BALANCE_MODE", "off"),
    ];
    let (json, code) = check("", &legacy);
    assert_eq!((code, json["warnings"].as_array().unwrap().len()), (0, 0), "{json:#}");
    let cases = [
        ("failover.mode", "manual"),
        ("pool.size", "62"),
        ("log.level", "debug"),
        ("listen.address", "0.0.0.0:9999"),
        ("pool.server_idle_timeout", "off"),
        ("pool.server_connect_timeout", "10s"),
        ("routing.reads", "primary"),
    ];
    for (key, expected) in cases {
        assert_eq!(json["settings"][key]["value"], expected, "{key}");
    }
}

#[test]
fn pgpools_load_balancing_has_reads_on_all_servers_where_it_is_on() {
    assert_eq!(value("", &[NODES, ("PGPOOL_LOAD_BALANCE_MODE", "on")], "routing.reads"), "any");
    assert_eq!(value("", &[NODES, ("PGPOOL_LOAD_BALANCE_MODE", "False")], "routing.reads"), "primary");
    for (name, takes) in [
        ("PGPOOL_LOAD_BALANCE_MODE", "takes on or off"),
        ("PGPOOL_CLIENT_IDLE_LIMIT", "takes a number of seconds"),
        ("PGPOOL_CONNECT_TIMEOUT", "takes a number of milliseconds"),
        ("PGPOOL_LOG_MIN_MESSAGES", "takes one of PostgreSQL's levels, such as warning"),
    ] {
        let errors = lines(&check("", &[NODES, (name, "maybe")]).0, "errors");
        assert_eq!(errors, [format!("{name}: {takes}, got `maybe`")]);
    }
}

#[test]
fn variables_without_a_meaning_are_warnings_that_say_what_replaces_them() {
    let cases = [
        ("DELEGATE_IP", "10.0.0.1", "swarm"),
        ("TRUSTED_SERVERS", "gw", "swarm"),
        ("PGP_HEARTBEATS", "a", "swarm"),
        ("PGP_OTHERS", "a", "swarm"),
        ("PGP_NODE_NAME", "p", "no name of its own"),
        ("MAX_POOL", "4", "pool.size"),
        ("LOG_STATEMENT", "on", "log_statement"),
        ("FAILOVER_ON_BACKEND_ERROR", "on", "failover.confirm"),
        ("CONNECTION_CACHE", "off", "pool.mode"),
        ("PG_MASTER_NODE_NAME", "pg01", "asks them which one is the primary"),
        ("PGPOOL_SEARCH_PRIMARY_NODE_TIMEOUT", "30", "without end"),
        ("PGPOOL_HEALTH_CHECK_PERIOD", "20", "monitor.interval"),
        ("PGPOOL_NO_SUCH_SETTING", "1", "nothing like it"),
    ];
    for (name, given, expected) in cases {
        let warnings = warnings_about(&[NODES, (name, given)], name);
        assert_eq!(warnings.len(), 1, "{name}");
        assert!(warnings[0].contains(expected), "{warnings:?}");
    }
}

#[test]
fn the_masters_name_alone_is_enough_in_both_spellings_and_yields_to_any_list() {
    for name in ["PG_MASTER_NODE_NAME", "PGMASTER_NODE_NAME"] {
        assert!(value("", &[(name, "pg07")], "backends.nodes").starts_with("0:pg07:5432"));
        assert!(
            value("[backends]\nnodes = \"3:x\"\n", &[(name, "pg07")], "backends.nodes").starts_with("3:x")
        );
    }
}
