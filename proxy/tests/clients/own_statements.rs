//! `pg_prepared_statements` in transaction mode: a session sees its own statements there, under its own names, and no others.

use std::net::SocketAddr;

use bytes::BytesMut;
use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Result, ensure};

use crate::front::{Front, comparable, execute, extended, messages, prepare};

const VIEW: &str =
    "SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements ORDER BY prepare_time";

fn query(sql: &str) -> Result<BytesMut> {
    messages(|out| frontend::query(sql, out))
}

/// Has clients say this, one after the other, and gives all that they are told. `number` says which of them speaks.
async fn talk(front: &Front, address: SocketAddr, said: &[(usize, BytesMut)]) -> Result<Vec<String>> {
    let mut clients = [front.login(address, &[]).await?, front.login(address, &[]).await?];
    let mut all = Vec::new();
    for (number, bytes) in said {
        let Some(client) = clients.get_mut(*number) else { continue };
        client.send(bytes).await?;
        all.extend(comparable(&client.read_answer().await?.frames));
    }
    Ok(all)
}

/// One server connection for those who do not look, and one for who does.
async fn front() -> Result<Front> {
    Front::with(|pgherd| {
        pgherd.set("pool.size", 1).set("pool.pinned_size", 1).set("pool.query_wait_timeout", "10s")
    })
    .await
}

#[tokio::test]
async fn a_session_sees_its_own_prepared_statements_and_no_others() -> Result<()> {
    let front = front().await?;
    let said = [
        (1, prepare("theirs", "SELECT 'theirs'")?),
        (0, prepare("s1", "SELECT $1::int + 1")?),
        (0, query("PREPARE q (text, int8) AS\n  SELECT $1 || $2; -- and more")?),
        (1, query("PREPARE q AS SELECT 'theirs'")?),
        (0, prepare("Two Words", "SELECT relname FROM pg_class WHERE oid = $1")?),
        (0, query("PREPARE untyped AS SELECT $1 || 'a'")?),
        (0, extended("", "SELECT 'unnamed'", &[])?),
        (0, query(VIEW)?),
        (1, execute("theirs", &[])?),
        (0, execute("s1", &["1"])?),
        (0, query("EXECUTE q('a', 2); EXECUTE untyped('b')")?),
        (0, prepare("s1", "SELECT 'again'")?),
        (0, query("DEALLOCATE untyped")?),
        (0, prepare("later", "SELECT 'later'")?),
        (0, query("PREPARE later_too AS SELECT 'later'")?),
        (0, extended("", VIEW, &[])?),
        (0, query("BEGIN; SELECT 1/0")?),
        (0, query(VIEW)?),
        (0, query("ROLLBACK")?),
        (0, query(VIEW)?),
        (0, query("EXECUTE nosuch; EXECUTE q('x')")?),
        (0, query("EXECUTE q('x')")?),
        (0, query("SELECT set_config('application_name', 'a', false)")?),
        (0, query("DISCARD ALL")?),
        (0, query("SHOW application_name")?),
        (0, execute("s1", &["1"])?),
        (0, prepare("s1", "SELECT 'new'")?),
        (1, execute("theirs", &[])?),
        (0, execute("s1", &[])?),
        (1, query("EXECUTE q")?),
        (0, query(VIEW)?),
        (0, execute("s1", &[])?),
    ];
    front.same("own statements", async |address| talk(&front, address, &said).await).await.map(drop)
}

#[tokio::test]
async fn it_sees_them_within_a_transaction_and_before_a_pipeline_too() -> Result<()> {
    let front = front().await?;
    let pipeline = messages(|out| {
        for _ in 0..3 {
            frontend::parse("", "SELECT name FROM pg_prepared_statements ORDER BY name", [], out)?;
            crate::front::bind("", &[], out)?;
            frontend::execute("", 0, out)?;
            frontend::parse("third", "SELECT 3", [], out)?;
            frontend::close(b'S', "third", out)?;
        }
        frontend::sync(out);
        Ok(())
    })?;
    let said = [
        (1, prepare("theirs", "SELECT 'theirs'")?),
        (0, prepare("mine", "SELECT 'mine'")?),
        (0, query("CREATE TABLE own (n int)")?),
        (0, query("BEGIN")?),
        (0, query("INSERT INTO own VALUES (1)")?),
        (0, prepare("mine too", "SELECT n FROM own")?),
        (0, execute("mine too", &[])?),
        (0, query(VIEW)?),
        (0, execute("mine", &[])?),
        (0, query("SAVEPOINT a; INSERT INTO own VALUES (2)")?),
        (0, query("COMMIT")?),
        (0, pipeline),
        (0, query("DROP TABLE own")?),
        (0, execute("mine too", &[])?),
        (1, execute("theirs", &[])?),
    ];
    front.same("in a transaction", async |address| talk(&front, address, &said).await).await.map(drop)
}

