//! Prepared statements of the protocol in transaction mode.

use bytes::BytesMut;
use pgherd_testkit::client::{Frame, RawClient, frontend};
use pgherd_testkit::{Result, ensure};
use tokio::task::JoinSet;

use crate::front::{Front, bind, comparable, extended, messages};

/// Binds and executes a statement that is prepared already.
async fn execute(client: &mut RawClient, statement: &str, parameters: &[&str]) -> Result<Vec<String>> {
    client.send(&execution(statement, parameters)?).await?;
    Ok(comparable(&client.read_answer().await?.frames))
}

fn execution(statement: &str, parameters: &[&str]) -> Result<BytesMut> {
    messages(|out| {
        bind(statement, parameters, out)?;
        frontend::describe(b'P', "", out)?;
        frontend::execute("", 0, out)?;
        frontend::sync(out);
        Ok(())
    })
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

/// Whoever prepares a text after a migration gets what it means now, though others have prepared the same before it; and who
/// goes on, on the same server connection, with what it prepared before hears what it would hear of PostgreSQL.
#[tokio::test]
async fn a_text_that_is_prepared_after_a_migration_means_what_it_says_now() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    for migration in [
        "ALTER TABLE migrated ADD b int",
        "BEGIN; ALTER TABLE migrated ADD b int; COMMIT",
        "DROP TABLE migrated; CREATE TABLE migrated (a int, b int)",
        "ALTER TABLE migrated ALTER a TYPE text",
    ] {
        front
            .same(migration, async |address| {
                let login = async || RawClient::login(address, "app", "app", front.password("app")).await;
                let query = |text: &str| messages(|out| frontend::query(text, out));
                let (mut early, mut migrating, mut late) = (login().await?, login().await?, login().await?);
                let mut seen = Vec::new();
                migrating
                    .send(&query("DROP TABLE IF EXISTS migrated; CREATE TABLE migrated (a int)")?)
                    .await?;
                migrating.read_answer().await?;
                let text = "SELECT * FROM migrated";
                let prepared = extended("s", text, &[])?;
                early.send(&prepared).await?;
                seen.extend(shapes(&early.read_answer().await?.frames));
                migrating.send(&query(migration)?).await?;
                seen.extend(shapes(&migrating.read_answer().await?.frames));
                late.send(&prepared).await?;
                seen.extend(shapes(&late.read_answer().await?.frames));
                for client in [&mut late, &mut early] {
                    client.send(&execution("s", &[])?).await?;
                    seen.extend(shapes(&client.read_answer().await?.frames));
                }
                // In one transaction with the migration.
                migrating.send(&query("BEGIN; ALTER TABLE migrated ADD c int")?).await?;
                migrating.read_answer().await?;
                migrating.send(&extended("t", text, &[])?).await?;
                seen.extend(shapes(&migrating.read_answer().await?.frames));
                migrating.send(&query("ROLLBACK")?).await?;
                migrating.read_answer().await?;
                Ok(seen)
            })
            .await?;
    }
    Ok(())
}

/// What differs between two tables of the same columns does not count.
fn shapes(frames: &[Frame]) -> Vec<String> {
    let shape = |frame: &Frame| {
        let mut fields = (frame.tag == b'T').then(|| frame.payload.get(2..))??;
        let mut columns = Vec::new();
        while let Some(end) = fields.iter().position(|byte| *byte == 0) {
            let (name, rest) = fields.split_at(end);
            // The table and the column's number in it come first, then the type.
            columns.push(format!("{} {:?}", String::from_utf8_lossy(name), rest.get(7..11)?));
            fields = rest.get(19..)?;
        }
        Some(columns.join(", "))
    };
    frames
        .iter()
        .flat_map(|frame| {
            shape(frame).map_or_else(|| comparable(std::slice::from_ref(frame)), |shape| vec![shape])
        })
        .collect()
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

#[tokio::test]
async fn a_client_that_was_held_back_for_what_it_is_owed_is_served_when_it_has_it() -> Result<()> {
    let front = Front::start().await?;
    let mut client = front.raw().await?;
    // More answers than are owed to a client before it is held back, in fewer bytes than are read at once.
    let bytes = messages(|out| {
        (0..1200).try_for_each(|_| frontend::parse("", "", [], out))?;
        frontend::sync(out);
        Ok(())
    })?;
    for _ in 0..3 {
        client.send(&bytes).await?;
        ensure!(client.read_answer().await?.frames.len() == 1201);
        ensure!(client.query("SELECT 1").await?.rows() == [[Some("1".into())]]);
    }
    Ok(())
}
