//! How many server connections there are, and who gets them.

use std::time::{Duration, Instant};

use pgherd_testkit::client::RawClient;
use pgherd_testkit::{PgherdBuilder, Result, anyhow, ensure, eventually};
use tokio::task::JoinSet;
use toml::{Table, Value};

use crate::front::{Front, PATIENCE};

const OURS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('app', 'legacy') \
                    AND backend_type = 'client backend'";

fn overriding(pgherd: PgherdBuilder, tables: &[Table]) -> PgherdBuilder {
    pgherd.set("pool.override", tables.iter().cloned().map(Value::Table).collect::<Vec<_>>())
}

async fn login(front: &Front, user: &str, database: &str) -> Result<RawClient> {
    RawClient::login(front.pgherd.address(), user, database, front.password(user)).await
}

async fn count(front: &Front) -> Result<usize> {
    Ok(front.server()?.scalar(OURS).await?.parse()?)
}

async fn wait_for(front: &Front, connections: usize) -> Result<()> {
    eventually(format!("{connections} server connections"), PATIENCE, || async {
        Ok((count(front).await? == connections).then_some(()))
    })
    .await
}

/// Has so many clients of each user and database run `sql` at once; the most server connections at one moment.
async fn burst(front: &Front, of: &[(&str, &str)], clients: usize, sql: &'static str) -> Result<usize> {
    let (mut all, mut asking) = (Vec::new(), JoinSet::new());
    for (user, database) in of {
        for _ in 0..clients {
            all.push(login(front, user, database).await?);
        }
    }
    for mut client in all {
        asking.spawn(async move {
            let answer = client.query(sql).await?;
            ensure!(answer.error().is_none(), "{:?}", answer.error());
            Result::Ok(client)
        });
    }
    let mut most = 0;
    while !asking.is_empty() {
        most = most.max(count(front).await?);
        while let Some(done) = asking.try_join_next() {
            done??;
        }
    }
    Ok(most)
}

#[tokio::test]
async fn a_pool_keeps_its_least_size_open_and_replaces_what_it_loses() -> Result<()> {
    let least = toml::toml! {
        database = "app"
        user = "app"
        min_pool_size = 3
    };
    let front = Front::with(|pgherd| {
        overriding(pgherd, &[least]).set("pool.size", 4).set("pool.server_idle_timeout", "100ms")
    })
    .await?;
    // There is no key to log in with before.
    let mut client = front.raw().await?;
    wait_for(&front, 3).await?;
    drop(login(&front, "legacy", "app").await?);
    ensure!(burst(&front, &[("app", "app")], 4, "SELECT pg_sleep(0.5)").await? >= 4);
    wait_for(&front, 3).await?;
    front
        .server()?
        .query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        .await?;
    wait_for(&front, 3).await?;
    ensure!(client.query("SELECT 1").await?.error().is_none());
    Ok(())
}

#[tokio::test]
async fn who_has_waited_for_long_gets_a_connection_of_the_reserve() -> Result<()> {
    let front = Front::with(|pgherd| {
        pgherd
            .set("pool.size", 1)
            .set("pool.reserve_pool_size", 1)
            .set("pool.reserve_pool_timeout", "1s")
            .set("pool.query_wait_timeout", "3s")
    })
    .await?;
    let (mut one, mut two, mut three) = (front.raw().await?, front.raw().await?, front.raw().await?);
    one.query("BEGIN").await?;
    let asked = Instant::now();
    ensure!(two.query("BEGIN").await?.error().is_none());
    ensure!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
    let refused = three.query("SELECT 1").await?;
    ensure!(refused.error().is_some_and(|error| error.code() == "53300"), "{refused:?}");
    for client in [&mut one, &mut two] {
        client.query("COMMIT").await?;
    }
    ensure!(three.query("SELECT 1").await?.error().is_none());
    // What was beyond the size goes away as soon as nobody needs it.
    wait_for(&front, 1).await
}

