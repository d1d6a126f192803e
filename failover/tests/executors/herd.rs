//! A cluster and an executor for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pgherd_failover::{
    Clients, Command, CommandId, CommandSettings, Executor, ExecutorSettings, Limit, Means, Outcome,
    RepmgrRows, RepmgrSettings, SshSettings, Step,
};
use pgherd_health::{Branch, Lsn, Node, NodeId, Password, ProberSettings, RepmgrNode, RepmgrNodeType};
use pgherd_testkit::{Cluster, Server, eventually};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster and an executor for it.
pub(crate) struct Herd {
    pub(crate) cluster: Cluster,
    pub(crate) executor: Executor,
    pub(crate) rows: RepmgrRows,
}

impl Herd {
    pub(crate) async fn of(servers: u8) -> Result<Self> {
        let cluster = Cluster::builder().servers(servers).start().await?;
        let settings = settings(&cluster)?;
        Self::with(cluster, settings)
    }

    pub(crate) fn with(cluster: Cluster, settings: ExecutorSettings) -> Result<Self> {
        let executor = executor(&cluster, settings);
        let rows =
            cluster.servers().iter().map(|server| (id(server), row(server))).collect::<BTreeMap<_, _>>();
        Ok(Self { cluster, executor, rows: Arc::new(rows) })
    }

    /// Carries out `step` and prints how long it took.
    pub(crate) async fn take(&self, server: &Server, step: Step) -> Outcome {
        self.take_by(&self.executor, server, step).await
    }

    pub(crate) async fn take_by(&self, executor: &Executor, server: &Server, step: Step) -> Outcome {
        let began = Instant::now();
        let command = Command { id: CommandId(0), node: id(server), step, deadline: PATIENCE };
        let outcome = executor.run(&command, &self.rows).await;
        eprintln!("{} {:?}: {:?} in {:?}", server.name(), command.step, outcome, began.elapsed());
        outcome
    }

    pub(crate) async fn freeze(&self, server: &Server) -> Result<Lsn> {
        match self.take(server, Step::Freeze).await {
            Outcome::Frozen { lsn } => Ok(lsn),
            outcome => bail!("{outcome:?}"),
        }
    }
}

pub(crate) fn id(server: &Server) -> NodeId {
    NodeId(u32::try_from(server.backend_id()).unwrap_or_default())
}

pub(crate) fn row(server: &Server) -> RepmgrNode {
    RepmgrNode {
        node_id: server.id(),
        node_name: server.name().to_owned(),
        node_type: if server.id() == 1 { RepmgrNodeType::Primary } else { RepmgrNodeType::Standby },
        upstream_node_id: (server.id() != 1).then_some(1),
        active: true,
        priority: 100,
        host: server.address().to_string(),
        port: server.port(),
        location: "default".to_owned(),
    }
}

pub(crate) fn executor(cluster: &Cluster, settings: ExecutorSettings) -> Executor {
    executor_for(cluster, settings, None)
}

pub(crate) fn executor_for(
    cluster: &Cluster,
    settings: ExecutorSettings,
    clients: Option<Arc<dyn Clients>>,
) -> Executor {
    let nodes: Vec<Node> = cluster
        .servers()
        .iter()
        .map(|server| Node {
            data_directory: server.data_directory().display().to_string(),
            ..Node::new(id(server), server.address().to_string(), server.port())
        })
        .collect();
    let password = Password::new(cluster.monitor_password().to_owned());
    let interval = Duration::from_millis(500);
    let monitor = ProberSettings::new("repmgr".into(), Some(password), "repmgr".into(), interval);
    Executor::new(&nodes, &Arc::new(monitor), settings, clients)
}

pub(crate) fn settings(cluster: &Cluster) -> Result<ExecutorSettings> {
    let repmgr = cluster.repmgr_program()?;
    Ok(ExecutorSettings {
        means: Means::Ssh,
        commands: CommandSettings::default(),
        ssh: SshSettings {
            user: "postgres".to_owned(),
            port: cluster.servers().first().context("no server")?.ssh_port(),
            key: Some(cluster.ssh_key_path().to_owned()),
            known_hosts: Some(cluster.known_hosts_path()),
            trust_first_use: false,
            connect_timeout: Duration::from_secs(5),
        },
        repmgr: RepmgrSettings {
            binary: repmgr.display().to_string(),
            config: cluster.repmgr_conf_pattern(),
            pg_bindir: None,
        },
    })
}

pub(crate) async fn streams_to(upstream: &Server, standby: &Server) -> Result<()> {
    eventually(format!("{} streams", standby.name()), PATIENCE, || async {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming'",
            standby.name()
        );
        Ok((upstream.scalar(&sql).await? == "1").then_some(()))
    })
    .await
}

pub(crate) async fn has_received(standby: &Server, written: &str) -> Result<()> {
    eventually(format!("{} has all up to {written}", standby.name()), PATIENCE, || async {
        let sql = format!("SELECT pg_last_wal_receive_lsn() >= '{written}'");
        Ok((standby.scalar(&sql).await? == "t").then_some(()))
    })
    .await
}

/// A rejoin, whatever is lost by it.
pub(crate) fn rejoin(upstream: &Server) -> Step {
    Step::Rejoin { upstream: id(upstream), limit: Limit { lineage: Branch::default(), bytes: u64::MAX } }
}
