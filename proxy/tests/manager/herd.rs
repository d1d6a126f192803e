//! A cluster with a pgherd before it, and people who may look and order.

use std::time::Duration;

use pgherd_testkit::client::{RawClient, Session};
use pgherd_testkit::{Cluster, Context, Pgherd, PgherdBuilder, Result, Server, ensure};
use toml::Value;

use crate::web::{PATIENCE, Web};

/// Who may order, who may look, and who may do neither, by their passwords.
pub(crate) const OPERATOR: (&str, &str) = ("olga", "olga-has-a-pass:word");
pub(crate) const VIEWER: (&str, &str) = ("vera", "vera-has-a-pässword");
pub(crate) const NOBODY: (&str, &str) = ("nils", "nils-has-a-password");

pub(crate) struct Herd {
    pub(crate) cluster: Cluster,
    pub(crate) pgherd: Pgherd,
}

impl Herd {
    /// So many servers, and pgherd with its defaults.
    pub(crate) async fn start(servers: u8) -> Result<Self> {
        Self::with(servers, |pgherd| pgherd).await
    }

    /// pgherd with other settings than its defaults.
    pub(crate) async fn with(
        servers: u8,
        settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder,
    ) -> Result<Self> {
        Self::of(Cluster::builder().servers(servers).start().await?, settings).await
    }

    /// The same before any cluster.
    pub(crate) async fn of(
        cluster: Cluster,
        settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder,
    ) -> Result<Self> {
        let roles: String = [OPERATOR, VIEWER, NOBODY]
            .iter()
            .map(|(user, password)| format!("CREATE ROLE {user} LOGIN PASSWORD '{password}';"))
            .collect();
        cluster.primary().await?.query(&roles).await?;
        let pgherd = Pgherd::builder(&cluster)
            .set("admin.users", users([OPERATOR.0]))
            .set("admin.stats_users", users([VIEWER.0]));
        let pgherd = settings(pgherd).start().await?;
        pgherd.wait_log("writes are open", PATIENCE).await?;
        Ok(Self { cluster, pgherd })
    }

    pub(crate) fn server(&self, id: i32) -> Result<Server> {
        self.cluster.server(id)
    }

    /// Somebody who has not said who it is.
    pub(crate) fn web(&self) -> Result<Web> {
        Ok(Web::at(self.pgherd.http_address()?))
    }

    pub(crate) async fn operator(&self) -> Result<Web> {
        self.web()?.log_in(OPERATOR.0, OPERATOR.1).await.with_context(|| self.log())
    }

    pub(crate) async fn viewer(&self) -> Result<Web> {
        self.web()?.log_in(VIEWER.0, VIEWER.1).await.with_context(|| self.log())
    }

    pub(crate) async fn connect(&self) -> Result<Session> {
        Session::connect(&self.pgherd.connection_string("app", "app")).await
    }

    pub(crate) async fn raw(&self) -> Result<RawClient> {
        let password = self.cluster.credentials().password("app");
        RawClient::login(self.pgherd.address(), "app", "app", password).await
    }

    /// The same at the console.
    pub(crate) async fn console(&self) -> Result<RawClient> {
        RawClient::login(self.pgherd.address(), OPERATOR.0, "pgherd", OPERATOR.1).await
    }

    /// All that pgherd has logged.
    pub(crate) fn log(&self) -> String {
        self.pgherd.log().join("\n")
    }

    /// Whatever was sent, nothing has panicked, and nothing is called a defect.
    pub(crate) fn ensure_sound(&self) -> Result<()> {
        let log = self.log();
        ensure!(!log.contains("panic") && !log.contains("defect"), "{log}");
        Ok(())
    }

    /// pgherd's resident memory in KiB.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.pgherd.resident()
    }

    /// Files and connections that pgherd has open.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.pid()?))?.count())
    }

    /// The processor time that pgherd has used.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().context("no fields")?.split(' ').collect();
        let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("a field")?.parse()?) };
        let ticks = ticks(11)? + ticks(12)?;
        Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    }

    fn pid(&self) -> Result<u32> {
        self.pgherd.pid().context("pgherd does not run")
    }
}

/// Names of users, as a setting.
pub(crate) fn users<const N: usize>(names: [&str; N]) -> Value {
    Value::Array(names.into_iter().map(Value::from).collect())
}
