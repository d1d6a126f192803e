//! `pgherd migrate`: what it makes of pgpool's and PgBouncer's configurations.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;
use tempfile::TempDir;

mod page;
mod pgbouncer;
mod pgpool;
mod shipped;

const PGPOOL: &str = include_str!("migrate/pgpool.conf");
const PGBOUNCER: &str = include_str!("migrate/pgbouncer.ini");

/// A directory with one file in it.
struct Source {
    directory: TempDir,
    file: PathBuf,
}

impl Source {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("source");
        fs::write(&file, text).unwrap();
        Self { directory, file }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Migrates it, with these arguments besides.
    fn migrate(&self, arguments: &[&str]) -> Migrated {
        Migrated::new(
            pgherd()
                .arg("migrate")
                .arg(&self.file)
                .args(arguments)
                .current_dir(&self.directory)
                .output()
                .unwrap(),
        )
    }

    /// What became of each setting.
    fn json(&self) -> Json {
        let migrated = self.migrate(&["--json"]);
        serde_json::from_str(&migrated.out).unwrap()
    }

    /// The value that each key has where the output is used.
    fn in_force(&self) -> Json {
        let migrated = self.migrate(&["--output", "made.toml", "--force"]);
        assert_eq!(migrated.code, 0, "{migrated:#?}");
        let (json, code) = check(&self.path("made.toml"));
        assert_eq!(code, 0, "{json:#}");
        json["settings"].clone()
    }
}

#[derive(Debug)]
struct Migrated {
    code: i32,
    out: String,
    said: String,
}

impl Migrated {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            said: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn pgherd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgherd"));
    command.env_clear();
    command
}

/// What `pgherd check` says of a file.
fn check(file: &Path) -> (Json, i32) {
    let output = pgherd().args(["check", "--json", "--config"]).arg(file).output().unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code().unwrap())
}

/// What became of a setting, and why.
fn fate(json: &Json, name: &str) -> (String, String) {
    let of_name = |it: &&Json| it["name"] == name;
    let setting = json["settings"].as_array().unwrap().iter().rfind(of_name);
    assert!(setting.is_some(), "{name}: {json:#}");
    let setting = setting.unwrap();
    let why = setting["message"].as_str().or(setting["key"].as_str()).unwrap_or_default();
    (setting["became"].as_str().unwrap().to_owned(), why.to_owned())
}

#[test]
fn whoever_promoted_nobody_gets_nobody_promoted() {
    let nodes = "backend_hostname0 = 'a'\nbackend_hostname1 = 'b'\n";
    assert_eq!(Source::new(nodes).in_force()["failover.mode"]["value"], "manual");
    assert_eq!(Source::new("[databases]\na = host=b\n").in_force()["failover.mode"]["value"], "manual");
    let repmgr = format!("{nodes}failover_command = '/x/failover.sh repmgr standby promote'\n");
    let settings = Source::new(repmgr).in_force();
    assert_eq!(
        (&settings["failover.mode"]["value"], &settings["failover.executor"]["value"]),
        (&"automatic".into(), &"ssh".into())
    );
}

#[test]
fn included_files_are_read_where_they_stand() {
    let source = Source::new("port = 1000\ninclude = 'more'\nport = 3000\n");
    fs::write(source.path("more"), "port = 2000\nnum_init_children = 9\n").unwrap();
    let json = source.json();
    assert!(json["configuration"].as_str().unwrap().contains("127.0.0.1:3000"), "{json:#}");
    assert_eq!(fate(&json, "num_init_children").1, "pool.size");
    let source = Source::new("[pgbouncer]\ndefault_pool_size = 1\n%include more\n");
    fs::write(source.path("more"), "default_pool_size = 9\n[databases]\na = host=b\n").unwrap();
    assert_eq!(source.in_force()["pool.size"]["value"], "9");
}

#[test]
fn passwords_go_to_files_that_nobody_else_may_read_and_nowhere_else() {
    for text in [PGPOOL, PGBOUNCER] {
        let source = Source::new(text);
        for arguments in [
            &[][..],
            &["--json"],
            &["--output", "made.toml"],
            &["--output", "made.toml", "--force", "--json"],
        ] {
            let migrated = source.migrate(arguments);
            assert_eq!(migrated.code, 0, "{migrated:#?}");
            assert!(!format!("{migrated:?}").contains("s3cret"), "{migrated:#?}");
        }
        assert!(!fs::read_to_string(source.path("made.toml")).unwrap().contains("s3cret"));
        let names = fs::read_dir(&source.directory).unwrap().map(|file| file.unwrap().path());
        let secrets: Vec<PathBuf> =
            names.filter(|path| path.extension().is_some_and(|it| it == "password")).collect();
        assert_eq!(secrets.len(), 1, "{secrets:?}");
        let mode = fs::metadata(&secrets[0]).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secrets:?}");
    }
}