/// What PostgreSQL's own regression test `prepare` says.
#[tokio::test]
async fn what_postgresqls_own_test_looks_for_is_there() -> Result<()> {
    let front = front().await?;
    let texts = [
        "SELECT name, statement, parameter_types FROM pg_prepared_statements",
        "PREPARE q1 AS SELECT 1 AS a;",
        "EXECUTE q1;",
        "SELECT name, statement, parameter_types FROM pg_prepared_statements",
        "PREPARE q1 AS SELECT 2;",
        "DEALLOCATE q1;",
        "PREPARE q1 AS SELECT 2;",
        "EXECUTE q1;",
        "PREPARE q2 AS SELECT 2 AS b;",
        "SELECT name, statement, parameter_types FROM pg_prepared_statements ORDER BY name",
        "DEALLOCATE PREPARE q1;",
        "SELECT name, statement, parameter_types FROM pg_prepared_statements",
        "DEALLOCATE PREPARE q2;",
        "SELECT name, statement, parameter_types FROM pg_prepared_statements",
        "PREPARE q3(text, int, float, boolean, smallint) AS SELECT $1, $2, $3, $4, $5",
        "EXECUTE q3('AAAAxx', 5::smallint, 10.5::float, false, 4::bigint);",
        "EXECUTE q3('bool');",
        "PREPARE q4(nonexistenttype) AS SELECT $1;",
        "PREPARE q6 AS SELECT * FROM pg_class WHERE oid = $1 AND relname = $2;",
        "SELECT name, statement, parameter_types FROM pg_prepared_statements ORDER BY name;",
        "DEALLOCATE ALL;",
        "SELECT name, statement, parameter_types FROM pg_prepared_statements ORDER BY name;",
    ];
    let said = texts.iter().map(|text| Ok((0, query(text)?))).collect::<Result<Vec<_>>>()?;
    front.same("prepare.sql", async |address| talk(&front, address, &said).await).await.map(drop)
}

#[tokio::test]
async fn a_function_that_is_given_an_execute_finds_what_it_names() -> Result<()> {
    let front = front().await?;
    let texts = [
        "PREPARE s (int) AS SELECT $1 + 41",
        "DO $$ BEGIN EXECUTE 'EXECUTE s(1)'; END $$",
        "SELECT query_to_xml('execute s(1)', false, false, '')",
        "EXECUTE s(2)",
        "DO $$ BEGIN EXECUTE 'EXECUTE nosuch(1)'; END $$",
        "DEALLOCATE s",
        "DO $$ BEGIN EXECUTE 'EXECUTE s(1)'; END $$",
    ];
    let said = texts.iter().map(|text| Ok((0, query(text)?))).collect::<Result<Vec<_>>>()?;
    front.same("EXECUTE in a literal", async |address| talk(&front, address, &said).await).await.map(drop)
}

#[tokio::test]
async fn a_connection_is_clean_when_who_looked_has_left() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1).set("pool.pinned_size", 0)).await?;
    let mut one = front.raw().await?;
    one.send(&prepare("s", "SELECT 'one'")?).await?;
    one.read_answer().await?;
    ensure!(one.query(VIEW).await?.rows().len() == 1);
    drop(one);
    let mut other = front.raw().await?;
    other.send(&prepare("s", "SELECT 'other'")?).await?;
    ensure!(other.read_answer().await?.error().is_none());
    let rows = other.query(VIEW).await?.rows();
    ensure!(rows.len() == 1 && rows[0][1].as_deref() == Some(b"SELECT 'other'"), "{rows:?}");
    Ok(())
}

/// All but those that need the table that is gone.
const OTHERS: &str = "SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements \
                      WHERE statement NOT LIKE '%gone%' ORDER BY name";
const ALL: &str =
    "SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements ORDER BY name";

