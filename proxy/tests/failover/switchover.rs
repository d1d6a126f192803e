//! Another primary is ordered under load: no client meets an error, and no row is lost.

use std::time::{Duration, Instant};

use pgherd_testkit::client::{Answer, ErrorFields};
use pgherd_testkit::{Cluster, Context, Result, Server, ensure, eventually};

use crate::herd::{Herd, PATIENCE, number_in, timeline};

/// How often the primary is changed: `PGHERD_SWITCHOVERS`, or a few times.
fn times() -> Result<usize> {
    number_in("PGHERD_SWITCHOVERS", 3)
}

fn told(answer: &Answer) -> String {
    let done = || {
        let rows = answer.rows();
        let text = rows.first()?.first()?.as_ref()?;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    answer.error().map(|it| it.message().to_owned()).or_else(done).unwrap_or_default()
}

/// Makes `to` the primary under load; how long no write was acknowledged, at worst.
async fn switch_over(herd: &Herd, to: &Server, pause: Duration) -> Result<Duration> {
    let running = herd.workload().await?.clients(16).pause(pause).start().await?;
    running.wait_acknowledged(200, PATIENCE).await?;
    let moment = Instant::now();
    let answer = eventually("nothing else is under way", PATIENCE, || async {
        let answer = herd.console().await?.query(&format!("SWITCHOVER {}", to.backend_id())).await?;
        Ok((!told(&answer).contains("not now")).then_some(answer))
    })
    .await?;
    ensure!(answer.command().as_deref() == Some("SWITCHOVER"), "{answer:?}\n{}", herd.log());
    ensure!(told(&answer).contains("is the primary; transactions waited for"), "{answer:?}");
    running.wait_acknowledged(200, PATIENCE).await?;
    let report = herd.compare(&running.stop().await?).await?;
    let outage = report.write_outage(moment).context("no write was acknowledged afterwards")?;
    eprintln!("{}: {outage:?}; {}", to.name(), told(&answer));
    ensure!(herd.cluster.primary().await?.id() == to.id(), "{}", herd.log());
    ensure!(report.connections_lost == 0 && report.sqlstates.is_empty(), "{report}\n{}", herd.log());
    ensure!(report.is_sound(), "{report}\n{}", herd.log());
    Ok(outage)
}

async fn each_in_turn(herd: Herd, pause: Duration) -> Result<()> {
    let mut idle = herd.raw().await?;
    idle.query("SELECT 1").await?;
    let mut outages = Vec::new();
    for id in [2, 3, 1].into_iter().cycle().take(times()?) {
        let to = herd.cluster.server(id)?;
        outages.push(switch_over(&herd, &to, pause).await?);
        // The old primary follows by itself.
        herd.cluster.wait_healthy().await.with_context(|| herd.log())?;
        herd.wait_all_led_by(&to).await?;
    }
    outages.sort();
    let worst = outages.last().copied().unwrap_or_default();
    eprintln!("{} switchovers: {outages:?}", outages.len());
    ensure!(worst <= Duration::from_secs(2), "{outages:?}");
    let answer = idle.query("INSERT INTO probe DEFAULT VALUES").await?;
    ensure!(answer.error().is_none(), "a client that slept through all of it: {answer:?}");
    Ok(())
}

/// Between two writes of one client.
const PAUSE: Duration = Duration::from_millis(5);

#[tokio::test]
async fn no_client_notices_a_switchover_under_load() -> Result<()> {
    each_in_turn(Herd::start().await?, PAUSE).await
}

#[tokio::test]
async fn no_client_notices_a_switchover_with_synchronous_replication() -> Result<()> {
    let cluster = Cluster::builder().synchronous(1).start().await?;
    each_in_turn(Herd::of(cluster, |pgherd| pgherd).await?, PAUSE).await
}

/// Whoever waits for another's connection then waits for the new primary.
#[tokio::test]
async fn no_client_notices_a_switchover_where_all_connections_are_in_use_all_the_time() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    each_in_turn(Herd::of(cluster, |pgherd| pgherd.set("pool.size", 4)).await?, Duration::ZERO).await
}

#[tokio::test]
async fn an_open_transaction_comes_to_its_end_first() -> Result<()> {
    let herd = Herd::start().await?;
    let mut client = herd.raw().await?;
    client.query("CREATE TABLE t (n int)").await?;
    client.query("BEGIN").await?;
    client.query("INSERT INTO t VALUES (1)").await?;
    let mut console = herd.console().await?;
    let mut late = herd.raw().await?;
    let ordered = console.query("SWITCHOVER");
    let work = async {
        herd.pgherd.wait_log("step=Quiesce", PATIENCE).await?;
        let insert = late.query("INSERT INTO t VALUES (3)");
        let rest = async {
            ensure!(client.query("INSERT INTO t VALUES (2)").await?.transaction_state() == Some('T'));
            client.query("COMMIT").await
        };
        let (late, ended) = tokio::join!(insert, rest);
        ensure!(ended?.command().as_deref() == Some("COMMIT"));
        late
    };
    let (answer, late) = tokio::join!(ordered, work);
    ensure!(answer?.error().is_none() && late?.error().is_none(), "{}", herd.log());
    ensure!(herd.cluster.primary().await?.id() != 1);
    let rows = client.query("SELECT n FROM t ORDER BY n").await?.rows();
    ensure!(rows.len() == 3, "{rows:?}");
    Ok(())
}

