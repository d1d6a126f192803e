//! PREPARE, EXECUTE and DEALLOCATE in SQL, in transaction mode: as on a connection of its own.

use pgherd_testkit::client::{Frame, RawClient, frontend};
use pgherd_testkit::{Result, ensure};

use crate::front::{Front, bind, extended, messages};

/// Everything of an answer but where in PostgreSQL's sources an error was raised.
fn seen(frames: &[Frame]) -> Vec<String> {
    let describe = |frame: &Frame| match frame.error_fields() {
        Some(fields) => {
            let fields = "SVCMDHP".chars().filter_map(|code| fields.field(u8::try_from(code).ok()?));
            fields.collect::<Vec<_>>().join(" | ")
        }
        None => format!("{} {:?}", char::from(frame.tag), frame.payload),
    };
    frames.iter().map(describe).collect()
}

/// What a client does in one script, one message or batch a line; what begins with `+` by the extended protocol.
const SCRIPTS: &[&[&str]] = &[
    &["PREPARE s AS SELECT 1", "EXECUTE s", "DEALLOCATE s", "EXECUTE s", "DEALLOCATE s"],
    &[
        "PREPARE s (int, text) AS SELECT $1 + 1, $2",
        "EXECUTE s(1, 'a')",
        "EXECUTE s(1)",
        "EXECUTE s('x', 'a')",
    ],
    &["PREPARE s AS SELECT $1 || 'b'", "PREPARE s AS SELECT 2", "EXECUTE s('a')", "DEALLOCATE PREPARE \"s\""],
    &["PREPARE s AS SELECT nosuch FROM pg_class", "PREPARE s AS SELEC 1", "EXECUTE s(nosuch)", "PREPARE s"],
    &["BEGIN", "PREPARE s AS SELECT 1", "ROLLBACK", "EXECUTE s"],
    &["BEGIN", "SELECT 1/0", "PREPARE s AS SELECT 1", "ROLLBACK", "EXECUTE s"],
    &["PREPARE s AS SELECT 1", "BEGIN", "SELECT 1/0", "EXECUTE s", "DEALLOCATE s", "ROLLBACK", "EXECUTE s"],
    &["PREPARE s AS SELECT 1", "DISCARD ALL", "EXECUTE s", "PREPARE s AS SELECT 2", "EXECUTE s"],
    &["PREPARE s AS SELECT 1", "DEALLOCATE ALL", "EXECUTE s", "PREPARE s AS SELECT 2", "EXECUTE s"],
    &["PREPARE s AS SELECT 1; EXECUTE s; DEALLOCATE s; EXECUTE s", "EXECUTE s"],
    &[
        "PREPARE a AS SELECT 1; PREPARE b AS SELECT 1/0; EXECUTE b; PREPARE c AS SELECT 3",
        "EXECUTE a",
        "EXECUTE c",
    ],
    &["PREPARE s AS SELECT relname FROM pg_class WHERE oid = 1259", "EXPLAIN (COSTS OFF) EXECUTE s"],
    &[
        "PREPARE s (text) AS SELECT $1 AS a",
        "BEGIN",
        "CREATE TABLE made AS EXECUTE s('x')",
        "SELECT count(*) FROM made",
        "EXPLAIN (COSTS OFF, ANALYZE, TIMING OFF, SUMMARY OFF) CREATE TABLE again AS EXECUTE s('y')",
        "CREATE TABLE once_more AS EXECUTE nosuch('y')",
        "ROLLBACK",
    ],
    &["+PREPARE s (int) AS SELECT $1", "+EXECUTE s(1)", "EXECUTE s(2)", "+DEALLOCATE s", "+EXECUTE s(1)"],
    &[
        "+EXECUTE s",
        "PREPARE s AS SELECT 1",
        "+EXECUTE s",
        "+PREPARE s AS SELECT 2",
        "+EXECUTE s(1)",
        "EXECUTE s",
    ],
    &["P SELECT 1 + $1::int", "EXECUTE s(1)", "+EXECUTE s(2)", "PREPARE s AS SELECT 2", "DEALLOCATE s", "B"],
    &["PREPARE s (int) AS SELECT $1", "B 1", "P SELECT 2", "+DEALLOCATE s", "P SELECT 3", "B"],
    &["PREPARE \"S p\" AS SELECT 1", "EXECUTE \"S p\"", "EXECUTE s", "DEALLOCATE \"S p\"", "EXECUTE \"S p\""],
    &[
        "PREPARE pgherd_1 AS SELECT 1",
        "EXECUTE pgherd_1",
        "EXECUTE pgherd_2",
        "DEALLOCATE pgherd_1",
        "EXECUTE pgherd_1",
    ],
    &[
        "PREPARE s (text) AS SELECT $1",
        r"EXECUTE s('C:\dir\')",
        r"+EXECUTE s('C:\dir\')",
        "DISCARD TEMP; EXECUTE s('a')",
        "DISCARD PLANS",
        "EXECUTE s('b')",
    ],
    &[
        "PREPARE s AS INSERT INTO nosuch VALUES (1)",
        "PREPARE s AS SELECT 1; SELECT nosuch",
        "EXECUTE s; SELECT nosuch",
    ],
];