#[tokio::test]
async fn the_pools_of_a_database_have_no_more_connections_together_than_they_may_and_none_starves()
-> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 10).set("pool.max_db_connections", 3)).await?;
    // Several at once, none of whom finds the others' connections open already.
    let most = burst(&front, &[("app", "app")], 15, "SELECT pg_sleep(0.3)").await?;
    ensure!(most == 3, "{most}");
    // All of them are idle: one is closed for another user.
    let (mut app, mut legacy) = (front.raw().await?, login(&front, "legacy", "app").await?);
    let asked = Instant::now();
    ensure!(legacy.query("SELECT 1").await?.error().is_none());
    ensure!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    wait_for(&front, 3).await?;
    // None is ever idle: one that comes back is closed for who has waited for longer.
    let mut busy: JoinSet<Result<()>> = JoinSet::new();
    for _ in 0..10 {
        let mut client = front.raw().await?;
        busy.spawn(async move {
            loop {
                let answer = client.query("SELECT pg_sleep(0.02)").await?;
                ensure!(answer.error().is_none(), "{:?}", answer.error());
            }
        });
    }
    for _ in 0..5 {
        let asked = Instant::now();
        ensure!(legacy.query("SELECT 1").await?.error().is_none());
        ensure!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        ensure!(app.query("SELECT 1").await?.error().is_none());
    }
    ensure!(busy.try_join_next().is_none(), "all go on");
    // In transactions nothing can be taken from anybody: who is too many waits, and the server is not taken for dead.
    busy.shutdown().await;
    let mut holders = Vec::new();
    for _ in 0..3 {
        let mut holder = front.raw().await?;
        ensure!(holder.query("BEGIN").await?.error().is_none());
        holders.push(holder);
    }
    let waiting = tokio::spawn(async move { legacy.query("SELECT 1").await });
    front.wait_waiting(1).await?;
    holders.pop();
    ensure!(waiting.await??.error().is_none());
    ensure!(
        !front.pgherd.log().iter().any(|line| line.contains("writes are held")),
        "{:?}",
        front.pgherd.log()
    );
    Ok(())
}

#[tokio::test]
async fn a_user_has_no_more_connections_in_all_databases_than_it_may() -> Result<()> {
    let few = toml::toml! {
        user = "app"
        max_user_connections = 2
    };
    let front = Front::with(|pgherd| overriding(pgherd, &[few])).await?;
    let most = burst(&front, &[("app", "app")], 6, "SELECT pg_sleep(0.3)").await?;
    ensure!(most == 2, "{most}");
    // In other databases, too; the others' pools are as large as they like.
    burst(&front, &[("app", "app"), ("app", "postgres")], 4, "SELECT pg_sleep(0.1)").await?;
    eventually("no more than two server connections", PATIENCE, || async {
        // Fewer, where one was given up for the other pool when nobody waited there any more.
        Ok((count(&front).await? <= 2).then_some(()))
    })
    .await?;
    let most = burst(&front, &[("legacy", "app")], 6, "SELECT pg_sleep(1)").await?;
    ensure!(most >= 6, "{most}");
    Ok(())
}

