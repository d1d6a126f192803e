//! Are the simulation's judges awake? Each mutant takes one safeguard out of the decision machine, by hand as it were; the
//! simulation, with the seeds that CI tells, must notice.
//!
//! `make mutants` tries them all, in a copy of the workspace, and prints what noticed. `PGHERD_MUTANT=word` tries those that
//! have the word in their description.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

mod list;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use list::{MUTANTS, Mutant};

/// A mutant that goes in a circle is noticed, too.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn every_mutant_applies_to_the_present_code() {
    let mut described = BTreeSet::new();
    for mutant in MUTANTS {
        let text = fs::read_to_string(workspace().join(mutant.file)).expect("the file is there");
        let times = text.matches(mutant.find).count();
        assert_eq!(times, 1, "without {:?}: stands {times} times in {}", mutant.without, mutant.file);
        assert_ne!(mutant.find, mutant.replace, "without {:?}: changes nothing", mutant.without);
        assert!(described.insert(mutant.without), "{:?} is there twice", mutant.without);
    }
}

#[test]
#[ignore = "builds the simulation once a mutant; make mutants"]
fn the_simulation_notices_every_mutant() {
    let copy = Copy::of_workspace();
    assert_eq!(copy.simulate(), Verdict::Passed, "as it is, the simulation passes");
    let word = std::env::var("PGHERD_MUTANT").unwrap_or_default();
    let mut unnoticed = Vec::new();
    for mutant in MUTANTS.iter().filter(|mutant| mutant.without.contains(&word)) {
        let began = Instant::now();
        let verdict = copy.with(mutant, Copy::simulate);
        eprintln!("{:>4} s  without {}: {verdict}", began.elapsed().as_secs(), mutant.without);
        if !matches!(verdict, Verdict::Noticed(_)) {
            unnoticed.push(mutant.without);
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:#?}");
}

/// What came of a run of the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// By these tests, or by its not coming to an end.
    Noticed(String),
    /// The mutant is no program.
    NotBuilt(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed => f.write_str("NOT NOTICED"),
            Self::Noticed(by) => write!(f, "noticed by {by}"),
            Self::NotBuilt(error) => write!(f, "NOT BUILT: {error}"),
        }
    }
}

/// A copy of the workspace, with a build directory of its own.
struct Copy {
    source: PathBuf,
    build: PathBuf,
}

impl Copy {
    fn of_workspace() -> Self {
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mutants");
        let copy = Self { source: root.join("source"), build: root.join("build") };
        let _ = fs::remove_dir_all(&copy.source);
        copy_directory(&workspace(), &copy.source);
        copy
    }

    fn with(&self, mutant: &Mutant, then: impl FnOnce(&Self) -> Verdict) -> Verdict {
        let path = self.source.join(mutant.file);
        let text = fs::read_to_string(&path).expect("the file was copied");
        fs::write(&path, text.replacen(mutant.find, mutant.replace, 1)).expect("the copy can be written");
        let verdict = then(self);
        fs::write(&path, text).expect("the copy can be written");
        verdict
    }

    fn simulate(&self) -> Verdict {
        let built = self.cargo().arg("--no-run").output().expect("cargo runs");
        if !built.status.success() {
            let errors = String::from_utf8_lossy(&built.stderr).into_owned();
            let first = errors.lines().find(|line| line.starts_with("error")).unwrap_or_default();
            return Verdict::NotBuilt(first.to_owned());
        }
        let log = self.build.join("simulation.log");
        let output = fs::File::create(&log).expect("the build directory can be written");
        let mut run = self.cargo().stdout(output).stderr(Stdio::null()).spawn().expect("cargo runs");
        let began = Instant::now();
        loop {
            if let Some(status) = run.try_wait().expect("a child can be waited for") {
                let text = fs::read_to_string(&log).unwrap_or_default();
                return if status.success() { Verdict::Passed } else { Verdict::Noticed(failures(&text)) };
            }
            if began.elapsed() > PATIENCE {
                let _ = run.kill();
                let _ = run.wait();
                return Verdict::Noticed("its going in a circle".to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["test", "--quiet", "--package", "pgherd-failover", "--test", "simulation", "--target-dir"])
            .arg(&self.build)
            .current_dir(&self.source)
            // Of the mutants' own: some leave a variable or an import unused.
            .env("RUSTFLAGS", format!("{} --cap-lints warn", std::env::var("RUSTFLAGS").unwrap_or_default()));
        cargo
    }
}

/// The tests that failed, by cargo's list of them.
fn failures(text: &str) -> String {
    let named = text
        .lines()
        .rev()
        .skip_while(|line| !line.starts_with("    "))
        .take_while(|line| line.starts_with("    "));
    let mut names: Vec<&str> = named.filter_map(|line| line.trim().rsplit("::").next()).collect();
    names.sort_unstable();
    match names.as_slice() {
        [] => "its end".to_owned(),
        [one, two, rest @ ..] if !rest.is_empty() => format!("{one}, {two} and {} more", rest.len()),
        few => few.join(", "),
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_owned()
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the copy can be written");
    for entry in fs::read_dir(from).expect("the workspace can be read").flatten() {
        let (name, kind) = (entry.file_name(), entry.file_type().expect("it has a type"));
        let hidden = name.to_string_lossy().starts_with('.');
        if kind.is_dir() && name != "target" && name != "node_modules" && !hidden {
            copy_directory(&entry.path(), &to.join(&name));
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(&name)).expect("the copy can be written");
        }
    }
}