fn bytes(step: &str) -> Result<bytes::BytesMut> {
    match step.split_at(1) {
        ("+", sql) => extended("", sql, &[]),
        ("P", sql) if sql.starts_with(" SELECT") => messages(|out| {
            frontend::parse("s", sql, [], out)?;
            frontend::sync(out);
            Ok(())
        }),
        ("B", values) if values.len() < 3 => messages(|out| {
            bind("s", &values.split_whitespace().collect::<Vec<_>>(), out)?;
            frontend::execute("", 0, out)?;
            frontend::sync(out);
            Ok(())
        }),
        _ => messages(|out| frontend::query(step, out)),
    }
}

/// Prepares so many other statements that the server connection forgets those of others.
async fn crowd_out(other: &mut RawClient) -> Result<()> {
    for number in 0..3 {
        let answer = other.query(&format!("PREPARE x{number} AS SELECT 'other'")).await?;
        ensure!(answer.error().is_none(), "{answer:?}");
    }
    other.query("DEALLOCATE ALL").await?;
    Ok(())
}

#[tokio::test]
async fn an_execute_longer_than_a_buffer_is_sent_whole_whatever_words_are_in_it() -> Result<()> {
    let front = Front::start().await?;
    let long = format!("EXECUTE s('{}')", "reset all; ".repeat(4000));
    let told = front.same("a long EXECUTE", async |address| {
        let mut client = front.login(address, &[("DateStyle", "German")]).await?;
        let mut all = Vec::new();
        for sql in
            ["PREPARE s (text) AS SELECT length($1), md5($1)", &long, "SHOW DateStyle", "EXECUTE s('a')"]
        {
            all.extend(seen(&client.query(sql).await?.frames));
        }
        Ok(all)
    });
    ensure!(told.await?.iter().any(|frame| frame.contains("44000")));
    Ok(())
}

#[tokio::test]
async fn a_name_that_cannot_be_read_keeps_its_session_where_it_was_prepared() -> Result<()> {
    let front = Front::start().await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    for (client, number) in [(&mut one, 1), (&mut other, 2)] {
        client.send(&extended("", &format!("PREPARE U&\"s\" AS SELECT {number}"), &[])?).await?;
        let answer = client.read_answer().await?;
        ensure!(answer.error().is_none(), "{answer:?}");
    }
    for (client, number) in [(&mut one, "1"), (&mut other, "2")] {
        let rows = client.query("EXECUTE U&\"s\"").await?.rows();
        ensure!(rows == [[Some(bytes::Bytes::from(number))]], "{rows:?}");
    }
    Ok(())
}

