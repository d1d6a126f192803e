//! What the prober sees of real servers.

#![allow(clippy::print_stderr, missing_docs)]

use std::fs::OpenOptions;
use std::io::Write;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pgherd_health::{
    Lsn, Node, NodeId, Password, Position, Probe, ProbeOutcome, Prober, ProberSettings, Report, Samples,
    TimelineId,
};
use pgherd_testkit::{Cluster, Server};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running prober and what comes out of it.
struct Watch {
    prober: Prober,
    probes: mpsc::Receiver<Probe>,
    samples: Samples,
    _cancel: DropGuard,
}

impl Watch {
    fn of(servers: &[Server], settings: ProberSettings) -> Self {
        let nodes: Vec<Node> = servers.iter().map(node).collect();
        let (sender, probes) = mpsc::channel(64);
        let samples = Samples::default();
        let cancel = CancellationToken::new();
        let prober = Prober::start(&nodes, &Arc::new(settings), (&sender, &samples), &cancel);
        Self { prober, probes, samples, _cancel: cancel.drop_guard() }
    }

    async fn next(&mut self) -> Result<Probe> {
        timeout(PATIENCE, self.probes.recv()).await.context("no probe ends")?.context("the prober ended")
    }

    /// The first outcome that `wanted` takes, and every one before it.
    async fn until(&mut self, wanted: impl Fn(&ProbeOutcome) -> bool) -> Result<(Probe, Vec<ProbeOutcome>)> {
        let mut before = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let probe = self.next().await?;
            if wanted(&probe.outcome) {
                return Ok((probe, before));
            }
            before.push(probe.outcome);
        }
        bail!("not seen within {PATIENCE:?}, but {before:?}")
    }

    async fn report(&mut self, wanted: impl Fn(&Report) -> bool) -> Result<Report> {
        let (probe, _) =
            self.until(|outcome| matches!(outcome, ProbeOutcome::Answered(r) if wanted(r))).await?;
        let ProbeOutcome::Answered(report) = probe.outcome else { bail!("not an answer") };
        Ok(*report)
    }
}

fn node(server: &Server) -> Node {
    let id = NodeId(u32::try_from(server.backend_id()).unwrap_or_default());
    Node {
        data_directory: server.data_directory().display().to_string(),
        ..Node::new(id, server.address().to_string(), server.port())
    }
}

fn settings(cluster: &Cluster) -> ProberSettings {
    let password = Password::new(cluster.monitor_password().to_owned());
    ProberSettings::new("repmgr".into(), Some(password), "repmgr".into(), Duration::from_millis(500))
}

const fn answered(outcome: &ProbeOutcome) -> bool {
    matches!(outcome, ProbeOutcome::Answered(_))
}

const fn refused(outcome: &ProbeOutcome) -> bool {
    matches!(outcome, ProbeOutcome::Refused(_))
}

#[tokio::test]
async fn a_killed_primary_is_seen_within_milliseconds_and_not_at_the_next_tick() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let primary = cluster.primary().await?;
    let slow = ProberSettings { interval: Duration::from_secs(60), ..settings(&cluster) };
    let mut watch = Watch::of(slice::from_ref(&primary), slow);
    watch.until(answered).await?;
    let killed = Instant::now();
    primary.kill9().await?;
    let (probe, before) = watch.until(refused).await?;
    let took = probe.answered_at - killed;
    eprintln!("kill -9 to refused: {took:?}, before it {before:?}");
    ensure!(took < Duration::from_secs(1), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_primary_and_its_standby_report_where_they_are() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let (primary, standby) = (cluster.server(1)?, cluster.server(2)?);
    let report = Watch::of(slice::from_ref(&primary), settings(&cluster)).report(|_| true).await?;
    ensure!(report.timeline == TimelineId(1) && report.history.0.is_empty(), "{report:?}");
    ensure!(report.wal_receiver_timeout == Duration::from_secs(2), "{report:?}");
    let names: Vec<_> = report.repmgr_nodes.iter().map(|node| (node.node_id, node.host.clone())).collect();
    ensure!(names == [(1, primary.address().to_string()), (2, standby.address().to_string())], "{report:?}");
    let Position::Primary { insert, flush, senders } = &report.position else { bail!("{report:?}") };
    ensure!(insert >= flush && flush.0 > 0, "{report:?}");
    ensure!(senders.len() == 1 && senders[0].application_name == "pg02", "{report:?}");

    let below = Watch::of(slice::from_ref(&standby), settings(&cluster)).report(|_| true).await?;
    ensure!(below.system_identifier == report.system_identifier, "{below:?}");
    let Position::Standby { replay: Some(_), replay_paused: false, receiver: Some(receiver), .. } =
        &below.position
    else {
        bail!("{below:?}")
    };
    ensure!(receiver.status == "streaming" && receiver.timeline == TimelineId(1), "{receiver:?}");
    ensure!(receiver.sender_host == primary.address().to_string(), "{receiver:?}");
    ensure!(receiver.last_message_age < Duration::from_secs(10), "{receiver:?}");
    Ok(())
}

