//! Custom parameters: what a session sets is its own, and to others they are as if nobody had ever set them.

use pgherd_testkit::client::RawClient;
use pgherd_testkit::{PgherdBuilder, Result, ensure};

use crate::front::{Front, PATIENCE, execute, extended, says};

const SEEN: &str = "SELECT coalesce(current_setting('app.x', true), 'NULL')";

async fn front(settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder) -> Result<Front> {
    let front = Front::with(|pgherd| settings(pgherd.set("pool.size", 1).set("pool.pinned_size", 1))).await?;
    let functions = "CREATE FUNCTION sets() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.x', 'f', true) $$;
        CREATE FUNCTION has() RETURNS text LANGUAGE sql SET app.x = 'g' AS $$ SELECT current_setting('app.x') $$";
    front.server()?.query_in("app", functions).await?;
    Ok(front)
}

/// What leaves a custom parameter on a connection.
const SETS: &[&str] = &[
    "SET app.x = '1'",
    "SET LOCAL app.x = '1'",
    "BEGIN; SET LOCAL app.x = '1'; COMMIT",
    "BEGIN; SET app.x = '1'; ROLLBACK",
    "SELECT set_config('app.x', '1', true)",
    "SELECT set_config('App.X', '1', false)",
    "SET \"app.x\" = '1'; RESET app.x",
    "SET app.x = '1'; RESET ALL",
    "SELECT set_config('app.' || 'x', '1', true)",
    "SELECT set_config('app.' || 'x', '1', false)",
    "DO $$ BEGIN PERFORM set_config('app.x', '1', true); END $$",
    "PREPARE p AS SELECT set_config('app.x', $1, true); EXECUTE p('1')",
    "SELECT sets()",
    "SELECT has()",
];