/// It ends with the old primary between two transactions, and never within one.
#[tokio::test]
async fn a_session_that_keeps_its_connection_and_never_rests_does_not_stand_in_the_way() -> Result<()> {
    for mode in ["transaction", "session"] {
        let cluster = Cluster::builder().start().await?;
        let herd = Herd::of(cluster, |pgherd| pgherd.set("pool.mode", mode)).await?;
        let mut busy = herd.raw().await?;
        busy.query("CREATE TEMPORARY TABLE mine (n int)").await?;
        let works = async {
            loop {
                let text = "BEGIN; INSERT INTO mine SELECT pg_sleep(0.002) IS NULL::int; COMMIT";
                match busy.query(text).await {
                    Ok(answer) if answer.error().is_none() => {}
                    Ok(answer) => return answer.error().map(|it| it.code().to_owned()),
                    Err(ended) => return ended.downcast_ref::<ErrorFields>().map(|it| it.code().to_owned()),
                }
            }
        };
        let works = tokio::time::timeout(PATIENCE, works);
        let orders = async {
            herd.pgherd.wait_log("writes are open", PATIENCE).await?;
            // Its first statements are looked up in the catalogue before they run.
            eventually(
                format!("the plan tells of the session that ends, in {mode} mode"),
                PATIENCE,
                || async {
                    let plan = herd.console().await?.query("EXPLAIN SWITCHOVER 1").await?.rows();
                    Ok(format!("{plan:?}").contains("sessions that end").then_some(()))
                },
            )
            .await?;
            herd.console().await?.query("SWITCHOVER 1").await
        };
        let (ended, answer) = tokio::join!(works, orders);
        let answer = answer?;
        ensure!(answer.error().is_none(), "{mode}: {answer:?}\n{}", herd.log());
        let ended = ended.with_context(|| herd.log())?;
        ensure!(ended.as_deref() == Some("57P01"), "{mode}: {ended:?}\n{}", herd.log());
        ensure!(herd.cluster.primary().await?.id() == 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_does_not_end_has_the_switchover_given_up() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd.set("failover.switchover_timeout", "1s")).await?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    let mut client = herd.raw().await?;
    client.query("BEGIN; SELECT count(*) FROM probe").await?;
    let mut console = herd.console().await?;
    let answer = console.query("SWITCHOVER 1").await?;
    let error = answer.error().context("it was done")?;
    ensure!(error.code() == "55000", "{error}");
    for words in ["nothing was changed", "user app, database app", "idle in transaction"] {
        ensure!(error.message().contains(words), "{error}");
    }
    running.wait_acknowledged(50, PATIENCE).await?;
    ensure!(client.query("COMMIT").await?.command().as_deref() == Some("COMMIT"));
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.sqlstates.is_empty() && report.connections_lost == 0 && report.is_sound(), "{report}");
    let primary = herd.cluster.server(1)?;
    ensure!(herd.cluster.primary().await?.id() == 1 && timeline(&primary).await? == "00000001");
    Ok(())
}

#[tokio::test]
async fn a_primary_that_was_stopped_by_a_pgherd_that_has_died_comes_back_by_itself() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let mut herd = Herd::of(cluster, |pgherd| pgherd.set("failover.cold_grace", "1s")).await?;
    let old = herd.cluster.server(1)?;
    let order = {
        let mut console = herd.console().await?;
        tokio::spawn(async move { console.query("SWITCHOVER").await.map(drop) })
    };
    let stopped = old.data_directory().join("pgherd.stopped");
    eventually("the primary is stopped", PATIENCE, || async { Ok(stopped.exists().then_some(())) }).await?;
    herd.pgherd.kill9().await?;
    order.await?.ok();
    // On a busy machine it may have come further than that.
    let left_down = !herd.log().contains("step=Rejoin");
    herd.pgherd.start().await?;
    herd.wait_writable().await?;
    let new = herd.cluster.primary().await?;
    ensure!(new.id() != 1, "{}", herd.log());
    herd.wait_all_led_by(&new).await.with_context(|| herd.log())?;
    ensure!(!left_down || herd.log().contains("server was shut down by a pgherd"), "{}", herd.log());
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_done_is_told_and_leaves_all_as_it_is() -> Result<()> {
    let herd = Herd::start().await?;
    let mut console = herd.console().await?;
    for (order, sqlstate, words) in [
        ("SWITCHOVER 0", "55000", "node 0 is the primary already"),
        ("SWITCHOVER 9", "42704", "there is no server \"9\""),
        ("SWITCHOVER pg09", "42704", "there is no server \"pg09\""),
    ] {
        let error = console.query(order).await?.error().context("it was done")?;
        ensure!(error.code() == sqlstate && error.message().contains(words), "{order}: {error}");
    }
    let standby = herd.cluster.server(2)?;
    standby.stop_clean().await?;
    herd.pgherd.wait_log("server refuses connections", PATIENCE).await?;
    let error = console.query("SWITCHOVER 1").await?.error().context("it was done")?;
    ensure!(error.message().contains("node 1 refuses connections"), "{error}");
    ensure!(!herd.log().contains("command begins"), "nothing was done to the servers");
    Ok(())
}