#[tokio::test]
async fn a_promotion_is_seen_with_its_new_timeline_and_history() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let standby = cluster.server(2)?;
    let mut watch = Watch::of(slice::from_ref(&standby), settings(&cluster));
    let before = watch.report(|_| true).await?;
    cluster.server(1)?.stop_clean().await?;
    standby.query("SELECT pg_promote()").await?;
    let after = watch.report(Report::is_writable).await?;
    ensure!(after.timeline == TimelineId(2), "{after:?}");
    ensure!(after.history.0.len() == 1 && after.history.0[0].timeline == TimelineId(1), "{after:?}");
    ensure!(after.history.0[0].switch_point >= before.furthest(), "{before:?} {after:?}");
    ensure!(after.started_at == before.started_at, "no restart: {before:?} {after:?}");
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_times_out_and_answers_again_when_it_goes_on() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.primary().await?;
    let mut watch = Watch::of(slice::from_ref(&server), settings(&cluster));
    watch.until(answered).await?;
    server.freeze().await?;
    let (probe, before) = watch.until(|outcome| *outcome == ProbeOutcome::TimedOut).await?;
    ensure!(before.iter().all(answered), "{before:?}");
    ensure!(probe.answered_at - probe.asked_at < Duration::from_millis(1500), "{probe:?}");
    server.thaw().await?;
    let (_, before) = watch.until(answered).await?;
    ensure!(before.iter().all(|outcome| *outcome == ProbeOutcome::TimedOut), "{before:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_starts_up_is_not_taken_for_dead() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let standby = cluster.server(2)?;
    standby.stop_clean().await?;
    // Without hot standby it stays in recovery for good, and says 57P03 all the time.
    let mut conf = OpenOptions::new().append(true).open(standby.directory().join("server.conf"))?;
    writeln!(conf, "hot_standby = off")?;
    standby.launch().await?;
    let mut watch = Watch::of(&[standby], settings(&cluster));
    let (_, before) = watch.until(|outcome| *outcome == ProbeOutcome::StartingUp).await?;
    ensure!(before.iter().all(refused), "{before:?}");
    Ok(())
}

