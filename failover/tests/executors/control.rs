//! Tools through the control loop, which decides meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pgherd_failover::actor::{self, Control, ControlSettings};
use pgherd_failover::{Clients, Disk, Settings, StateName, Tool, Writes};
use pgherd_health::{MemberState, Node, NodeId, Password, ProberSettings};
use pgherd_testkit::{Cluster, Server, eventually};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::herd::{PATIENCE, id, settings};

/// None at all.
#[derive(Debug)]
struct Nobody;

impl Clients for Nobody {
    fn lent(&self, _: NodeId) -> Option<usize> {
        Some(0)
    }
}

/// A control loop that ends with the test.
struct Loop {
    control: Control,
    _ends: tokio_util::sync::DropGuard,
}

fn begin(cluster: &Cluster, mode: Settings) -> Result<Loop> {
    let node = |server: &Server| Node {
        data_directory: server.data_directory().display().to_string(),
        ..Node::new(id(server), server.address().to_string(), server.port())
    };
    let password = Password::new(cluster.monitor_password().to_owned());
    let interval = Duration::from_millis(200);
    let settings = ControlSettings {
        nodes: cluster.servers().iter().map(node).collect(),
        system_identifier: None,
        machine: mode,
        prober: ProberSettings::new("repmgr".into(), Some(password), "repmgr".into(), interval),
        executor: settings(cluster)?,
        etcd: None,
        aside: false,
    };
    let cancel = CancellationToken::new();
    let (control, _) = actor::start(settings, Arc::new(Nobody), cancel.clone())?;
    Ok(Loop { control, _ends: cancel.drop_guard() })
}

async fn state(control: &Control, wanted: StateName) -> Result<()> {
    eventually(format!("it is in the state {wanted}"), PATIENCE, || async {
        Ok((control.status.borrow().state == wanted).then_some(()))
    })
    .await
}

async fn use_tool(control: &Control, server: &Server, tool: Tool) -> Result<(), String> {
    let used = control.look(id(server), tool.clone()).await;
    eprintln!("{tool}: {used:?}");
    used.map(drop)
}

fn says(used: Result<(), String>, words: &str) -> Result<()> {
    ensure!(used.as_ref().is_err_and(|why| why.contains(words)), "{used:?} does not say {words:?}");
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_done_to_a_herd_is_refused() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let (primary, standby) = (cluster.server(1)?, cluster.server(2)?);
    let manual = Settings { mode: pgherd_failover::Mode::Manual, ..Settings::default() };
    let Loop { control, _ends } = begin(&cluster, manual)?;
    state(&control, StateName::Steady).await?;
    let disks = control.look(id(&primary), Tool::Disks).await.map_err(anyhow::Error::msg)?;
    ensure!(Disk::all(&disks).len() == 1, "{disks:?}");
    says(use_tool(&control, &primary, Tool::Unregister).await, "is the primary")?;
    says(use_tool(&control, &standby, Tool::Unregister).await, "stop it before")?;
    says(use_tool(&control, &standby, Tool::Start).await, "runs already")?;
    says(control.look(NodeId(7), Tool::Disks).await.map(drop), "there is no node 7")?;
    let hostile = Tool::DeleteBackup { name: "base-'; reboot".to_owned() };
    says(use_tool(&control, &standby, hostile).await, "is no name of a backup")?;

    ensure!(use_tool(&control, &standby, Tool::Stop).await == Ok(()));
    let down = || async {
        let topology = Arc::clone(&control.topology.borrow());
        let member = topology.member(id(&standby)).context("no member")?;
        Ok((member.state == MemberState::Refused).then_some(()))
    };
    eventually("it is seen to be down", PATIENCE, down).await?;
    ensure!(use_tool(&control, &standby, Tool::Start).await == Ok(()));
    eventually("it is seen to be up", PATIENCE, || async { Ok(down().await?.is_none().then_some(())) })
        .await?;
    ensure!(use_tool(&control, &standby, Tool::Stop).await == Ok(()));
    eventually("it is seen to be down", PATIENCE, down).await?;
    ensure!(use_tool(&control, &standby, Tool::Unregister).await == Ok(()));

    ensure!(use_tool(&control, &primary, Tool::Stop).await == Ok(()));
    state(&control, StateName::Hold).await?;
    ensure!(use_tool(&control, &primary, Tool::Start).await == Ok(()));
    state(&control, StateName::Steady).await?;
    ensure!(control.stand_aside().await);
    says(use_tool(&control, &primary, Tool::Stop).await, "another pgherd decides")?;
    ensure!(control.look(id(&primary), Tool::Disks).await.is_ok(), "whoever looks on may look");
    Ok(())
}

/// One that changes something runs at a time on a server, and neither probes nor a failover wait for it.
#[tokio::test]
async fn a_tool_that_takes_long_delays_no_failover() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let (primary, standby) = (cluster.server(1)?, cluster.server(2)?);
    let Loop { control, _ends } =
        begin(&cluster, Settings { confirm: Duration::from_secs(1), ..Settings::default() })?;
    state(&control, StateName::Steady).await?;
    // It waits for whoever streams, and that hangs.
    standby.freeze().await?;
    let (sender, mut receiver) = mpsc::channel(1);
    let stops = control.tool(id(&primary), Tool::Stop, sender);
    let meanwhile = async {
        receiver.recv().await.context("it does not begin")?;
        says(
            use_tool(&control, &primary, Tool::BackUpBase).await,
            "not now: its stop is under way on node 0",
        )?;
        ensure!(control.look(id(&primary), Tool::Disks).await.is_ok(), "looks are taken beside it");
        standby.thaw().await?;
        while receiver.recv().await.is_some() {}
        Ok(())
    };
    let (stopped, meanwhile) = tokio::join!(stops, meanwhile);
    meanwhile?;
    ensure!(stopped == Ok(()), "{stopped:?}");
    eventually("the standby has taken its place", PATIENCE, || async {
        let routing = Arc::clone(&control.routing.borrow());
        Ok(matches!(&routing.writes, Writes::Open(epoch) if epoch.primary == id(&standby)).then_some(()))
    })
    .await?;
    // Until all that belongs to the failover has ended.
    let refused = eventually("nothing else is under way", PATIENCE, || async {
        let answer = use_tool(&control, &primary, Tool::Start).await;
        Ok((!answer.as_ref().is_err_and(|why| why.contains("not now"))).then_some(answer))
    })
    .await?;
    says(refused, "Rejoin it instead")?;
    ensure!(!standby.is_in_recovery().await?);
    Ok(())
}
