//! Prepared statements of the protocol in transaction mode.

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Result, ensure};
use tokio::task::JoinSet;

use crate::front::{Front, bind, comparable, extended, messages};

/// Binds and executes a statement that is prepared already.
async fn execute(client: &mut RawClient, statement: &str, parameters: &[&str]) -> Result<Vec<String>> {
    let bytes = messages(|out| {
        bind(statement, parameters, out)?;
        frontend::describe(b'P', "", out)?;
        frontend::execute("", 0, out)?;
        frontend::sync(out);
        Ok(())
    })?;
    client.send(&bytes).await?;
    Ok(comparable(&client.read_answer().await?.frames))
}

#[tokio::test]
async fn a_statement_that_was_prepared_once_works_on_whichever_connection() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 3)).await?;
    let mut clients = JoinSet::new();
    for number in 0..12_u32 {
        let mut client = front.raw().await?;
        clients.spawn(async move {
            let mine = format!("SELECT $1::int + {number}, 'client {number}'");
            client.send(&extended("s", &mine, &["0"])?).await?;
            client.read_answer().await?;
            client.send(&extended("shared", "SELECT $1::int * 2", &["0"])?).await?;
            client.read_answer().await?;
            for round in 0..50_u32 {
                let seen = execute(&mut client, "s", &[&round.to_string()]).await?.join("\n");
                ensure!(
                    seen.contains(&(number + round).to_string())
                        && seen.contains(&format!("client {number}")),
                    "client {number} round {round}: {seen}"
                );
                let seen = execute(&mut client, "shared", &[&round.to_string()]).await?.join("\n");
                ensure!(seen.contains(&(2 * round).to_string()), "{seen}");
            }
            Result::Ok(client)
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    front.wait_all_idle(3).await
}

#[tokio::test]
async fn errors_about_statements_are_postgresqls_own() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    front
        .same("prepare twice, close, use, misspell", async |address| {
            let mut client = RawClient::login(address, "app", "app", front.password("app")).await?;
            let mut seen = Vec::new();
            for bytes in [
                extended("s", "SELECT 1", &[])?,
                extended("s", "SELECT 2", &[])?,
                messages(|out| {
                    frontend::close(b'S', "s", out)?;
                    frontend::sync(out);
                    Ok(())
                })?,
                messages(|out| {
                    bind("s", &[], out)?;
                    frontend::sync(out);
                    Ok(())
                })?,
                extended("s", "SELEKT 1", &[])?,
                extended("s", "SELECT 3", &[])?,
                extended("", "SELECT 4", &[])?,
                messages(|out| {
                    frontend::describe(b'S', "nothing", out)?;
                    frontend::sync(out);
                    Ok(())
                })?,
                messages(|out| frontend::query("DEALLOCATE s", out))?,
                extended("s", "SELECT 5", &[])?,
                messages(|out| frontend::query("DISCARD ALL", out))?,
                extended("s", "SELECT 6", &[])?,
            ] {
                client.send(&bytes).await?;
                seen.push(comparable(&client.read_answer().await?.frames));
            }
            Ok(seen)
        })
        .await
        .map(drop)
}

#[tokio::test]
async fn a_pipeline_with_an_error_in_it_is_answered_as_by_postgresql() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    front
        .same("pipeline", async |address| {
            let mut client = RawClient::login(address, "app", "app", front.password("app")).await?;
            let mut bytes = extended("a", "SELECT 1", &[])?;
            bytes.extend_from_slice(&extended("b", "SELECT 1/$1::int", &["0"])?);
            bytes.extend_from_slice(&messages(|out| {
                frontend::parse("c", "SELEKT", [], out)?;
                frontend::parse("d", "SELECT 4", [], out)?;
                bind("d", &[], out)?;
                frontend::execute("", 0, out)?;
                frontend::sync(out);
                Ok(())
            })?);
            bytes.extend_from_slice(&extended("d", "SELECT 5", &[])?);
            bytes.extend_from_slice(&messages(|out| frontend::query("SELECT 6", out))?);
            client.send(&bytes).await?;
            let mut seen = Vec::new();
            for _ in 0..5 {
                seen.push(comparable(&client.read_answer().await?.frames));
            }
            Ok(seen)
        })
        .await
        .map(drop)
}

#[tokio::test]
async fn a_statement_that_was_prepared_under_a_local_setting_is_not_shared() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    let sql = "SELECT timestamptz '2020-01-01 12:00' = timestamptz '2020-01-01 12:00+9'";
    one.query("BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'").await?;
    one.send(&extended("s", sql, &[])?).await?;
    ensure!(one.read_answer().await?.rows() == [[Some("t".into())]]);
    one.query("COMMIT").await?;
    other.send(&extended("s", sql, &[])?).await?;
    let rows = other.read_answer().await?.rows();
    ensure!(rows == [[Some("f".into())]], "its time zone is UTC: {rows:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_with_many_statements_costs_no_more_for_each_of_them() -> Result<()> {
    let front = Front::start().await?;
    let mut client = front.raw().await?;
    let mut took = Vec::new();
    for round in 0..40 {
        let names: Vec<String> = (0..500).map(|number| format!("s{round}_{number}")).collect();
        let bytes = messages(|out| {
            names.iter().try_for_each(|name| frontend::parse(name, "SELECT 1", [], out))?;
            frontend::sync(out);
            Ok(())
        })?;
        let begun = std::time::Instant::now();
        client.send(&bytes).await?;
        ensure!(client.read_answer().await?.error().is_none());
        took.push(begun.elapsed());
    }
    let (first, last) = (took[1..6].iter().min(), took[35..].iter().min());
    let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
    eprintln!("500 statements take {first:?} at first, {last:?} when there are 20000");
    ensure!(*last < *first * 4, "{first:?} at first, {last:?} when there are 20000");
    Ok(())
}