#[tokio::test]
async fn a_clean_stop_shows_as_shutting_down_until_nobody_listens() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.primary().await?;
    let mut watch = Watch::of(slice::from_ref(&server), settings(&cluster));
    watch.until(answered).await?;
    server.stop_clean().await?;
    let (_, before) = watch.until(refused).await?;
    let expected = |outcome: &ProbeOutcome| answered(outcome) || *outcome == ProbeOutcome::ShuttingDown;
    ensure!(before.iter().all(expected), "{before:?}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_database_mean_alive_but_unwilling() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let servers = [cluster.primary().await?];
    let right = settings(&cluster);
    let wrong = Some(Password::new("wrong".to_owned()));
    for (settings, expected) in [
        (ProberSettings { password: wrong, ..right.clone() }, "28P01"),
        (ProberSettings { password: None, ..right.clone() }, "28000"),
        (ProberSettings { database: "nowhere".to_owned(), ..right.clone() }, "3D000"),
    ] {
        let probe = Watch::of(&servers, settings).next().await?;
        let ProbeOutcome::Unwilling { sqlstate, .. } = &probe.outcome else { bail!("{probe:?}") };
        ensure!(sqlstate == expected, "{probe:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_server_that_is_down() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let (sender, mut probes) = mpsc::channel(1);
    let nowhere = Node { host: "pg99.invalid".to_owned(), ..node(&cluster.primary().await?) };
    let patient = ProberSettings { timeout: PATIENCE, ..settings(&cluster) };
    let _prober = Prober::start(
        &[nowhere],
        &Arc::new(patient),
        (&sender, &Samples::default()),
        &CancellationToken::new(),
    );
    let probe = timeout(PATIENCE, probes.recv()).await?.context("the prober ended")?;
    ensure!(refused(&probe.outcome), "{probe:?}");
    Ok(())
}

#[tokio::test]
async fn positions_are_asked_for_between_two_probes_if_somebody_wants_them() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let (primary, standby) = (cluster.server(1)?, cluster.server(2)?);
    let slow = ProberSettings { interval: Duration::from_secs(60), ..settings(&cluster) };
    let mut watch = Watch::of(&[primary.clone(), standby.clone()], slow);
    for _ in 0..2 {
        watch.until(answered).await?;
    }
    let begin = Instant::now();
    primary.query("CREATE TABLE written AS SELECT generate_series(1, 1000) AS n").await?;
    let written: Lsn = primary.scalar("SELECT pg_current_wal_flush_lsn()").await?.parse()?;
    standby.wait_replayed(&written.to_string()).await?;
    let mut found = watch.samples.found();
    let wanted = node(&primary).id;
    while found.borrow_and_update().len() < 2 {
        watch.samples.demand();
        timeout(PATIENCE, found.changed()).await??;
    }
    for (node, sample) in &*found.borrow() {
        ensure!(sample.asked.is_primary == (*node == wanted), "{found:?}");
        ensure!(sample.lsn >= written && sample.asked_at > begin && sample.asked.timeline == TimelineId(1));
    }
    ensure!(begin.elapsed() < PATIENCE && watch.probes.is_empty(), "a probe has come");
    Ok(())
}

#[tokio::test]
async fn a_demand_and_a_shorter_interval_take_effect_at_once() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let slow = ProberSettings { interval: Duration::from_secs(60), ..settings(&cluster) };
    let mut watch = Watch::of(&[cluster.primary().await?], slow);
    watch.until(answered).await?;
    let begin = Instant::now();
    watch.prober.demand(NodeId(0));
    watch.until(answered).await?;
    watch.prober.set_interval(NodeId(0), Duration::from_millis(50));
    for _ in 0..5 {
        watch.until(answered).await?;
    }
    ensure!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_server_whose_new_logins_hang_is_not_healthy_although_old_connections_work() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.primary().await?;
    let often = ProberSettings { login_interval: Duration::from_millis(100), ..settings(&cluster) };
    let mut watch = Watch::of(slice::from_ref(&server), often);
    watch.until(answered).await?;
    // The postmaster alone: backends that run go on, new ones are not made.
    let postmaster = server.postmaster_pid().context("it does not run")?;
    signal(postmaster, "STOP")?;
    let seen = watch.until(|outcome| *outcome == ProbeOutcome::TimedOut).await;
    signal(postmaster, "CONT")?;
    seen?;
    watch.until(answered).await?;
    Ok(())
}

/// It can be asked all the same: a server that seemed silent would be given up.
#[tokio::test]
async fn whoever_has_locked_repmgrs_table_is_not_waited_for() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let primary = cluster.primary().await?;
    let mut watch = Watch::of(slice::from_ref(&primary), settings(&cluster));
    let known = watch.report(|report| !report.repmgr_nodes.is_empty()).await?;
    let locker = primary.connect("repmgr", "repmgr").await?;
    locker.batch_execute("BEGIN; LOCK TABLE repmgr.nodes IN ACCESS EXCLUSIVE MODE").await?;
    let locked = Instant::now();
    for _ in 0..4 {
        let (probe, before) = watch.until(answered).await?;
        ensure!(before.is_empty(), "{before:?}");
        let ProbeOutcome::Answered(report) = probe.outcome else { bail!("not an answer") };
        ensure!(report.repmgr_nodes == known.repmgr_nodes, "what was known counts: {report:?}");
    }
    ensure!(locked.elapsed() > Duration::from_secs(1), "it was locked all the time");
    // One that has not read it before.
    let (probe, before) = Watch::of(slice::from_ref(&primary), settings(&cluster)).until(answered).await?;
    ensure!(before.is_empty(), "{probe:?} after {before:?}");
    locker.batch_execute("INSERT INTO repmgr.nodes VALUES (9, 1, true, 'odd', 'bdr', 'x', 1, 'host=x', 'r', '', '/x'); COMMIT").await?;
    let inserted = Instant::now();
    loop {
        let probe = watch.next().await?;
        let ProbeOutcome::Answered(report) = probe.outcome else { bail!("{:?}", probe.outcome) };
        ensure!(report.repmgr_nodes == known.repmgr_nodes, "it is of another kind: {report:?}");
        if probe.asked_at > inserted {
            return Ok(());
        }
    }
}

fn signal(pid: u32, name: &str) -> Result<()> {
    let status = std::process::Command::new("kill").args([format!("-{name}"), pid.to_string()]).status()?;
    ensure!(status.success(), "kill -{name} {pid}: {status}");
    Ok(())
}
