//! A database can be dropped, renamed and copied although pgherd has idle connections to it.

use std::time::{Duration, Instant};

use pgherd_testkit::client::RawClient;
use pgherd_testkit::{Result, ensure};

use crate::front::Front;

#[tokio::test]
async fn idle_connections_make_way_for_a_statement_that_wants_the_database_for_itself() -> Result<()> {
    let front = Front::start().await?;
    front.server()?.query("ALTER ROLE app CREATEDB").await?;
    let mut client = front.raw().await?;
    let enter = async |database: &str| {
        let mut inside =
            RawClient::login(front.pgherd.address(), "app", database, front.password("app")).await?;
        let answer = inside.query("SELECT 1").await?;
        ensure!(answer.error().is_none(), "{answer:?}");
        Ok(inside)
    };
    ensure!(client.query("CREATE DATABASE one").await?.error().is_none());
    let began = Instant::now();
    for statement in
        ["CREATE DATABASE two TEMPLATE one", "ALTER DATABASE one RENAME TO \"Three\"", "DROP DATABASE two"]
    {
        // Somebody was there, and is still, without a transaction.
        let inside = enter(if statement.starts_with("DROP") { "two" } else { "one" }).await?;
        let answer = client.query(statement).await?;
        ensure!(answer.error().is_none(), "{statement}: {answer:?}");
        drop(inside);
    }
    ensure!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());

    // Who is in a transaction is not put out.
    let mut inside = enter("Three").await?;
    inside.query("BEGIN").await?;
    let answer = client.query("DROP DATABASE \"Three\"").await?;
    ensure!(answer.error().is_some_and(|error| error.code() == "55006"), "{answer:?}");
    ensure!(inside.query("SELECT 1").await?.error().is_none());
    Ok(())
}