#[tokio::test]
async fn server_connections_can_be_lent_in_turn() -> Result<()> {
    for (round_robin, expected) in [(false, 1), (true, 3)] {
        let front = Front::with(|pgherd| {
            let pgherd = pgherd.set("pool.size", 3).set("runtime.workers", 1).set("log.level", "debug");
            pgherd.set("pool.server_round_robin", round_robin)
        })
        .await?;
        front.raw().await?.query("SELECT 1").await?;
        // Before that, what functions have set is not known, and another connection is taken rather than the one that ran them.
        front.pgherd.wait_log("the catalogue was read", PATIENCE).await?;
        burst(&front, &[("app", "app")], 3, "SELECT pg_sleep(0.5)").await?;
        let mut client = front.raw().await?;
        let mut seen = std::collections::HashSet::new();
        for _ in 0..9 {
            let rows = client.query("SELECT pg_backend_pid()").await?.rows();
            seen.insert(rows.into_iter().flatten().next().flatten());
        }
        ensure!(seen.len() == expected, "{round_robin}: {seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_down_is_tried_now_and_then_and_not_by_each_client_that_waits() -> Result<()> {
    let front = Front::with(|pgherd| {
        // The server that is down stays the one that is tried.
        pgherd.set("log.level", "debug").set("monitor.interval", "1min").set("monitor.timeout", "30s")
    })
    .await?;
    let mut clients = JoinSet::new();
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(login(&front, "legacy", "app").await?);
    }
    front.server()?.stop_immediate().await?;
    for mut client in all {
        clients.spawn(async move { client.query("SELECT 1").await });
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let tried = front.pgherd.log().iter().filter(|line| line.contains("cannot open a connection")).count();
    ensure!(tried < 100, "{tried} attempts in two seconds");
    front.server()?.start().await?;
    while let Some(answer) = clients.join_next().await {
        let answer = answer??;
        ensure!(answer.error().is_none(), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_thousand_clients_of_five_connections_are_all_served_in_turn() -> Result<()> {
    const CLIENTS: usize = 1000;
    let front = Front::with(|pgherd| pgherd.set("pool.size", 5)).await?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(login(&front, "legacy", "app").await?);
    }
    let before = front.resident()?;
    let begun = Instant::now();
    let mut asking: JoinSet<Result<(RawClient, Duration)>> = JoinSet::new();
    for mut client in clients {
        asking.spawn(async move {
            let mut longest = Duration::ZERO;
            for _ in 0..3 {
                let asked = Instant::now();
                let answer = client.query("SELECT pg_sleep(0.002)").await?;
                ensure!(answer.error().is_none(), "{:?}", answer.error());
                longest = longest.max(asked.elapsed());
            }
            Ok((client, longest))
        });
    }
    let (mut clients, mut longest) = (Vec::new(), Duration::ZERO);
    while let Some(done) = asking.join_next().await {
        let (client, waited) = done??;
        clients.push(client);
        longest = longest.max(waited);
    }
    let (took, grown) = (begun.elapsed(), front.resident()?.saturating_sub(before));
    eprintln!(
        "3 statements of {CLIENTS} clients over 5 connections: {took:?}, the longest wait {longest:?}, {grown} KiB more"
    );
    // In turn, each waits for about a third of the whole time.
    ensure!(longest < took * 2 / 3 + Duration::from_secs(1), "{longest:?} of {took:?}");
    ensure!(count(&front).await? <= 5);
    ensure!(grown < 32 * 1024, "{grown} KiB");
    ensure!(clients.len() == CLIENTS);
    Ok(())
}

#[tokio::test]
async fn what_does_not_fit_in_a_pinned_pool_is_told_why() -> Result<()> {
    let front = Front::with(|pgherd| {
        pgherd.set("pool.size", 1).set("pool.pinned_size", 1).set("pool.query_wait_timeout", "1s")
    })
    .await?;
    let (mut one, mut two, mut three) = (front.raw().await?, front.raw().await?, front.raw().await?);
    one.query("SELECT pg_advisory_lock(1)").await?;
    two.query("CREATE TEMP TABLE mine ()").await?;
    let answer = three.query("SELECT 1").await?;
    let error = answer.error().ok_or_else(|| anyhow!("{answer:?}"))?;
    let detail = error.field(b'D').unwrap_or_default();
    ensure!(error.code() == "53300", "{error}");
    for part in [
        "database \"app\" and user \"app\"",
        "a session-level advisory lock (1)",
        "a temporary object (1)",
        "pool.pinned_size",
    ] {
        ensure!(detail.contains(part), "{detail}");
    }
    Ok(())
}

#[tokio::test]
async fn a_database_and_a_user_have_no_more_clients_than_they_may() -> Result<()> {
    let user = toml::toml! {
        user = "legacy"
        max_user_client_connections = 2
    };
    let front =
        Front::with(|pgherd| overriding(pgherd, &[user]).set("pool.max_db_client_connections", 4)).await?;
    let refused = async |user: &str, database: &str| match login(&front, user, database).await {
        Ok(_) => Err(anyhow!("{user} was let in to {database}")),
        Err(error) => Ok(format!("{error:#}")),
    };
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(login(&front, "legacy", "app").await?);
    }
    let told = refused("legacy", "postgres").await?;
    ensure!(told.contains("too many connections for role \"legacy\""), "{told}");
    for _ in 0..2 {
        clients.push(front.raw().await?);
    }
    let told = refused("app", "app").await?;
    ensure!(told.contains("too many connections for database \"app\""), "{told}");
    // Who leaves makes room.
    clients.clear();
    eventually("room for another", PATIENCE, || async { Ok(login(&front, "legacy", "app").await.ok()) })
        .await?;
    Ok(())
}
