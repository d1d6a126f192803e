//! PostgreSQL's own regression suite, statement by statement: whatever pgherd would run on a standby is run on the primary and on a
//! caught-up standby, and has to change nothing there and to give the same here.
//!
//! `make corpus` builds the suite and runs all of it; `PGHERD_CORPUS_TESTS="name ..."` runs some of its tests.

#![allow(clippy::print_stderr, reason = "what was found is the output")]

mod compare;
mod knowledge;
mod relay;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use pgherd_testkit::{Cluster, Context, Result, Server, ensure};
use tokio::net::TcpListener;
use tokio::process::Command;

/// What came of the statements.
#[derive(Debug, Default)]
struct Report {
    /// By what they are, or what came of them.
    counts: BTreeMap<&'static str, usize>,
    /// Those that should not have been run on a standby.
    wrong: Vec<String>,
}

/// What the relayed connections share.
struct Corpus {
    primary: Server,
    standby: Server,
    password: String,
    knowledge: knowledge::Knowledge,
    report: Mutex<Report>,
}

impl Corpus {
    fn count(&self, what: &'static str) {
        *self.report.lock().counts.entry(what).or_default() += 1;
    }

    fn wrong(&self, text: &str, why: &str) {
        self.count("WRONG");
        eprintln!("corpus: {why}\n    {text}");
        self.report.lock().wrong.push(format!("{why}: {text}"));
    }
}

#[tokio::test]
#[ignore = "runs PostgreSQL's own suite, which has to be built; make corpus"]
async fn what_may_run_on_any_server_gives_the_same_on_a_standby_and_changes_nothing() -> Result<()> {
    let suite = PathBuf::from(std::env::var_os("PGHERD_REGRESS").context("PGHERD_REGRESS is not set")?);
    let cluster = Cluster::builder().servers(2).setting("autovacuum", "off").start().await?;
    let primary = cluster.primary().await?;
    let standby = cluster.standbys().await.into_iter().next().context("a standby")?;
    primary.query("CREATE EXTENSION pg_walinspect").await?;
    let password = cluster.monitor_password().to_owned();
    let corpus = Arc::new(Corpus {
        primary,
        standby,
        password: password.clone(),
        knowledge: knowledge::Knowledge::default(),
        report: Mutex::default(),
    });

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let relay = tokio::spawn(relay::serve(listener, Arc::clone(&corpus)));
    run_suite(&suite, port, &password).await?;
    relay.abort();

    let report = corpus.report.lock();
    eprintln!("corpus: {:#?}", report.counts);
    let compared = report.counts.get("the same").copied().unwrap_or_default();
    ensure!(compared > 0, "nothing was compared");
    ensure!(report.wrong.is_empty(), "{} wrong:\n{}", report.wrong.len(), report.wrong.join("\n"));
    Ok(())
}

/// Runs the suite through the relay. What of it fails is not of interest.
async fn run_suite(suite: &Path, port: u16, password: &str) -> Result<()> {
    let copy = tempfile::Builder::new().prefix("pgherd-corpus.").tempdir()?;
    let bindir = std::env::var("PG_BINDIR").unwrap_or_else(|_| "/usr/lib/postgresql/15/bin".to_owned());
    let run = async |program: &str, arguments: &[&str]| -> Result<()> {
        let status = Command::new(program)
            .args(arguments)
            .current_dir(copy.path())
            .env("PGPASSWORD", password)
            .env("PGSSLMODE", "disable")
            .status()
            .await?;
        eprintln!("corpus: {program}: {status}");
        Ok(())
    };
    run("cp", &["-r", &format!("{}/.", suite.display()), "."]).await?;
    // The servers' own processes read and write the suite's files.
    run("chown", &["-R", "postgres", "."]).await?;
    let tests = std::env::var("PGHERD_CORPUS_TESTS").unwrap_or_default();
    let port = format!("--port={port}");
    let bindir = format!("--bindir={bindir}");
    let mut arguments = vec!["--reuid=postgres", "--regid=postgres", "--init-groups", "./pg_regress"];
    arguments.extend([
        "--host=127.0.0.1",
        &port,
        "--user=repmgr",
        "--inputdir=.",
        "--outputdir=.",
        "--dlpath=.",
    ]);
    arguments.extend([&*bindir, "--max-connections=1"]);
    match tests.split_whitespace().collect::<Vec<_>>() {
        tests if tests.is_empty() => arguments.push("--schedule=parallel_schedule"),
        tests => arguments.extend(tests),
    }
    run("setpriv", &arguments).await
}
