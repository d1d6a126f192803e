//! Each step for which an operator has given a command.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pgherd_failover::{
    Command, CommandId, CommandSettings, ExecutorSettings, Means, Outcome, Step, Template,
};
use pgherd_testkit::{Cluster, Server};

use crate::herd::{Herd, id, settings, streams_to};

/// What an operator may have: PostgreSQL's own programs, run as the user of the servers.
const KIT: &str = r#"
step=$1 programs=$2 data=$3
as() { program=$1; shift; runuser -u postgres -- "$programs/$program" -D "$data" "$@"; }
case $step in
  promote) as pg_ctl promote ;;
  fence) if as pg_ctl status; then as pg_ctl -m immediate stop; fi ;;
  stop) as pg_ctl -m fast stop && as pg_controldata ;;
  start) as pg_ctl -l "$data/../postgres.log" start ;;
esac
"#;

async fn herd(servers: u8, command: impl Fn(&Cluster, &str) -> Result<Template>) -> Result<Herd> {
    let cluster = Cluster::builder().servers(servers).start().await?;
    let of = |step: &str| command(&cluster, step).map(Some);
    let commands = CommandSettings {
        promote: of("promote")?,
        fence: of("fence")?,
        stop: of("stop")?,
        start: of("start")?,
        ..CommandSettings::default()
    };
    let settings = ExecutorSettings { means: Means::Command, commands, ..settings(&cluster)? };
    Herd::with(cluster, settings)
}

fn template(words: &[&str]) -> Result<Template> {
    Template::parse(words.iter().copied(), false).map_err(anyhow::Error::msg)
}

fn kit(cluster: &Cluster, step: &str) -> Result<Template> {
    let repmgr = cluster.repmgr_program()?;
    let programs = repmgr.parent().context("a directory")?.display().to_string();
    let kit = cluster.directory().join("kit");
    std::fs::write(&kit, KIT)?;
    template(&["/bin/sh", &kit.display().to_string(), step, &programs, "{data_directory}"])
}

/// With little time, for what is never to be seen.
async fn briefly(herd: &Herd, server: &Server, step: Step) -> Outcome {
    let command = Command { id: CommandId(0), node: id(server), step, deadline: Duration::from_secs(1) };
    herd.executor.run(&command, &herd.rows).await
}

#[tokio::test]
async fn commands_do_what_they_are_for_and_sql_does_the_rest() -> Result<()> {
    let herd = herd(3, kit).await?;
    let (old, candidate, other) = (herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?);
    ensure!(herd.take(&old, Step::Rehearse).await == Outcome::Done);
    let stopped = herd.take(&old, Step::Stop).await;
    ensure!(matches!(stopped, Outcome::Stopped { .. }), "{stopped:?}");
    ensure!(herd.take(&old, Step::Start).await == Outcome::Done);
    streams_to(&old, &candidate).await?;
    ensure!(herd.take(&old, Step::Fence).await == Outcome::Fenced { stopped: true });
    ensure!(herd.take(&old, Step::Fence).await == Outcome::Fenced { stopped: false });
    ensure!(old.postmaster_pid().is_none());
    for standby in [&candidate, &other] {
        herd.freeze(standby).await?;
        ensure!(herd.take(standby, Step::Lock).await == Outcome::Done);
    }
    ensure!(herd.take(&candidate, Step::Promote).await == Outcome::Done);
    ensure!(!candidate.is_in_recovery().await?);
    ensure!(herd.take(&candidate, Step::VerifyWrite).await == Outcome::Done);
    // There is no command for it.
    ensure!(herd.take(&other, Step::Follow { upstream: id(&candidate) }).await == Outcome::Done);
    streams_to(&candidate, &other).await
}

#[tokio::test]
async fn a_command_that_only_says_that_it_is_done_is_not_believed() -> Result<()> {
    let herd = herd(2, |_, _| template(&["/bin/true"])).await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let promoted = briefly(&herd, &standby, Step::Promote).await;
    ensure!(matches!(promoted, Outcome::Unknown(_)), "{promoted:?}");
    let fenced = herd.take(&primary, Step::Fence).await;
    ensure!(matches!(&fenced, Outcome::Failed(why) if why.contains("takes connections")), "{fenced:?}");
    let stopped = herd.take(&primary, Step::Stop).await;
    ensure!(matches!(stopped, Outcome::Unknown(_)), "{stopped:?}");
    Ok(())
}

#[tokio::test]
async fn a_command_that_fails_or_hangs_has_promoted_nobody() -> Result<()> {
    let failing = ["/bin/sh", "-c", "echo no such host >&2; exit 3"];
    let herd = herd(2, |_, _| template(&failing)).await?;
    let standby = herd.cluster.server(2)?;
    let outcome = herd.take(&standby, Step::Promote).await;
    let told = |why: &str| why.contains("exit status 3") && why.contains("no such host");
    ensure!(matches!(&outcome, Outcome::Failed(why) if told(why)), "{outcome:?}");
    let commands =
        CommandSettings { promote: Some(template(&["/bin/sleep", "60"])?), ..CommandSettings::default() };
    let settings = ExecutorSettings { means: Means::Command, commands, ..settings(&herd.cluster)? };
    let herd = Herd::with(herd.cluster, settings)?;
    let outcome = briefly(&herd, &standby, Step::Promote).await;
    ensure!(matches!(&outcome, Outcome::Failed(why) if why.contains("was ended")), "{outcome:?}");
    ensure!(standby.is_in_recovery().await?);
    Ok(())
}
