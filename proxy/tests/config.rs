//! What `pgherd check` says of a configuration.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::io::Write as _;
use std::process::{Command, Output};

use serde_json::Value as Json;

const NODES: (&str, &str) = ("PG_BACKEND_NODE_LIST", "0:pg01,1:pg02:5433");

/// Runs `pgherd check` on a file with this text, with these variables and no others.
fn run(file: &str, variables: &[(&str, &str)], arguments: &[&str]) -> (Output, String) {
    let mut toml = tempfile::Builder::new().prefix("pgherd").suffix(".toml").tempfile().unwrap();
    toml.write_all(file.as_bytes()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pgherd"))
        .args(["check", "--config"])
        .arg(toml.path())
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    (output, toml.path().display().to_string())
}

/// The same as JSON, with the exit code.
fn check(file: &str, variables: &[(&str, &str)]) -> (Json, i32) {
    let (output, _) = run(file, variables, &["--json"]);
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code().unwrap())
}

/// The value of a key in a configuration that is valid.
fn value(file: &str, variables: &[(&str, &str)], key: &str) -> String {
    let (json, code) = check(file, variables);
    assert_eq!(code, 0, "{json:#}");
    json["settings"][key]["value"].as_str().unwrap_or("-").to_owned()
}

/// The errors or warnings as `key or variable: message`.
fn lines(json: &Json, list: &str) -> Vec<String> {
    let line = |it: &Json| {
        let place = it["key"].as_str().or(it["variable"].as_str()).unwrap_or("-");
        format!("{place}: {}", it["message"].as_str().unwrap())
    };
    json[list].as_array().unwrap().iter().map(line).collect()
}

/// The errors of a configuration that is not valid.
fn errors(file: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let (json, code) = check(file, variables);
    assert_eq!(code, 1, "{json:#}");
    lines(&json, "errors")
}

/// The only error of a configuration.
fn error(file: &str, variables: &[(&str, &str)]) -> String {
    let errors = errors(file, variables);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors[0].clone()
}

/// The warnings of a valid configuration about the variable.
fn warnings_about(variables: &[(&str, &str)], name: &str) -> Vec<String> {
    let (json, code) = check("", variables);
    assert_eq!(code, 0, "{json:#}");
    lines(&json, "warnings").into_iter().filter(|line| line.starts_with(name)).collect()
}