#[tokio::test]
async fn a_custom_parameter_that_one_session_sets_is_not_there_for_others() -> Result<()> {
    let mut wrong = Vec::new();
    for mode in ["transaction", "session"] {
        let front = front(|pgherd| pgherd.set("pool.mode", mode).set("log.level", "debug")).await?;
        says(&mut front.raw().await?, "SELECT 1").await?;
        front.pgherd.wait_log("the catalogue was read", PATIENCE).await?;
        let mut told = async |what: &str, client: &mut RawClient| -> Result<()> {
            let seen = says(client, SEEN).await?;
            if seen != "NULL" {
                wrong.push(format!("{mode}, {what}: {seen}"));
            }
            Ok(())
        };
        for set in SETS {
            let mut one = front.raw().await?;
            says(&mut one, set).await?;
            if mode == "transaction" {
                told(&format!("{set}, beside it"), &mut front.raw().await?).await?;
                says(&mut one, "DISCARD ALL").await?;
                told(&format!("{set}, DISCARD ALL"), &mut front.raw().await?).await?;
            }
            drop(one);
            told(&format!("{set}, then"), &mut front.raw().await?).await?;
        }
        for statement in ["", "named"] {
            let mut one = front.raw().await?;
            one.send(&extended(statement, "SELECT set_config('app.x', $1, true)", &["1"])?).await?;
            ensure!(one.read_answer().await?.error().is_none());
            drop(one);
            told(&format!("extended {statement}"), &mut front.raw().await?).await?;
        }
        let [_, address] = front.both()?;
        let mut one = front.login(address, &[("options", "-c app.x=1")]).await?;
        ensure!(says(&mut one, SEEN).await? == "1");
        drop(one);
        told("startup packet", &mut front.raw().await?).await?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The server processes that three clients meet which set the same parameter in each transaction, round by round.
async fn rounds(front: &Front) -> Result<Vec<Vec<String>>> {
    let local = "SELECT pg_backend_pid()::text, set_config('app.x', $1, true)";
    let mut clients = vec![front.raw().await?, front.raw().await?, front.raw().await?];
    let mut rounds = Vec::new();
    for round in 0..3 {
        let mut pids = Vec::new();
        for client in &mut clients {
            let message = if round == 0 { extended("s", local, &["1"])? } else { execute("s", &["1"])? };
            client.send(&message).await?;
            let answer = client.read_answer().await?;
            ensure!(answer.error().is_none(), "{answer:?}");
            pids.push(answer.value().unwrap_or_default());
        }
        pids.dedup();
        rounds.push(pids);
    }
    Ok(rounds)
}

#[tokio::test]
async fn those_who_set_the_same_share_connections() -> Result<()> {
    let first = front(|pgherd| pgherd).await?;
    let pids = rounds(&first).await?;
    ensure!(pids[0].len() == 3 && pids[1].len() == 1 && pids[1] == pids[2], "{pids:?}");

    let all = front(|pgherd| pgherd.set("pool.custom_parameters", "app.X")).await?;
    let pids = rounds(&all).await?;
    ensure!(pids.iter().all(|round| round.len() == 1 && *round == pids[0]), "{pids:?}");
    ensure!(says(&mut all.raw().await?, SEEN).await?.is_empty(), "empty, as after a transaction of its own");
    Ok(())
}

#[tokio::test]
async fn what_is_meant_for_pgherd_keeps_no_connection_from_others() -> Result<()> {
    let front = front(|pgherd| pgherd).await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    let pid = says(&mut one, "SELECT pg_backend_pid()").await?;
    for set in ["SET pgherd.consistency = 'eventual'", "BEGIN; SET LOCAL pgherd.reads = 'primary'; COMMIT"] {
        says(&mut one, set).await?;
        ensure!(says(&mut other, "SELECT pg_backend_pid()").await? == pid, "{set}");
        let seen = "SELECT coalesce(current_setting('pgherd.consistency', true), '')";
        ensure!(says(&mut other, seen).await?.is_empty() && says(&mut one, seen).await? == "eventual");
    }
    Ok(())
}

#[tokio::test]
async fn a_custom_parameter_is_carried_and_pins_nobody() -> Result<()> {
    let front = front(|pgherd| pgherd.set("pool.pinned_size", 0)).await?;
    let [_, pgherd] = front.both()?;
    for script in [
        &["SET app.x = 'mine'"][..],
        &["BEGIN", "SET app.x = 'mine'", "ROLLBACK"],
        &["SET app.x = 'mine'", "BEGIN", "SET LOCAL app.x = 'now'", "COMMIT"],
        &["SET app.x = 'mine'", "BEGIN", "SAVEPOINT a", "SET app.x = 'more'", "ROLLBACK TO a", "COMMIT"],
        &["SELECT set_config('app.x', 'it''s \\', false)"],
        &["SET app.x = 'mine'", "RESET app.x"],
        &["SET app.x = 'mine'", "SET app.x TO DEFAULT", "SET app.y = 1"],
        &["SET app.x = 'mine'", "RESET ALL"],
        &["SET app.x = 'mine'", "DISCARD ALL"],
        &["SET app.x = 'mine'; SELECT 1/0"],
    ] {
        for startup in [&[][..], &[("options", "-c app.x=login")]] {
            let other = front.raw().await?;
            let other = tokio::sync::Mutex::new(other);
            let what = format!("{script:?} {startup:?}");
            front
                .same(&what, async |address| {
                    let mut client = front.login(address, startup).await?;
                    let mut seen = Vec::new();
                    for sql in script.iter().chain(&[SEEN, SEEN]) {
                        let answer = client.query(sql).await?;
                        seen.push(answer.rows());
                        if address == pgherd && answer.transaction_state() == Some('I') {
                            let mut other = other.lock().await;
                            says(&mut other, "SET app.x = 'other'").await?;
                            ensure!(says(&mut other, SEEN).await? == "other");
                        }
                    }
                    Ok(seen)
                })
                .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_parameter_keeps_its_value_beside_others_whose_names_are_not_known() -> Result<()> {
    let front = front(|pgherd| pgherd.set("pool.pinned_size", 3)).await?;
    let many: Vec<_> = (0..140).map(|n| format!("SET LOCAL app.n{n} = 1")).collect();
    let many = format!("BEGIN; {}; COMMIT", many.join("; "));
    for hidden in ["SELECT set_config('app.' || 'y', '1', true)", &many] {
        let mut clients = vec![front.raw().await?, front.raw().await?, front.raw().await?];
        for client in &mut clients {
            says(client, hidden).await?;
            says(client, "DISCARD ALL").await?;
        }
        for round in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                let seen = says(client, SEEN).await?;
                let own = if round == 0 { String::new() } else { format!("{number}") };
                ensure!(
                    seen == own || (round == 0 && seen == "NULL"),
                    "{hidden}: {number} sees {seen} in {round}"
                );
                says(client, &format!("SET app.x = '{number}'")).await?;
            }
        }
    }
    Ok(())
}
