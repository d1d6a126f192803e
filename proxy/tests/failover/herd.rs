//! A cluster with a pgherd before it, and what tests ask of both.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use bytes::BytesMut;
use pgherd_testkit::client::{RawClient, Session, frontend};
use pgherd_testkit::history::{Record, Report, Workload};
use pgherd_testkit::{Cluster, Context, Pgherd, PgherdBuilder, Result, Server, ensure, eventually};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Herd {
    pub(crate) cluster: Cluster,
    pub(crate) pgherd: Pgherd,
}

impl Herd {
    /// Three servers, and pgherd with its defaults.
    pub(crate) async fn start() -> Result<Self> {
        Self::of(Cluster::builder().start().await?, |pgherd| pgherd).await
    }

    /// Any cluster, and pgherd with other settings than its defaults.
    pub(crate) async fn of(
        cluster: Cluster,
        settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder,
    ) -> Result<Self> {
        let pgherd = settings(Pgherd::builder(&cluster)).start().await?;
        let herd = Self { cluster, pgherd };
        herd.wait_writable().await?;
        Ok(herd)
    }

    /// Waits until pgherd has a primary; logins need none.
    pub(crate) async fn wait_writable(&self) -> Result<()> {
        eventually("a write through pgherd", PATIENCE, || async {
            let session = self.connect().await?;
            session
                .batch_execute("CREATE TABLE IF NOT EXISTS probe (); INSERT INTO probe DEFAULT VALUES")
                .await?;
            Ok(Some(()))
        })
        .await
    }

    pub(crate) async fn connect(&self) -> Result<Session> {
        Session::connect(&self.pgherd.connection_string("app", "app")).await
    }

    pub(crate) async fn raw(&self) -> Result<RawClient> {
        let password = self.cluster.credentials().password("app");
        RawClient::login(self.pgherd.address(), "app", "app", password).await
    }

    /// A client with these parameters in its startup packet besides.
    pub(crate) async fn raw_with(&self, parameters: &[(&str, &str)]) -> Result<RawClient> {
        let mut client = RawClient::connect(self.pgherd.address()).await?;
        let all = [("user", "app"), ("database", "app")].into_iter().chain(parameters.iter().copied());
        let mut packet = BytesMut::new();
        frontend::startup_message(all, &mut packet)?;
        client.send(&packet).await?;
        client.authenticate("app", self.cluster.credentials().password("app")).await?;
        Ok(client)
    }

    /// An administrator at the console.
    pub(crate) async fn console(&self) -> Result<RawClient> {
        let password = self.cluster.monitor_password();
        RawClient::login(self.pgherd.address(), "repmgr", "pgherd", password).await
    }

    /// Writers through pgherd, with an empty table.
    pub(crate) async fn workload(&self) -> Result<Workload> {
        let password = self.cluster.credentials().password("app");
        let workload = Workload::new(self.pgherd.address(), "app", "app", password);
        workload.create_table().await?;
        Ok(workload)
    }

    /// Holds what the writers saw against what the present primary has. Nothing may be there that must not be, and nobody was
    /// refused a login.
    pub(crate) async fn compare(&self, record: &Record) -> Result<Report> {
        ensure!(record.logins_failed.is_empty(), "{:?}", record.logins_failed);
        self.compare_rows(record).await
    }

    /// The same where pgherd itself was away, so that logins failed.
    pub(crate) async fn compare_rows(&self, record: &Record) -> Result<Report> {
        let report = Report::compare(record, self.cluster.primary().await?.history().await?);
        eprintln!("{report}");
        ensure!(report.is_exact(), "{report}");
        Ok(report)
    }

    /// All that pgherd has logged.
    pub(crate) fn log(&self) -> String {
        self.pgherd.log().join("\n")
    }

    /// Waits until the last word of pgherd's log on it is that these servers, by pgherd's numbers, may be read.
    pub(crate) async fn wait_readable(&self, servers: &str) -> Result<()> {
        let words = format!("readable=[{servers}]");
        eventually(format!("{words} in pgherd's log"), PATIENCE, || async {
            let log = self.pgherd.log();
            let last = log.iter().rev().find(|line| line.contains("readable=["));
            Ok(last.is_some_and(|line| line.contains(&words)).then_some(()))
        })
        .await
        .with_context(|| self.log())
    }

    /// Waits until all standbys have replayed what the primary has written by now.
    pub(crate) async fn wait_replayed(&self) -> Result<()> {
        let primary = self.cluster.primary().await?;
        let written = primary.scalar("SELECT pg_current_wal_flush_lsn()").await?;
        for standby in self.cluster.servers().iter().filter(|server| server.id() != primary.id()) {
            standby.wait_replayed(&written).await?;
        }
        Ok(())
    }

    /// Waits until `primary` is writable, all other servers stream from it, and repmgr's rows say so too.
    pub(crate) async fn wait_all_led_by(&self, primary: &Server) -> Result<()> {
        let others: Vec<_> = self.cluster.servers().iter().filter(|it| it.id() != primary.id()).collect();
        self.wait_led_by(primary, &others).await
    }

    /// Waits until `primary` is writable, these servers stream from it, and repmgr's rows say so too.
    pub(crate) async fn wait_led_by(&self, primary: &Server, standbys: &[&Server]) -> Result<()> {
        for standby in standbys {
            eventually(format!("{} streams from {}", standby.name(), primary.name()), PATIENCE, || async {
                let sql = format!(
                    "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming'",
                    standby.name()
                );
                Ok((primary.scalar(&sql).await? == "1").then_some(()))
            })
            .await?;
        }
        eventually("repmgr's rows name them", PATIENCE, || async {
            let sql = "SELECT node_id, type, upstream_node_id FROM repmgr.nodes WHERE active ORDER BY 1";
            let rows = primary.query_in("repmgr", sql).await?;
            let row = |id: i32| {
                let text = id.to_string();
                rows.iter().find(|row| row.get(0) == Some(text.as_str()))
            };
            let upstream = primary.id().to_string();
            let follows = |it: &&Server| {
                row(it.id())
                    .is_some_and(|row| row.get(1) == Some("standby") && row.get(2) == Some(upstream.as_str()))
            };
            let leads = row(primary.id()).is_some_and(|row| row.get(1) == Some("primary"));
            Ok((leads && standbys.iter().all(follows)).then_some(()))
        })
        .await
    }
}

/// The number in an environment variable that asks for more than `otherwise`.
pub(crate) fn number_in<T>(variable: &'static str, otherwise: T) -> Result<T>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    match std::env::var(variable) {
        Ok(text) => text.parse().context(variable),
        Err(_) => Ok(otherwise),
    }
}

/// The timeline that a primary writes.
pub(crate) async fn timeline(primary: &Server) -> Result<String> {
    primary.scalar("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)").await
}
