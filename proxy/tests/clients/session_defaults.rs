//! Settings of the startup packet are the session's defaults: RESET and DISCARD ALL go back to them, as in PostgreSQL.

use pgherd_testkit::client::frontend;
use pgherd_testkit::{Result, ensure};

use crate::front::{Front, comparable, messages};

const SHOW: &str = "SELECT current_setting('search_path') || ' ' || current_setting('work_mem')";
const PARAMETERS: [(&str, &str); 2] = [("search_path", "mine"), ("options", "-c work_mem=7MB")];

/// What the client sees of its settings after these statements, sent all at once or one after the other.
async fn settings_after(front: &Front, mode: &str, statements: &[&str], at_once: bool) -> Result<()> {
    let what = format!("{mode} mode, {statements:?}, at once: {at_once}");
    front
        .same(&what, async |address| {
            let mut client = front.login(address, &PARAMETERS).await?;
            let mut seen = Vec::new();
            if at_once {
                let bytes = messages(|out| statements.iter().try_for_each(|sql| frontend::query(sql, out)))?;
                client.send(&bytes).await?;
                for _ in statements {
                    let frames = client.read_answer().await?.frames;
                    seen.extend(comparable(&frames).into_iter().filter(|frame| !frame.starts_with('S')));
                }
            } else {
                for sql in statements {
                    let frames = client.query(sql).await?.frames;
                    seen.extend(comparable(&frames).into_iter().filter(|frame| !frame.starts_with('S')));
                }
            }
            Ok(seen)
        })
        .await
        .map(drop)
}

#[tokio::test]
async fn reset_and_discard_go_back_to_the_settings_of_the_startup_packet() -> Result<()> {
    let mut wrong = Vec::new();
    for mode in ["transaction", "session"] {
        let front = Front::with(|pgherd| pgherd.set("pool.mode", mode)).await?;
        for (statements, at_once) in [
            (&["DISCARD ALL", SHOW][..], false),
            // As Npgsql does with a connection of its own pool.
            (&["DISCARD ALL", SHOW], true),
            (&["SET search_path = other", "RESET search_path", SHOW], false),
            (&["RESET ALL", SHOW], false),
            (&["SET work_mem = '9MB'", "SET work_mem TO DEFAULT", SHOW], false),
        ] {
            if let Err(error) = settings_after(&front, mode, statements, at_once).await {
                wrong.push(format!("{error:#}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn what_a_drivers_own_pool_sends_when_it_gives_a_connection_back_keeps_no_server_connection()
-> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1).set("pool.pinned_size", 0)).await?;
    let [_, address] = front.both()?;
    let (mut one, mut other) = (front.login(address, &PARAMETERS).await?, front.raw().await?);
    // asyncpg's; psycopg2 and Npgsql send DISCARD ALL.
    for reset in ["SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;", "DISCARD ALL"] {
        ensure!(one.query(reset).await?.error().is_none());
        ensure!(other.query(SHOW).await?.rows() == [[Some("\"$user\", public 4MB".into())]], "{reset}");
        ensure!(one.query(SHOW).await?.rows() == [[Some("mine 7MB".into())]], "{reset}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reset_that_fails_takes_nothing_back() -> Result<()> {
    let front = Front::start().await?;
    front
        .same("failing reset", async |address| {
            let mut client = front.login(address, &PARAMETERS).await?;
            client.query("SET work_mem = '9MB'").await?;
            for sql in ["RESET ALL; SELECT 1/0", "BEGIN; SELECT 1/0", "RESET ALL", "ROLLBACK", "RESET nosuch"]
            {
                client.query(sql).await?;
            }
            Ok(client.query(SHOW).await?.rows())
        })
        .await
        .map(drop)
}