#[test]
fn a_misspelt_key_is_named_with_file_line_and_nearest_key() {
    let (output, path) = run("[pool]\nmode = \"session\"\n  sise = 20\n", &[NODES], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(&format!("error: {path}:3:3: pool.sise: unknown key; did you mean `pool.size`?")),
        "{text}"
    );
    assert!(text.contains("1 error: pgherd would not start"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn misspelt_names_at_any_depth_get_the_nearest_one() {
    let cases = [
        ("[pol]\nsize = 1", "pol: unknown key; did you mean `pool`?"),
        ("size = 1", "size: unknown key; did you mean `pool.size`?"),
        (
            "[failover.ssh]\nknown_host = \"x\"",
            "failover.ssh.known_host: unknown key; did you mean `failover.ssh.known_hosts`?",
        ),
        ("[failover.shs]\nport = 1", "failover.shs: unknown key; did you mean `failover.ssh`?"),
        (
            "[pool]\nmax_client_con = 1",
            "pool.max_client_con: unknown key; did you mean `pool.max_client_conn`?",
        ),
        ("[pool]\nunlike_anything = 1", "pool.unlike_anything: unknown key"),
        (
            "[[pool.override]]\nuser = \"a\"\nmoode = 1",
            "pool.override: unknown field `moode`; did you mean `mode`?",
        ),
    ];
    for (file, expected) in cases {
        assert_eq!(error(file, &[NODES]), expected);
    }
    let (json, _) =
        check("[backends]\nnodes = [\n  { id = 0, host = \"a\" },\n  { id = 1, hots = \"b\" },\n]", &[]);
    assert_eq!(
        lines(&json, "errors"),
        ["backends.nodes: entry 2 has an unknown field `hots`; did you mean `host`?"]
    );
    assert_eq!(json["errors"][0]["line"], 4);
}

#[test]
fn a_misspelt_variable_is_an_error_with_the_nearest_one() {
    let cases = [
        ("PGHERD_POOL_SIZE", "PGHERD_POOL__SIZE"),
        ("PGHERD_POOL__SISE", "PGHERD_POOL__SIZE"),
        ("PGHERD_FAILOVER__SSH__USR", "PGHERD_FAILOVER__SSH__USER"),
        ("PGHERD_FAILOVR__MODE", "PGHERD_FAILOVER__MODE"),
    ];
    for (name, near) in cases {
        assert_eq!(
            error("", &[NODES, (name, "1")]),
            format!("{name}: unknown variable; did you mean `{near}`?")
        );
    }
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_of_this_name_are_no_error() {
    let links = [NODES, ("PGHERD_PORT", "tcp://10.0.0.1:5432"), ("PGHERD_SERVICE_HOST", "10.0.0.1")];
    assert_eq!(value("", &links, "pool.size"), "20");
    assert_eq!(value("", &[NODES, ("PGHERD_PORT_5432_TCP_ADDR", "10.0.0.1")], "pool.size"), "20");
}

#[test]
fn keys_of_later_versions_say_so() {
    for key in
        ["listen.tls.mode", "listen.unix", "routing.reads", "http.address", "admin.users", "etcd.endpoints"]
    {
        let (section, leaf) = key.rsplit_once('.').unwrap();
        let (json, code) = check(&format!("[{section}]\n{leaf} = \"x\"\n"), &[NODES]);
        assert_eq!(code, 1, "{key}");
        assert_eq!(json["errors"][0]["message"], "not available in this version of pgherd", "{key}");
    }
    assert!(error("", &[NODES, ("PGHERD_HTTP__ADDRESS", "x")]).contains("not available in this version"));
    let statement = error("[pool]\nmode = \"statement\"", &[NODES]);
    assert!(statement.contains("`statement` is not available in this version of pgherd"), "{statement}");
    assert!(error("[failover]\nexecutor = \"sql\"", &[NODES]).contains("not available in this version"));
}

#[test]
fn the_environment_overrides_the_seed_variables_and_those_the_file() {
    let file = "[pool]\nsize = 5\n[backends]\nnodes = \"0:infile\"\n";
    let seed = ("NUM_INIT_CHILDREN", "6");
    assert_eq!(value("", &[NODES], "pool.size"), "20");
    assert_eq!(value(file, &[], "pool.size"), "5");
    assert_eq!(value(file, &[seed], "pool.size"), "6");
    assert_eq!(value(file, &[seed, ("PGHERD_POOL__SIZE", "7")], "pool.size"), "7");
    assert_eq!(
        value(file, &[seed, ("PGHERD_POOL__SIZE", "")], "pool.size"),
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
fn all_errors_are_shown_at_once_in_the_order_of_the_file() {
    let file =
        "[pool]\nsize = 0\nmode = \"both\"\n[log]\nlevel = \"loud\"\n[backends]\nnodes = \"x:a\"\n[aaa]\n";
    let (json, _) = check(file, &[("PGHERD_POOL__PINNED_SIZE", "-1")]);
    let at: Vec<_> = json["errors"].as_array().unwrap().iter().map(|e| e["line"].as_u64()).collect();
    assert_eq!(at, [Some(2), Some(3), Some(5), Some(7), Some(8), None], "{json:#}");
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
fn durations_and_sizes_need_their_unit() {
    let bare = error("[pool]\nquery_wait_timeout = 30\n", &[NODES]);
    assert!(bare.contains("takes a number and a unit, such as \"30s\"; got the number 30"), "{bare}");
    assert_eq!(
        value(
            "[pool]\nserver_lifetime = \"90min\"\nserver_idle_timeout = \"off\"\n",
            &[NODES],
            "pool.server_lifetime"
        ),
        "90min"
    );
    assert_eq!(value("[pool]\nserver_idle_timeout = \"off\"\n", &[NODES], "pool.server_idle_timeout"), "off");
    assert_eq!(
        value("", &[NODES, ("PGHERD_FAILOVER__MAX_DATA_LOSS", "512KiB")], "failover.max_data_loss"),
        "512KiB"
    );
    assert!(error("[monitor]\ninterval = \"0s\"\n", &[NODES]).contains("takes 10ms to 1min, got `0s`"));
}

#[test]
fn a_wrong_node_list_entry_is_named_with_its_field() {
    let found = error("", &[("PG_BACKEND_NODE_LIST", "0:pg01:5432:1:/data,1:pg02:54x2")]);
    assert_eq!(
        found,
        "backends.nodes: entry 2 (`1:pg02:54x2`): field `port` takes a number from 1 to 65535, got `54x2`"
    );
}

#[test]
fn servers_can_be_given_as_csv_array_or_tables() {
    let expected = "0:a:5432:1:/data:ALLOW_TO_FAILOVER,1:[::1]:5433:0.5:/d:DISALLOW_TO_FAILOVER";
    let tables = "[[backends.nodes]]\nid = 0\nhost = \"a\"\n[[backends.nodes]]\nid = 1\nhost = \"::1\"\nport = 5433\n\
                  weight = 0.5\ndata_directory = \"/d\"\nflag = \"DISALLOW_TO_FAILOVER\"\n";
    let short = "1:[::1]:5433:0.5:/d:DISALLOW_TO_FAILOVER";
    let csv = format!("[backends]\nnodes = \"0:a, {short}\"\n");
    let array = format!("[backends]\nnodes = [\"0:a\", \"{short}\"]\n");
    for file in [tables, &csv, &array] {
        assert_eq!(value(file, &[], "backends.nodes"), expected);
    }
}

#[test]
fn without_servers_the_error_shows_what_to_write() {
    assert!(error("", &[]).contains("is required: `id:host:port:weight:datadir:flag`"));
}

#[test]
fn servers_that_do_not_exist_are_no_error() {
    assert!(
        value("", &[("PG_BACKEND_NODE_LIST", "0:no-such-host.invalid,1:192.0.2.1:1")], "backends.nodes")
            .contains("invalid")
    );
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
fn an_override_names_a_database_or_user_and_changes_something() {
    let file = "[[pool.override]]\ndatabase = \"a\"\nmode = \"session\"\n[[pool.override]]\nuser = \"b\"\nsize = 3\n";
    let shown = "[{ database = \"a\", mode = \"session\" }, { user = \"b\", size = 3 }]";
    assert_eq!(value(file, &[NODES], "pool.override"), shown);
    assert_eq!(value("", &[NODES, ("PGHERD_POOL__OVERRIDE", shown)], "pool.override"), shown);
    assert!(error("[[pool.override]]\nsize = 1\n", &[NODES]).contains("names neither a database nor a user"));
    assert!(error("[[pool.override]]\nuser = \"a\"\n", &[NODES]).contains("changes neither mode nor size"));
    assert!(error("[pool.override]\nuser = \"a\"\n", &[NODES]).contains("each under `[[pool.override]]`"));
    assert!(error("", &[NODES, ("PGHERD_POOL__OVERRIDE", "[{")]).contains("is not a valid TOML array"));
}

#[test]
fn a_repmgr_config_template_takes_only_what_is_known() {
    let config = |path: &str| format!("[failover.repmgr]\nconfig = \"{path}\"\n");
    assert_eq!(
        value(&config("/etc/{node_name}/{id}.conf"), &[NODES], "failover.repmgr.config"),
        "/etc/{node_name}/{id}.conf"
    );
    assert!(error(&config("/etc/{name}.conf"), &[NODES]).contains("{node_name} where servers differ"));
}

#[test]
fn the_seed_systems_variables_work_as_they_are() {
    let seed = [
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
    ];
    let (json, code) = check("", &seed);
    assert_eq!((code, json["warnings"].as_array().unwrap().len()), (0, 0), "{json:#}");
    let cases = [
        ("failover.mode", "manual"),
        ("pool.size", "62"),
        ("log.level", "debug"),
        ("listen.address", "0.0.0.0:9999"),
        ("pool.server_idle_timeout", "off"),
        ("pool.server_connect_timeout", "10s"),
    ];
    for (key, expected) in cases {
        assert_eq!(json["settings"][key]["value"], expected, "{key}");
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

#[test]
fn a_failover_that_can_not_work_is_warned_of() {
    let (json, _) = check("", &[NODES]);
    assert!(
        lines(&json, "warnings").iter().any(|w| w.starts_with("failover.ssh.key: is not set")),
        "{json:#}"
    );
    let (json, _) = check("", &[("PG_BACKEND_NODE_LIST", "0:alone")]);
    assert_eq!(json["warnings"].as_array().unwrap().len(), 0);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_pgherd")).args(["check", "--jsn"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