/// What a session says that has statements of which some need a table that it then drops.
fn prepare_and_drop() -> Result<Vec<(usize, BytesMut)>> {
    Ok(vec![
        (0, query("CREATE TABLE gone (n int)")?),
        (0, query("PREPARE p AS SELECT n + 1 FROM gone")?),
        (0, query("PREPARE q AS SELECT 'q'")?),
        (0, prepare("x", "SELECT n + $1 FROM gone")?),
        (0, prepare("y", "SELECT $1::int")?),
        (1, prepare("theirs", "SELECT 'theirs'")?),
        (0, query("DROP TABLE gone")?),
    ])
}

#[tokio::test]
async fn one_that_does_not_fit_the_schema_any_more_is_known_all_the_same() -> Result<()> {
    let front = front().await?;
    let mut said = prepare_and_drop()?;
    let there_and_gone = [
        (0, query(OTHERS)?),
        (0, query("EXECUTE q")?),
        (0, execute("y", &["1"])?),
        (0, query("EXECUTE p")?),
        (0, execute("x", &["1"])?),
        (0, query("EXECUTE q; EXECUTE p; EXECUTE q")?),
        (0, query("PREPARE p AS SELECT 'again'")?),
        (0, prepare("x", "SELECT 'again'")?),
        (0, query("PREPARE q AS SELECT 'again'")?),
        (0, extended("", "PREPARE p AS SELECT 'again'", &[])?),
        (0, query("EXECUTE p")?),
        (0, query(OTHERS)?),
        (0, query("BEGIN")?),
        (0, query(OTHERS)?),
        (0, query("SAVEPOINT a")?),
        (0, query("EXECUTE p")?),
        (0, query("ROLLBACK TO a")?),
        (0, query("EXECUTE q")?),
        (0, query("COMMIT")?),
        (0, prepare("z", "SELECT 'z'")?),
        (1, execute("theirs", &[])?),
    ];
    said.extend(there_and_gone);
    let back = [
        (0, query("CREATE TABLE gone AS SELECT 1 AS n")?),
        (0, query("EXECUTE p")?),
        (0, execute("x", &["1"])?),
        (0, execute("z", &[])?),
        (0, query(ALL)?),
        (0, query("EXECUTE p; EXECUTE q")?),
        (0, execute("x", &["1"])?),
        (0, query("DROP TABLE gone")?),
        (0, query("EXECUTE p")?),
        (0, query("PREPARE p AS SELECT 'again'")?),
        (0, query("DEALLOCATE p")?),
        (0, query(ALL)?),
        (0, query("DISCARD ALL")?),
        (0, execute("x", &["1"])?),
        (0, query("EXECUTE p")?),
        (0, query(ALL)?),
    ];
    said.extend(back);
    front.same("one that is gone", async |address| talk(&front, address, &said).await).await.map(drop)
}

#[tokio::test]
async fn the_name_of_one_that_does_not_fit_can_be_given_to_another() -> Result<()> {
    let front = front().await?;
    let mut said = prepare_and_drop()?;
    let anew = messages(|out| {
        frontend::close(b'S', "x", out)?;
        frontend::parse("x", "SELECT 'x'", [], out)?;
        crate::front::bind("x", &[], out)?;
        frontend::execute("", 0, out)?;
        frontend::sync(out);
        Ok(())
    })?;
    let failing = messages(|out| {
        frontend::parse("", "SELECT 1 FROM nosuch", [], out)?;
        frontend::close(b'S', "x", out)?;
        frontend::parse("x", "SELECT 'x'", [], out)?;
        frontend::sync(out);
        Ok(())
    })?;
    let given = [
        (0, query("BEGIN")?),
        (0, query(OTHERS)?),
        (0, query("COMMIT")?),
        (0, failing),
        (0, execute("x", &["1"])?),
        (0, anew),
        (0, execute("x", &[])?),
        (0, query("SELECT 1/0; DEALLOCATE p")?),
        (0, query("EXECUTE p")?),
        (0, query("BEGIN; DEALLOCATE p; PREPARE p AS SELECT 'p'; EXECUTE p; COMMIT")?),
        (0, query("EXECUTE p; EXECUTE q")?),
        (0, query("DEALLOCATE q")?),
        (0, query("SELECT name, from_sql FROM pg_prepared_statements ORDER BY name")?),
        (0, query("DEALLOCATE ALL; PREPARE x AS SELECT 'x'; EXECUTE x")?),
        (0, query(ALL)?),
    ];
    said.extend(given);
    front.same("another", async |address| talk(&front, address, &said).await).await.map(drop)
}