#[test]
fn nothing_is_overwritten_that_is_there() {
    let source = Source::new(PGPOOL);
    for there in ["made.toml", "made.monitor.password"] {
        fs::write(source.path(there), "mine").unwrap();
        let refused = source.migrate(&["--output", "made.toml"]);
        assert!(refused.code == 1 && refused.said.contains("is there already: --force"), "{refused:#?}");
        assert_eq!(fs::read_to_string(source.path(there)).unwrap(), "mine");
        fs::remove_file(source.path(there)).unwrap();
    }
    assert_eq!(fs::read_dir(&source.directory).unwrap().count(), 1, "a refusal leaves nothing behind");
    fs::write(source.path("made.monitor.password"), "mine").unwrap();
    assert_eq!(source.migrate(&["--output", "made.toml", "--force"]).code, 0);
    let mode = fs::metadata(source.path("made.monitor.password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "also of a file that was there");
}

#[test]
fn what_cannot_be_read_is_named_with_its_line() {
    let long = vec![b'#'; 2 * 1024 * 1024];
    for (text, expected) in [
        (&b"port = 9999\nsr_check_password = 's3cret\n"[..], "source:2: lacks the quote at the end"),
        (b"port = 9999\n\n= 3\n", "source:3: is no `name = value`"),
        (b"port = 1 2\n", "source:1: has more than one value"),
        (b"port\n", "source:1: has a name and no value"),
        (b"[databases]\na host=s3cret\n", "source:2: is no `name = value`"),
        (b"[databases]\na = host=b password='s3cret\n", "source:2: is no connection string"),
        (b"[users]\na = s3cret\n", "source:2: is no connection string"),
        (b"[databases\n", "source:1: is no section of PgBouncer's"),
        (b"[listen]\n", "source:1: is no section of PgBouncer's"),
        (b";\nlisten_port = 1\n", "source:2: stands in no section"),
        (b"[pgbouncer]\n%include gone\n", "source:2: includes "),
        (b"[pgbouncer]\n%include source\n", "source:2: files include each other too deep"),
        (b"include = 'source'\n", "source:1: files include each other too deep"),
        (b"port = 1\nsr_check_password = 's3cret\xff'\n", "source:2: is not valid UTF-8"),
        (b"# nothing\n", "source: says nothing by which it could be told"),
        (b"", "source: says nothing by which it could be told"),
        (&long, "source: is longer than 1 MiB"),
    ] {
        let migrated = Source::new(text).migrate(&[]);
        let shown = migrated.said.lines().next().unwrap_or_default();
        assert!(migrated.code == 1 && shown.contains(expected), "{expected}: {migrated:#?}");
        assert!(
            shown.starts_with("error: ") && migrated.out.is_empty() && !shown.contains("s3cret"),
            "{migrated:#?}"
        );
    }
    assert_eq!(
        Source::new(b"# \xe9t\xe9\nport = 1\n").migrate(&[]).code,
        0,
        "a comment may be in any encoding"
    );
    for file in ["/no/such/file", "/"] {
        let output = pgherd().args(["migrate", file]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(1) && said.starts_with(&format!("error: {file}: can't be read")),
            "{said}"
        );
    }
}

#[test]
fn whose_file_it_is_can_be_said() {
    assert!(Source::new("# nothing\n").migrate(&["--from", "pgpool"]).out.contains("9999"));
    assert!(Source::new("# nothing\n").migrate(&["--from", "pgbouncer"]).out.contains("6432"));
    let other = Source::new("port = 1\n").migrate(&["--from", "pgbouncer"]);
    assert!(other.code == 1 && other.said.contains("in no section"), "{other:#?}");
}

#[test]
fn what_looks_like_toml_or_a_terminals_orders_stays_text() {
    let hostile = "sr_check_user = 'a\"]\\n[x]'\nbackend_hostname0 = 'a\"b'\nunknown = '\u{1b}[2J\u{9b}m\u{7f}'\nsocket_dir = '/a\"#\\\\b'\n";
    let migrated = Source::new(hostile).migrate(&[]);
    assert_eq!(migrated.code, 0, "{migrated:#?}");
    let printed = format!("{}{}", migrated.out, migrated.said);
    assert!(!printed.contains(|it: char| it.is_control() && it != '\n'), "{printed:?}");
    let ini = "[databases]\n\"a\"\"] # x\u{1b}\" = host=b user='c\"' pool_size=3\n'*' = host=b'c\n";
    let migrated = Source::new(ini).migrate(&[]);
    assert!(migrated.code == 0 && migrated.out.contains("database = \"a\\\"] # x\\u001B\""), "{migrated:#?}");
}

#[test]
fn a_file_that_is_not_there_is_told_and_the_exit_code_says_so() {
    let source =
        Source::new("ssl = on\nssl_cert = 'gone.crt'\nssl_key = 'gone.key'\nbackend_hostname0 = 'a'\n");
    let migrated = source.migrate(&["--output", "made.toml"]);
    assert!(
        migrated.code == 1 && migrated.said.contains("pgherd check would not take it yet"),
        "{migrated:#?}"
    );
    assert!(
        migrated.said.contains("made.toml:") && migrated.said.contains("gone.crt can't be read"),
        "{migrated:#?}"
    );
    assert_eq!(source.json()["accepted"], false);
}
