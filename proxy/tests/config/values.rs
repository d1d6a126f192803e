//! Keys and their values: what is taken, and what is said of what is not.

use std::process::Command;

use super::{NODES, check, error, lines, run, value};

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
fn keys_of_later_versions_say_so() {
    let (json, code) = check("[failover]\nsynchronous = \"x\"\n", &[NODES]);
    assert_eq!(code, 1);
    assert_eq!(json["errors"][0]["message"], "not available in this version of pgherd");
    let variable = [NODES, ("PGHERD_FAILOVER__SYNCHRONOUS", "x")];
    assert!(error("", &variable).contains("not available in this version"));
}

#[test]
fn members_of_etcd_are_given_by_their_urls() {
    let with = |value: &str| format!("[failover.etcd]\nendpoints = {value}\n");
    for good in ["\"http://etcd1:2379\"", "[\"http://etcd1\", \"http://[::1]:1/\", \"http://10.0.0.1:2\"]"] {
        assert_eq!(check(&with(good), &[NODES]).1, 0, "{good}");
    }
    for bad in
        ["etcd1:2379", "ftp://etcd1", "http://", "http://etcd1:0", "http://etcd1:2379/v3", "http://a b"]
    {
        let error = error(&with(&format!("\"{bad}\"")), &[NODES]);
        assert!(error.contains("takes URLs such as http://etcd1:2379"), "{bad}: {error}");
    }
    let error = error(&format!("{}ca = \"/no/such/file\"\n", with("\"https://etcd1\"")), &[NODES]);
    assert!(error.contains("failover.etcd.ca"), "{error}");
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
fn an_override_names_a_database_or_user_and_changes_something() {
    let file = "[[pool.override]]\ndatabase = \"a\"\nmode = \"session\"\n[[pool.override]]\nuser = \"b\"\nsize = 3\n";
    let shown = "[{ database = \"a\", mode = \"session\" }, { user = \"b\", size = 3 }]";
    assert_eq!(value(file, &[NODES], "pool.override"), shown);
    assert_eq!(value("", &[NODES, ("PGHERD_POOL__OVERRIDE", shown)], "pool.override"), shown);
    assert!(error("[[pool.override]]\nsize = 1\n", &[NODES]).contains("names neither a database nor a user"));
    assert!(
        error("[[pool.override]]\nuser = \"a\"\n", &[NODES])
            .contains("changes nothing; it takes database, user, mode")
    );
    assert!(error("[pool.override]\nuser = \"a\"\n", &[NODES]).contains("each under `[[pool.override]]`"));
    assert!(error("", &[NODES, ("PGHERD_POOL__OVERRIDE", "[{")]).contains("is not a valid TOML array"));
}

#[test]
fn reads_have_their_exceptions_and_lag_is_a_size_or_a_time() {
    let file = "[routing]\nmax_lag = \"2s\"\n[[routing.override]]\ndatabase = \"a\"\nuser = \"b\"\nreads = \"any\"\n\
                [[routing.override]]\napplication = \"c\"\nconsistency = \"eventual\"\nmax_lag = \"off\"\n\
                [[routing.override]]\ndatabase = \"/^app[0-4]$\"\nprefer = \"standby (0.30)\"\n[[routing.override]]\nuser = \"d\"\nprefer = 1\n";
    let shown = "[{ database = \"a\", user = \"b\", reads = \"any\" }, \
                 { application = \"c\", consistency = \"eventual\", max_lag = \"off\" }, \
                 { database = \"/^app[0-4]$\", prefer = \"standbys(0.3)\" }, { user = \"d\", prefer = \"1\" }]";
    assert_eq!(value(file, &[NODES], "routing.max_lag"), "2s");
    assert_eq!(value(file, &[NODES], "routing.override"), shown);
    assert_eq!(value("", &[NODES, ("PGHERD_ROUTING__OVERRIDE", shown)], "routing.override"), shown);
    assert_eq!(value("", &[NODES, ("PGHERD_ROUTING__MAX_LAG", "16MiB")], "routing.max_lag"), "16MiB");
    for (file, expected) in [
        ("[routing]\nmax_lag = \"2\"", "takes `off`, a size such as"),
        ("[routing]\nmax_lag = \"1ms\"", "(10ms to 1d), got `1ms`"),
        ("[routing]\nmax_lag = 2", "got the number 2"),
        ("[routing]\nreads = \"standby\"", "takes primary or standbys or any, got `standby`"),
        ("[[routing.override]]\nreads = \"any\"", "names no database, user or application"),
        ("[[routing.override]]\nuser = \"a\"", "changes nothing; it takes database, user, application"),
        ("[[routing.override]]\nuser = \"a\"\nread = \"any\"", "unknown field `read`; did you mean `reads`?"),
        ("[[routing.override]]\nuser = \"a\"\nmax_lag = 1", "field `max_lag` takes `off`"),
        (
            "[[routing.override]]\nuser = \"/(\"\nreads = \"any\"",
            "field `user` has an invalid regular expression",
        ),
        (
            "[[routing.override]]\nuser = \"a\"\nprefer = \"1(2)\"",
            "field `prefer` takes primary, standbys or the number",
        ),
        ("[[routing.override]]\nuser = \"a\"\nprefer = \"pg01\"", "got `pg01`"),
        ("[[routing.override]]\nuser = \"a\"\nprefer = \"1(NaN)\"", "got `1(NaN)`"),
    ] {
        assert!(error(file, &[NODES]).contains(expected), "{}", error(file, &[NODES]));
    }
    let twice = "[[routing.override]]\nuser = \"a\"\nreads = \"any\"\n";
    assert!(
        error(&twice.repeat(2), &[NODES])
            .contains("is given twice for the same database, user and application")
    );
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

#[test]
fn what_tls_of_clients_lacks_is_said_and_whether_its_files_can_be_used() {
    let tls = |keys: &str| format!("[listen.tls]\n{keys}\n");
    for (keys, expected) in [
        (
            "mode = \"require\"",
            "listen.tls.cert: is required for TLS with clients: or set listen.tls.mode to \"disable\"",
        ),
        (
            "key = \"/k\"",
            "listen.tls.cert: is required for TLS with clients: or set listen.tls.mode to \"disable\"",
        ),
        ("cert = \"/c\"", "listen.tls.key: is required beside listen.tls.cert"),
        (
            "mode = \"verify-ca\"\ncert = \"/c\"\nkey = \"/k\"",
            "listen.tls.client_ca: is required where listen.tls.mode is \"verify-ca\" or \"verify-full\"",
        ),
        (
            "cert = \"/nowhere/c\"\nclient_tls_key_file = \"/k\"",
            "listen.tls.cert: /nowhere/c can't be read: No such file or directory (os error 2)",
        ),
        ("min_version = \"1.1\"", "listen.tls.min_version: takes 1.2 or 1.3, got `1.1`"),
    ] {
        assert_eq!(error(&tls(keys), &[NODES]), expected, "{keys}");
    }
    assert_eq!(value("", &[NODES], "listen.tls.mode"), "disable");
    // Off is off, whatever the files are.
    assert_eq!(
        value(&tls("mode = \"disable\"\ncert = \"/nowhere\""), &[NODES], "listen.tls.mode"),
        "disable"
    );
}

#[test]
fn with_a_certificate_clients_may_use_tls_and_an_old_one_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let authority = pgherd_testkit::Authority::new("authority").unwrap();
    let file = |identity: &pgherd_testkit::Identity| {
        let (certificate, key) = identity.write(directory.path(), "server").unwrap();
        format!("[listen.tls]\ncert = {certificate:?}\nkey = {key:?}\n")
    };
    let good = file(&authority.server(&["localhost"]).unwrap());
    assert_eq!(value(&good, &[NODES], "listen.tls.mode"), "allow");
    let old = file(&authority.expired("localhost", pgherd_testkit::Purpose::Server).unwrap());
    let (json, code) = check(&old, &[NODES]);
    assert_eq!(code, 0, "better than none");
    let warnings = lines(&json, "warnings");
    assert!(warnings.iter().any(|it| it.starts_with("listen.tls.cert: has expired")), "{warnings:?}");
}

#[test]
fn what_is_wrong_with_the_servers_tls_is_said_of_its_key() {
    let error = error("[backends.tls]\nmode = \"verify-full\"\n", &[NODES]);
    assert!(error.starts_with("backends.tls.mode: verify-full needs backends.tls.ca"), "{error}");
    let missing = ("PGHERD_BACKENDS__TLS__CA", "/nonexistent/ca.crt");
    let error = self::error("", &[NODES, missing]);
    assert!(error.starts_with("backends.tls.ca: /nonexistent/ca.crt can't be read"), "{error}");
    let alias = ("PGHERD_BACKENDS__TLS__SERVER_TLS_SSLMODE", "require");
    assert_eq!(value("", &[NODES, alias], "backends.tls.mode"), "require");
    assert_eq!(value("", &[NODES], "backends.tls.mode"), "prefer");

    let directory = tempfile::tempdir().unwrap();
    let authority = pgherd_testkit::Authority::new("test authority").unwrap();
    let ca = authority.write(directory.path(), "ca").unwrap().display().to_string();
    let (json, code) = check("", &[NODES, ("PGHERD_BACKENDS__TLS__CA", &ca)]);
    assert_eq!(code, 0, "{json:#}");
    let warnings = lines(&json, "warnings");
    assert!(warnings.iter().any(|it| it.starts_with("backends.tls.ca: protects little")), "{warnings:#?}");
}

#[test]
fn commands_of_an_operator_are_arrays_with_known_places() {
    let of = |step: &str, command: &str| {
        error(
            &format!("[failover]\nexecutor = \"command\"\n[failover.command]\n{step} = {command}"),
            &[NODES],
        )
    };
    let places = "has no place `hots`; there are {host}, {port}, {node}, {name}, {data_directory}";
    assert!(of("promote", "[\"/bin/x\", \"--to={hots}\"]").ends_with(places));
    assert!(of("fence", "[\"/bin/x\", \"{upstream_host}\"]").contains("has no place `upstream_host`"));
    assert!(of("rejoin", "[\"/bin/x\", \"{upstream}\"]").contains("{upstream_host}, {upstream_port}"));
    assert!(of("stop", "[\"x\"]").contains("begins with a program, by its absolute path"));
    assert!(of("start", "\"/bin/x {host}\"").contains("takes an array of texts"));
}

#[test]
fn what_carries_out_a_failover_and_cannot_is_a_warning() {
    let warns = |file: &str, key: &str, words: &str| {
        let (json, code) = check(file, &[("PG_BACKEND_NODE_LIST", "0:a,1:b")]);
        let warnings = lines(&json, "warnings");
        let found = warnings.iter().any(|it| it.starts_with(key) && it.contains(words));
        assert!(code == 0 && found, "{warnings:?}");
    };
    warns("", "failover.ssh.key: ", "promotes and repoints standbys over SQL");
    warns("[failover]\nexecutor = \"command\"", "failover.command: ", "does no more than `sql`");
    warns("[failover.command]\npromote = [\"/bin/x\"]", "failover.command: ", "are not used");
    let (json, _) = check("[failover]\nexecutor = \"sql\"", &[("PG_BACKEND_NODE_LIST", "0:a,1:b")]);
    assert!(!lines(&json, "warnings").iter().any(|it| it.starts_with("failover.")), "{json:#}");
}
