//! The program behind `make browser`: a real cluster with pgherd before it, and Chromium that looks at the manager's page and steers by it.

// It talks to whoever runs it.
#![allow(clippy::print_stdout)]

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::history::{Report, Workload};
use pgherd_testkit::{Cluster, Context, Pgherd, Result, bail, ensure};
use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// How long anything may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long all browser tests together may take.
const TESTS_WITHIN: Duration = Duration::from_secs(300);
/// A lost primary has to be seen on the page by then.
const SEEN_WITHIN: Duration = Duration::from_secs(1);
/// A name that would do harm where it is not taken for a text.
const HOSTILE: &str = "\"><img src=x onerror=alert(1)>'; DROP TABLE t;--\n<script>alert(2)</script>";
/// Who may look and not touch.
const VIEWER: &str = "watcher";

/// That the page lets an operator in and act, and shows hostile names as they are.
const SMOKE: [&str; 3] =
    ["tests/built/session.test.js", "tests/built/actions.test.js", "tests/built/hostile.test.js"];
/// That every view opens, in every form, and a failover is told step by step.
const VIEWS: [&str; 2] = ["tests/built/views.test.js", "tests/built/events.test.js"];

/// Drives the manager's page with a real browser.
#[derive(Debug, Parser)]
#[command(name = "make browser")]
struct Options {
    /// Where the page's sources are.
    #[arg(long, default_value = "manager/web")]
    web: PathBuf,
    /// Only that the page opens, shows, and lets an operator act.
    #[arg(long)]
    smoke: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match drive(&Options::parse()).await {
        Ok(()) => {
            println!("==> the page does what it should");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("==> failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn drive(options: &Options) -> Result<()> {
    println!("==> starting three servers with pgherd before them");
    let cluster = Cluster::builder().servers(3).start().await?;
    let password = cluster.credentials().password("app").to_owned();
    let create = format!("CREATE ROLE {VIEWER} LOGIN PASSWORD '{password}'");
    cluster.primary().await?.query(&create).await?;
    let pgherd = Pgherd::builder(&cluster).set("admin.stats_users", VIEWER).start().await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    let stage = Stage { options, cluster, pgherd };
    let hostile = stage.hostile_client().await?;
    let looked_at = async {
        if options.smoke {
            return stage.test(&SMOKE, &[]).await;
        }
        stage.lose_the_primary(&stage.workload().await?).await?;
        stage.switch_over(&stage.workload().await?).await
    };
    tokio::select! {
        looked_at = looked_at => looked_at,
        never = stage.keep_busy(hostile) => match never {},
    }
}

/// What there is to look at.
struct Stage<'a> {
    options: &'a Options,
    cluster: Cluster,
    pgherd: Pgherd,
}

impl Stage<'_> {
    /// A client under a name that would do harm.
    async fn hostile_client(&self) -> Result<RawClient> {
        let mut client = RawClient::connect(self.pgherd.address()).await?;
        let mut startup = bytes::BytesMut::new();
        let parameters = [("user", "app"), ("database", "app"), ("application_name", HOSTILE)];
        frontend::startup_message(parameters, &mut startup)?;
        client.send(&startup).await?;
        client.authenticate("app", self.cluster.credentials().password("app")).await?;
        client.query("SELECT 1").await?;
        Ok(client)
    }

    /// It is always at something, for who rests has no server process that shows its name, and comes back when its server is lost.
    async fn keep_busy(&self, mut client: RawClient) -> Infallible {
        loop {
            while client.query("SELECT pg_sleep(0.5)").await.is_ok() {}
            client = loop {
                sleep(Duration::from_millis(200)).await;
                if let Ok(again) = self.hostile_client().await {
                    break again;
                }
            };
        }
    }

    async fn workload(&self) -> Result<Workload> {
        let password = self.cluster.credentials().password("app");
        let workload = Workload::new(self.pgherd.address(), "app", "app", password);
        workload.create_table().await?;
        Ok(workload.clients(8).pause(Duration::from_millis(5)))
    }

    /// `node` with what the tests need to know.
    fn node(&self, arguments: &[&str], more: &[(&str, &str)]) -> Result<Command> {
        let credentials = self.cluster.credentials();
        let mut command = Command::new("node");
        command
            .args(arguments)
            .current_dir(&self.options.web)
            .env("PGHERD_URL", format!("http://{}", self.pgherd.http_address()?))
            .env("PGHERD_USER", "repmgr")
            .env("PGHERD_PASSWORD", credentials.password("repmgr"))
            .env("PGHERD_VIEWER", VIEWER)
            .env("PGHERD_VIEWER_PASSWORD", credentials.password("app"))
            .env("PGHERD_HOSTILE", HOSTILE)
            .envs(more.iter().copied())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Runs the browser tests.
    async fn test(&self, files: &[&str], more: &[(&str, &str)]) -> Result<()> {
        println!("==> browser tests");
        let arguments = [&["--test", "--test-concurrency=1"], files].concat();
        let status = timeout(TESTS_WITHIN, self.node(&arguments, more)?.status()).await??;
        ensure!(status.success(), "a browser test has failed\n{}", self.pgherd.log().join("\n"));
        Ok(())
    }

    /// The primary is killed under load: the page says so within a second, and tells afterwards how it was replaced.
    async fn lose_the_primary(&self, workload: &Workload) -> Result<()> {
        println!("==> the primary is killed under load, while a page is open");
        let running = workload.start().await?;
        running.wait_acknowledged(100, PATIENCE).await?;
        let mut watch = self.node(&["tests/built/watch.js"], &[])?;
        let mut watch = watch.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(watch.stdout.take().context("no output")?).lines();
        until(&mut lines, "the page shows that all is well", |it| {
            it["state"] == "Steady" && it["level"] != "error"
        })
        .await?;
        let primary = self.cluster.primary().await?;
        let killed_at = SystemTime::now();
        primary.kill9().await?;
        let is_seen =
            |it: &Json| it["state"] != "Steady" || it["level"] == "error" || it["level"] == "warning";
        let seen = until(&mut lines, "the page shows that something is wrong", is_seen).await?;
        let after = moment(&seen)?.duration_since(killed_at).unwrap_or_default();
        println!("==> seen on the page {} ms after the kill: {seen}", after.as_millis());
        ensure!(after <= SEEN_WITHIN, "that took longer than {SEEN_WITHIN:?}");
        let old = primary.backend_id().to_string();
        let is_over =
            |it: &Json| it["state"] == "Steady" && it["primary"].as_str().is_some_and(|id| id != old);
        let over = until(&mut lines, "the page shows the new primary", is_over).await?;
        let after = moment(&over)?.duration_since(killed_at).unwrap_or_default();
        println!("==> the new primary is on the page after {} ms", after.as_millis());
        drop(watch.stdin.take());
        timeout(PATIENCE, watch.wait()).await??;
        running.wait_acknowledged(100, PATIENCE).await?;
        let report = Report::compare(&running.stop().await?, self.cluster.primary().await?.history().await?);
        ensure!(report.is_exact(), "{report}");
        primary.start().await?;
        self.cluster.wait_healthy().await
    }

    /// The browser tests, a switchover from the page among them, under load: no client meets an error.
    async fn switch_over(&self, workload: &Workload) -> Result<()> {
        let running = workload.start().await?;
        running.wait_acknowledged(100, PATIENCE).await?;
        let began = Instant::now();
        self.test(
            &[&SMOKE[..], &VIEWS[..]].concat(),
            &[("PGHERD_SWITCHOVER", "1"), ("PGHERD_FAILOVER", "1")],
        )
        .await?;
        running.wait_acknowledged(100, PATIENCE).await?;
        let report = Report::compare(&running.stop().await?, self.cluster.primary().await?.history().await?);
        println!("==> under load, with a switchover from the page: {report}");
        ensure!(report.is_exact() && report.connections_lost == 0 && report.sqlstates.is_empty(), "{report}");
        println!("==> the longest time without a write: {:?}", report.write_outage(began));
        let log = self.pgherd.log();
        if let Some(line) = log.iter().find(|line| line.contains("panicked")) {
            bail!("{line}");
        }
        Ok(())
    }
}

/// The next thing that the page shows for which this is so.
async fn until(
    lines: &mut Lines<BufReader<ChildStdout>>,
    what: &str,
    is_so: impl Fn(&Json) -> bool,
) -> Result<Json> {
    let found = async {
        while let Some(line) = lines.next_line().await? {
            let shown: Json = serde_json::from_str(&line).with_context(|| line.clone())?;
            if is_so(&shown) {
                return Ok(shown);
            }
        }
        bail!("the page is gone")
    };
    timeout(PATIENCE, found).await.context("not in time")?.with_context(|| what.to_owned())
}

fn moment(shown: &Json) -> Result<SystemTime> {
    let milliseconds = shown["at"].as_u64().context("no time")?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds))
}
