//! An empty server of another cluster in the place of one that is known: its volume was lost, and a new one was made.

use pgherd_testkit::{Cluster, Context, Result, Server, ensure};

use crate::herd::{Herd, PATIENCE};

/// A server of another cluster, with nothing in it.
async fn empty() -> Result<Cluster> {
    Cluster::builder().servers(1).template_cache(false).start().await
}

/// Nobody has made a table there.
async fn is_untouched(server: &Server) -> Result<bool> {
    let tables = server.query_in("app", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await?;
    Ok(tables.first().and_then(|row| row.get(0)) == Some("0"))
}

#[tokio::test]
async fn an_empty_server_in_the_place_of_a_standby_is_neither_read_nor_promoted() -> Result<()> {
    let herd = Herd::start().await?;
    let [one, two, three] = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    let empty = empty().await?;
    three.stop_clean().await?;
    three.become_copy_of(&empty.server(1)?).await?;
    three.start().await?;
    herd.pgherd.wait_log("belongs to another cluster", PATIENCE).await?;
    herd.wait_readable("1").await?;
    herd.wait_writable().await?;

    let mut client = herd.raw().await?;
    one.kill9_all().await?;
    let answer = client.query("INSERT INTO probe DEFAULT VALUES").await?;
    ensure!(answer.error().is_none(), "{answer:?}\n{}", herd.log());
    ensure!(!two.is_in_recovery().await? && two.timeline().await? == 2, "{}", herd.log());
    ensure!(is_untouched(&three).await?);
    Ok(())
}

#[tokio::test]
async fn an_empty_server_in_the_place_of_the_primary_is_not_served() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    // The primary is waited for, and comes back as another.
    let graces = [("failover.restart_grace", "20s"), ("failover.cold_grace", "1s")];
    let herd = Herd::of(cluster, |pgherd| graces.iter().fold(pgherd, |it, (key, grace)| it.set(key, *grace)))
        .await?;
    let [one, two, three] = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    let empty = empty().await?;
    let mut client = herd.raw().await?;
    one.kill9_all().await?;
    herd.pgherd.wait_log("to=Suspect", PATIENCE).await?;
    one.become_copy_of(&empty.server(1)?).await?;
    one.start().await?;
    let answer = client.query("INSERT INTO probe DEFAULT VALUES").await?;
    ensure!(answer.error().is_none(), "{answer:?}\n{}", herd.log());
    ensure!(is_untouched(&one).await? && one.timeline().await? == 1, "nothing was done there");
    let leads = [two.is_in_recovery().await?, three.is_in_recovery().await?];
    ensure!(leads.iter().filter(|standby| !**standby).count() == 1, "{}", herd.log());
    herd.pgherd.wait_log("belongs to another cluster", PATIENCE).await?;
    let (new, other) = if leads[0] { (&three, &two) } else { (&two, &three) };
    herd.wait_led_by(new, &[other]).await.with_context(|| herd.log())
}

#[tokio::test]
async fn an_operator_says_which_cluster_is_the_right_one_and_no_restart_is_needed() -> Result<()> {
    let mut herd = Herd::start().await?;
    herd.wait_writable().await?;
    let one = herd.cluster.server(1)?;
    let rows = one.query("SELECT system_identifier::text FROM pg_control_system()").await?;
    let right = rows.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned();
    let wrong = (right.parse::<u64>()? - 1).to_string();
    herd.pgherd.set("monitor.system_identifier", wrong)?;
    herd.pgherd.reload().await?;
    herd.pgherd.wait_log(&format!("belongs to another cluster ({right})"), PATIENCE).await?;
    herd.pgherd.wait_log("writes wait", PATIENCE).await?;
    herd.pgherd.set("monitor.system_identifier", right)?;
    herd.pgherd.reload().await?;
    herd.wait_writable().await?;
    ensure!(one.timeline().await? == 1, "nobody was promoted");
    Ok(())
}