#[tokio::test]
async fn statements_that_sql_prepares_follow_their_session_and_are_one_with_the_protocols() -> Result<()> {
    // One server connection for all, on which hardly a statement stays.
    let settings = |pgherd: pgherd_testkit::PgherdBuilder| {
        pgherd
            .set("pool.size", 1)
            .set("pool.pinned_size", 0)
            .set("pool.prepared_statements", 1)
            .set("pool.query_wait_timeout", "10s")
    };
    let front = Front::with(settings).await?;
    let [_, pgherd] = front.both()?;
    let mut wrong = Vec::new();
    for script in SCRIPTS {
        let what = format!("{script:?}");
        let told = front.same(&what, async |address| {
            let mut client = front.login(address, &[]).await?;
            let mut other = front.login(address, &[]).await?;
            let mut all = Vec::new();
            for step in *script {
                client.send(&bytes(step)?).await?;
                let answer = client.read_answer().await?;
                all.extend(seen(&answer.frames));
                // It is served only if the client holds no connection.
                if address == pgherd && answer.transaction_state() == Some('I') {
                    crowd_out(&mut other).await?;
                }
            }
            Ok(all)
        });
        if let Err(error) = told.await {
            wrong.push(format!("{error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_statement_of_sql_survives_its_connection_and_a_migration_is_noticed() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let mut client = front.raw().await?;
    for sql in [
        "CREATE TABLE m (a int)",
        "INSERT INTO m VALUES (1)",
        "PREPARE s (int) AS SELECT * FROM m WHERE a = $1",
    ] {
        ensure!(client.query(sql).await?.error().is_none(), "{sql}");
    }
    let end = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE usename = 'app'";
    front.server()?.scalar(end).await?;
    front.wait_all_idle(0).await?;
    ensure!(client.query("EXECUTE s(1)").await?.rows() == [[Some("1".into())]]);
    // The table is gone when the statement has to be prepared again: the client is told that, and not something of pgherd's.
    ensure!(client.query("DROP TABLE m").await?.error().is_none());
    front.server()?.scalar(end).await?;
    front.wait_all_idle(0).await?;
    let error = client.query("EXECUTE s(1)").await?.error();
    ensure!(error.as_ref().is_some_and(|error| error.code() == "42P01"), "{error:?}");
    ensure!(client.query("SELECT 1").await?.error().is_none());
    Ok(())
}

/// What PostgreSQL does of a text in a failed transaction: it reads all of it, and then ends the transaction and goes on.
#[tokio::test]
async fn a_text_that_ends_a_failed_transaction_goes_on_as_in_postgresql() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1).set("pool.pinned_size", 3)).await?;
    front.server()?.query_in("app", "CREATE SEQUENCE taken; GRANT ALL ON SEQUENCE taken TO app").await?;
    front
        .same("exits", async |address| {
            let mut client = front.login(address, &[]).await?;
            let mut other = front.login(address, &[]).await?;
            let mut all = Vec::new();
            for text in [
                "ROLLBACK; EXECUTE s",
                "COMMIT AND NO CHAIN /* so */ ; EXECUTE s; SELECT 'behind'",
                "ROLLBACK; EXECUTE s; SELECT nosuch",
                "END; EXECUTE s; SELEC nosuch",
                "ABORT; ROLLBACK; EXECUTE s",
                "ROLLBACK; BEGIN; EXECUTE s; SELECT 1/0",
                "ROLLBACK; EXECUTE nosuch",
                "ROLLBACK; EXECUTE s(1)",
                "ROLLBACK; SELECT lastval()",
                "ROLLBACK; SELECT name FROM pg_prepared_statements",
            ] {
                for step in ["PREPARE s AS SELECT 'mine'", "SELECT 1/0"] {
                    client.query(step).await?;
                }
                // The server connection is another's now, and then the client's again, which lacks its statement there.
                for step in ["DISCARD ALL", "SELECT nextval('taken') > 0"] {
                    ensure!(other.query(step).await?.error().is_none());
                }
                for step in ["BEGIN; SELECT 1/0", text, "SELECT 'then'", "ROLLBACK", "DISCARD ALL"] {
                    all.push(format!("{text}, {step}"));
                    all.extend(seen(&client.query(step).await?.frames));
                }
            }
            Ok(all)
        })
        .await
        .map(drop)
}

#[tokio::test]
async fn such_a_text_goes_on_where_the_server_of_the_transaction_was_lost() -> Result<()> {
    let front = Front::start().await?;
    let mut client = front.raw().await?;
    for step in ["PREPARE s AS SELECT 'mine'", "BEGIN"] {
        ensure!(client.query(step).await?.error().is_none(), "{step}");
    }
    front.server()?.kill9_all().await?;
    front.server()?.start().await?;
    ensure!(client.query("SELECT 1").await?.transaction_state() == Some('E'));
    let answer = client.query("ROLLBACK; EXECUTE s").await?;
    ensure!(answer.rows() == [[Some("mine".into())]], "{answer:?}");
    ensure!(answer.transaction_state() == Some('I'), "{answer:?}");
    Ok(())
}