#[tokio::test]
async fn so_it_can_where_nothing_before_was_answered_yet() -> Result<()> {
    let front = front().await?;
    let mut said = prepare_and_drop()?;
    let close = messages(|out| {
        frontend::close(b'S', "x", out)?;
        frontend::sync(out);
        Ok(())
    })?;
    let batches = [close, prepare("x", "SELECT 'x'")?, execute("x", &[])?, query("EXECUTE p")?];
    let forgotten = [query("DEALLOCATE ALL")?, query("PREPARE p AS SELECT 'p'")?, query("EXECUTE p")?];
    said.push((0, query(OTHERS)?));
    for batches in [&batches[..], &forgotten[..]] {
        said.push((0, BytesMut::from(&*batches.concat())));
        // Their other answers.
        said.extend(batches.iter().skip(1).map(|_| (0, BytesMut::new())));
    }
    said.push((0, query(ALL)?));
    front.same("pipelined", async |address| talk(&front, address, &said).await).await.map(drop)
}

#[tokio::test]
async fn a_table_that_is_back_is_found_from_within_a_function_too() -> Result<()> {
    let front = front().await?;
    let mut said = prepare_and_drop()?;
    for text in [
        OTHERS,
        "CREATE TABLE gone AS SELECT 1 AS n",
        "DO $$ BEGIN EXECUTE 'EXECUTE p'; END $$",
        "DEALLOCATE p",
        "DO $$ BEGIN EXECUTE 'EXECUTE p'; END $$",
        ALL,
        "DROP TABLE gone",
    ] {
        said.push((0, query(text)?));
    }
    front.same("from within", async |address| talk(&front, address, &said).await).await.map(drop)
}

#[tokio::test]
async fn a_name_stays_taken_where_its_statement_cannot_be_prepared_any_more() -> Result<()> {
    let front = front().await?;
    let mut said = prepare_and_drop()?;
    let taken = [
        (1, query("DISCARD ALL")?),
        (0, query("PREPARE p AS SELECT 'again'")?),
        (0, prepare("x", "SELECT 'again'")?),
        (0, query("EXECUTE p")?),
        (0, query("CREATE TABLE gone AS SELECT 1 AS n")?),
        (0, query("EXECUTE p")?),
        (0, execute("x", &["1"])?),
        (0, query("DROP TABLE gone")?),
    ];
    said.extend(taken);
    front.same("taken", async |address| talk(&front, address, &said).await).await.map(drop)
}

/// A statement that gives something else by now must not become that because its session has looked.
#[tokio::test]
async fn a_statement_from_before_a_migration_is_what_it_was_when_its_session_has_looked() -> Result<()> {
    let front = front().await?;
    let mut client: RawClient = front.raw().await?;
    ensure!(client.query("CREATE TABLE grows (n int)").await?.error().is_none());
    client.send(&prepare("s", "SELECT * FROM grows")?).await?;
    ensure!(client.read_answer().await?.error().is_none());
    for sql in ["PREPARE p AS SELECT * FROM grows", "ALTER TABLE grows ADD COLUMN m int"] {
        ensure!(client.query(sql).await?.error().is_none(), "{sql}");
    }
    for _ in 0..2 {
        ensure!(client.query(VIEW).await?.error().is_none());
        client.send(&execute("s", &[])?).await?;
        let errors = [client.read_answer().await?.error(), client.query("EXECUTE p").await?.error()];
        for error in errors {
            ensure!(error.as_ref().is_some_and(|error| error.code() == "0A000"), "{error:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn nothing_of_pgherds_own_is_seen_where_others_have_taken_numbers() -> Result<()> {
    let front = front().await?;
    let mut other = front.raw().await?;
    ensure!(
        other
            .query("CREATE TABLE taken (id serial); INSERT INTO taken DEFAULT VALUES")
            .await?
            .error()
            .is_none()
    );
    let mut client = front.raw().await?;
    client.send(&prepare("s", "INSERT INTO taken DEFAULT VALUES RETURNING id")?).await?;
    ensure!(client.read_answer().await?.error().is_none());
    for _ in 0..2 {
        let rows = client.query(VIEW).await?.rows();
        ensure!(rows.len() == 1 && rows[0][0].as_deref() == Some(b"s"), "{rows:?}");
        client.send(&execute("s", &[])?).await?;
        ensure!(client.read_answer().await?.error().is_none());
    }
    Ok(())
}
