//! A copy of the pure half of the workspace, in which a safeguard can be taken away.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::list::Mutant;
use crate::workspace;

/// The modules that touch the world. What is left is built in seconds.
const IMPURE: [&str; 4] = ["actor", "etcd", "executor", "prober"];

/// What came of a run of the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// By this test or seed, the first that failed, or by its not coming to an end.
    Noticed(String),
    /// The mutant is no program.
    NotBuilt(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed => f.write_str("NOT NOTICED"),
            Self::Noticed(by) => f.write_str(by),
            Self::NotBuilt(error) => write!(f, "NOT BUILT: {error}"),
        }
    }
}

/// A copy with a build directory of its own.
pub(crate) struct Copy {
    source: PathBuf,
    build: PathBuf,
}

impl Copy {
    /// One that is optimized takes longer to be built, and little to run to its end.
    pub(crate) fn of_workspace(name: &str, optimized: bool) -> Self {
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let copy = Self { source: root.join("source"), build: root.join("build") };
        let _ = fs::remove_dir_all(&copy.source);
        for (part, without) in
            [("health/src", &IMPURE[..]), ("failover/src", &IMPURE), ("failover/tests/simulation", &[])]
        {
            copy_directory(&workspace().join(part), &copy.source.join(part), without);
        }
        for file in ["Cargo.lock", "docs/failover-table.md"] {
            write(&copy.source.join(file), &read(&workspace().join(file)));
        }
        for part in ["health/src/lib.rs", "failover/src/lib.rs"] {
            let path = copy.source.join(part);
            write(&path, &pure(&read(&path)));
        }
        let root = "[workspace]\nresolver = \"3\"\nmembers = [\"health\", \"failover\"]\n\n[profile.dev]\ndebug = false\n";
        write(&copy.source.join("Cargo.toml"), &format!("{root}opt-level = {}\n", u8::from(optimized)));
        write(&copy.source.join("health/Cargo.toml"), &manifest("pgherd-health", ""));
        let health = "pgherd-health = { path = \"../health\" }";
        write(&copy.source.join("failover/Cargo.toml"), &manifest("pgherd-failover", health));
        copy
    }

    /// What `then` makes of it without the mutant's safeguards.
    pub(crate) fn with(&self, mutant: &Mutant, then: impl FnOnce(&Self) -> Verdict) -> Verdict {
        let mut before = Vec::new();
        for edit in mutant.edits() {
            let path = self.source.join(edit.file);
            let text = read(&path);
            write(&path, &text.replacen(edit.find, edit.replace, 1));
            before.push((path, text));
        }
        let verdict = then(self);
        for (path, text) in before.iter().rev() {
            write(path, text);
        }
        verdict
    }

    /// Builds the simulation and runs it, until something fails or the patience is over.
    pub(crate) fn simulate(&self, patience: Duration) -> Verdict {
        match self.build() {
            Ok(simulation) => run(&simulation, patience),
            Err(error) => Verdict::NotBuilt(error),
        }
    }

    /// The simulation's program.
    fn build(&self) -> Result<PathBuf, String> {
        let built = Command::new(env!("CARGO"))
            .args(["test", "--offline", "--no-run", "--package", "pgherd-failover", "--test", "simulation"])
            .args(["--message-format", "json-render-diagnostics", "--target-dir"])
            .arg(&self.build)
            .current_dir(&self.source)
            // Some leave a variable or an import unused.
            .env("RUSTFLAGS", format!("{} --cap-lints warn", std::env::var("RUSTFLAGS").unwrap_or_default()))
            .output()
            .expect("cargo runs");
        if !built.status.success() {
            let errors = String::from_utf8_lossy(&built.stderr).into_owned();
            let first = errors.lines().find(|line| line.starts_with("error")).unwrap_or_default();
            return Err(first.to_owned());
        }
        let program = String::from_utf8_lossy(&built.stdout).lines().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(PathBuf::from(message.get("executable")?.as_str()?))
        });
        program.ok_or_else(|| "cargo tells of no program".to_owned())
    }
}

fn run(simulation: &Path, patience: Duration) -> Verdict {
    let mut run = Command::new(simulation)
        // That a row of the table is not taken any more shows to nobody.
        .args(["--nocapture", "--skip", "table::"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("what was built runs");
    let began = Instant::now();
    let (told, failures) = channel();
    let output = run.stderr.take().expect("it is piped");
    std::thread::spawn(move || tell_failures(output, &told));
    // The output ends with the program.
    let first = failures.recv_timeout(patience);
    let _ = run.kill();
    let status = run.wait().expect("a child can be waited for");
    match first {
        Ok(by) => Verdict::Noticed(by),
        Err(_) if began.elapsed() >= patience => Verdict::Noticed("its going in a circle".to_owned()),
        Err(_) if status.success() => Verdict::Passed,
        Err(_) => Verdict::Noticed(format!("its end: {status}")),
    }
}

/// Sends the names of tests and seeds that fail.
fn tell_failures(output: impl Read, told: &Sender<String>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let panicked = line.strip_prefix("thread '").and_then(|rest| rest.split_once("' "));
        let failure = match panicked {
            Some((test, rest)) if rest.contains("panicked at") => test.rsplit("::").next().map(str::to_owned),
            _ => line.starts_with("seed ").then(|| line.clone()),
        };
        if failure.is_some_and(|failure| told.send(failure).is_err()) {
            return;
        }
    }
}

/// A crate's root without the modules that touch the world.
fn pure(root: &str) -> String {
    let impure = |item: &&str| {
        IMPURE.iter().any(|it| item.contains(&format!("mod {it}")) || item.contains(&format!("use {it}::")))
    };
    root.split_inclusive(';').filter(|item| !impure(item)).collect()
}

fn manifest(name: &str, dependency: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependency}\n"
    )
}

fn copy_directory(from: &Path, to: &Path, without: &[&str]) {
    for entry in fs::read_dir(from).expect("the workspace can be read").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let module = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        if path.is_dir() && !without.contains(&module) {
            copy_directory(&path, &to.join(&name), &[]);
        } else if path.is_file() && !without.contains(&module) {
            write(&to.join(&name), &read(&path));
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("the file is there")
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("the copy can be written");
    fs::write(path, text).expect("the copy can be written");
}
