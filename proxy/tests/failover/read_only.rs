//! READ ONLY transactions on standbys.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use pgherd_testkit::client::{IsNull, RawClient, frontend};
use pgherd_testkit::{Cluster, Result, Server, ensure, eventually};
use tokio_postgres::error::SqlState;

use crate::herd::{Herd, PATIENCE};
use crate::standby_reads::{herd, herd_of, reads};

/// Runs on the primary alone: its name is in no list, and nobody has said of it that it only reads.
const WHERE: &str = "CREATE TABLE kept AS SELECT 7 AS n; \
    CREATE FUNCTION is_standby() RETURNS boolean LANGUAGE sql AS 'SELECT pg_is_in_recovery()'; \
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 2 * $1; END'; \
    CREATE SEQUENCE numbers";

/// A herd with one standby, which has a table and functions, and pgherd knows them.
async fn herd_of_two() -> Result<Herd> {
    let herd = herd_of(Cluster::builder().servers(2).start().await?, "1").await?;
    herd.connect().await?.batch_execute(WHERE).await?;
    herd.wait_replayed().await?;
    Ok(herd)
}

/// How many transaction blocks of clients a server has open.
async fn blocks(server: &Server) -> Result<u64> {
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state LIKE 'idle in transaction%'";
    Ok(server.scalar(sql).await?.parse()?)
}

async fn is_on(server: &Server) -> Result<()> {
    eventually(format!("the transaction is on {}", server.name()), PATIENCE, || async {
        Ok((blocks(server).await? == 1).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_read_only_transaction_has_one_standby_and_one_snapshot() -> Result<()> {
    let herd = herd_of_two().await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let reader = herd.connect().await?;
    let writer = herd.connect().await?;
    let before = reads(&herd).await?;
    reader.batch_execute("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    let statement = reader.prepare("SELECT count(*) FROM kept WHERE n > $1").await?;
    for _ in 0..3 {
        ensure!(reader.query_one(&statement, &[&0_i32]).await?.get::<_, i64>(0) == 1);
        writer.batch_execute("INSERT INTO kept VALUES (8)").await?;
        herd.wait_replayed().await?;
    }
    ensure!(reader.simple_query("SELECT n FROM kept").await?.len() == 3);
    is_on(&standby).await?;
    ensure!(blocks(&primary).await? == 0);
    reader.batch_execute("COMMIT").await?;
    let after = reads(&herd).await?;
    ensure!(after.first() == before.first() && after.get(1) >= before.get(1).map(|reads| reads + 4).as_ref());
    // It is no write: the session reads on the standby as before, which has nothing of what comes now.
    standby.query("SELECT pg_wal_replay_pause()").await?;
    writer.batch_execute("INSERT INTO kept VALUES (9)").await?;
    for _ in 0..3 {
        reader.batch_execute("BEGIN READ ONLY").await?;
        ensure!(reader.query_one("SELECT count(*) FROM kept", &[]).await?.get::<_, i64>(0) == 4);
        reader.batch_execute("COMMIT").await?;
        ensure!(reader.query_one("SELECT count(*) FROM kept", &[]).await?.get::<_, i64>(0) == 4);
    }
    // Who has written sees what it has written.
    let rows = writer.simple_query("BEGIN READ ONLY; ").await?;
    ensure!(rows.len() == 1);
    ensure!(writer.query_one("SELECT count(*) FROM kept", &[]).await?.get::<_, i64>(0) == 5);
    is_on(&primary).await?;
    Ok(writer.batch_execute("COMMIT").await?)
}

#[tokio::test]
async fn what_only_the_primary_has_is_answered_by_it_within_a_read_only_transaction() -> Result<()> {
    let herd = herd_of_two().await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    for (text, value) in [
        ("SELECT is_standby()::text", "false"),
        ("SELECT pg_is_in_recovery()::text", "false"),
        ("SELECT twice(21)::text", "42"),
        ("SELECT (txid_current() > 0)::text", "true"),
        ("SELECT pg_advisory_xact_lock(1)::text", ""),
        ("SHOW hot_standby", "on"),
        ("EXPLAIN (COSTS off) SELECT twice(21)", "Result"),
    ] {
        for fresh in [false, true] {
            let mut session = herd.raw().await?;
            session.query("BEGIN TRANSACTION READ ONLY").await?;
            is_on(&standby).await?;
            if !fresh {
                ensure!(session.query("SELECT n FROM kept").await?.value().as_deref() == Some("7"));
            }
            let answer = session.query(text).await?;
            ensure!(answer.value().as_deref() == Some(value), "{text}: {answer:?}");
            is_on(&primary).await?;
            ensure!(blocks(&standby).await? == 0);
            ensure!(session.query("SELECT n FROM kept").await?.value().as_deref() == Some("7"));
            let refused = session.query("SELECT nextval('numbers')").await?;
            let message = refused.error().map(|error| error.message().to_owned()).unwrap_or_default();
            ensure!(message == "cannot execute nextval() in a read-only transaction", "{message}");
            ensure!(session.query("ROLLBACK").await?.transaction_state() == Some('I'));
        }
    }
    // What is said with BEGIN, as by JDBC.
    let mut session = herd.raw().await?;
    session.send(&begin_with("SELECT n FROM kept")?).await?;
    let answer = session.read_answer().await?;
    ensure!(answer.value().as_deref() == Some("7") && answer.transaction_state() == Some('T'), "{answer:?}");
    is_on(&standby).await
}

#[tokio::test]
async fn a_snapshot_that_was_taken_on_a_standby_is_not_taken_elsewhere() -> Result<()> {
    let herd = herd_of_two().await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let session = herd.connect().await?;
    session.batch_execute("START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    session.query("SELECT n FROM kept", &[]).await?;
    is_on(&standby).await?;
    let refused = session.simple_query("SELECT twice(21)").await;
    let code = refused.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(SqlState::T_R_SERIALIZATION_FAILURE), "{code:?}");
    let aborted = session.simple_query("SELECT n FROM kept").await;
    let code = aborted.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(SqlState::IN_FAILED_SQL_TRANSACTION), "{code:?}");
    ensure!(blocks(&standby).await? == 0);
    session.batch_execute("ROLLBACK").await?;
    // As it is told to, it tries again.
    session.batch_execute("START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    session.query("SELECT n FROM kept", &[]).await?;
    ensure!(session.query_one("SELECT twice(21)", &[]).await?.get::<_, i32>(0) == 42);
    is_on(&primary).await?;
    session.batch_execute("COMMIT").await?;
    tells_what_is_undone(&herd).await?;
    // The level may be the role's own.
    for (level, on) in [("repeatable read", None), ("serializable", Some(&primary))] {
        primary.query(&format!("ALTER ROLE app SET default_transaction_isolation = '{level}'")).await?;
        herd.wait_replayed().await?;
        let console = herd.console().await?;
        reconnect(console).await?;
        let session = herd.connect().await?;
        session.batch_execute("BEGIN READ ONLY").await?;
        ensure!(session.query_one("SELECT n FROM kept", &[]).await?.get::<_, i32>(0) == 7);
        if let Some(server) = on {
            is_on(server).await?;
            let shown = session.query_one("SHOW transaction_isolation", &[]).await?.get::<_, String>(0);
            ensure!(shown == level, "{shown}");
        } else {
            let refused = session.simple_query("SELECT twice(21)").await;
            let code = refused.err().and_then(|error| error.code().cloned());
            ensure!(code == Some(SqlState::T_R_SERIALIZATION_FAILURE), "{code:?}");
        }
        session.batch_execute("ROLLBACK").await?;
    }
    Ok(())
}

/// Has pgherd open its connections anew.
async fn reconnect(mut console: RawClient) -> Result<()> {
    let answer = console.query("RECONNECT").await?;
    ensure!(answer.error().is_none(), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_transaction_whose_standby_is_killed_is_tried_again() -> Result<()> {
    let herd = herd(Cluster::builder().start().await?).await?;
    herd.connect().await?.batch_execute("CREATE TABLE kept AS SELECT 7 AS n").await?;
    herd.wait_replayed().await?;
    let standbys = [herd.cluster.server(2)?, herd.cluster.server(3)?];
    let session = herd.connect().await?;
    session.batch_execute("BEGIN READ ONLY").await?;
    session.query("SELECT n FROM kept", &[]).await?;
    let (mut on, mut left) = (None, "");
    for (standby, other) in standbys.iter().zip(["2", "1"]) {
        if blocks(standby).await? == 1 {
            (on, left) = (Some(standby), other);
        }
    }
    let Some(on) = on else { return Err(pgherd_testkit::Error::msg("it is on no standby")) };
    on.kill9_all().await?;
    let lost = session.simple_query("SELECT n FROM kept").await;
    let code = lost.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(SqlState::T_R_SERIALIZATION_FAILURE), "{code:?}\n{}", herd.log());
    let aborted = session.simple_query("SELECT n FROM kept").await;
    let code = aborted.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(SqlState::IN_FAILED_SQL_TRANSACTION), "{code:?}");
    session.batch_execute("ROLLBACK; BEGIN READ ONLY").await?;
    ensure!(session.query_one("SELECT n FROM kept", &[]).await?.get::<_, i32>(0) == 7);
    session.batch_execute("COMMIT").await?;
    herd.wait_readable(left).await?;
    tokio::time::timeout(Duration::from_secs(30), async {
        session.batch_execute("BEGIN READ ONLY").await?;
        session.query("SELECT n FROM kept", &[]).await?;
        session.batch_execute("COMMIT").await
    })
    .await??;
    Ok(())
}

/// BEGIN and a statement in one batch, as JDBC sends them.
fn begin_with(text: &str) -> Result<BytesMut> {
    batch_of(&["BEGIN READ ONLY", text])
}

/// Statements in one batch.
fn batch_of(texts: &[&str]) -> Result<BytesMut> {
    let mut batch = BytesMut::new();
    for text in texts {
        frontend::parse("", text, [], &mut batch)?;
        let bound = frontend::bind("", "", [], [""; 0], |_, _| Ok(IsNull::No), [], &mut batch);
        ensure!(bound.is_ok());
        frontend::describe(b'P', "", &mut batch)?;
        frontend::execute("", 0, &mut batch)?;
    }
    frontend::sync(&mut batch);
    Ok(batch)
}

#[tokio::test]
async fn what_must_come_before_any_query_is_refused_behind_one_that_a_standby_has_answered() -> Result<()> {
    let herd = herd_of_two().await?;
    for text in ["SET TRANSACTION READ WRITE", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"] {
        let mut session = herd.raw().await?;
        session.query("BEGIN READ ONLY").await?;
        session.query("SELECT n FROM kept").await?;
        is_on(&herd.cluster.server(2)?).await?;
        let refused = session.query(text).await?;
        let code = refused.error().map(|error| error.code().to_owned());
        ensure!(code.as_deref() == Some("25001"), "{text}: {refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_standby_refuses_in_one_transaction_leaves_the_others_there_but_its_own_next() -> Result<()> {
    let herd = herd_of_two().await?;
    let standby = herd.cluster.server(2)?;
    let schema = "CREATE MATERIALIZED VIEW never AS SELECT 1 AS n WITH NO DATA; \
        CREATE FUNCTION touches(int, int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN txid_current() > 0; END'; \
        CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = touches)";
    herd.connect().await?.batch_execute(schema).await?;
    herd.wait_replayed().await?;
    let mut session = herd.raw().await?;
    session.send(&begin_with("SELECT n FROM never")?).await?;
    let refused = session.read_answer().await?;
    ensure!(refused.error().is_some_and(|error| error.code() == "55000"), "{refused:?}");
    session.query("ROLLBACK").await?;
    let mut other = herd.raw().await?;
    other.send(&begin_with("SELECT n FROM kept")?).await?;
    ensure!(other.read_answer().await?.value().as_deref() == Some("7"));
    is_on(&standby).await?;
    other.query("ROLLBACK").await?;
    // The text does not show it; with the snapshot of the standby it cannot be run on the primary.
    for (attempt, code) in [(1, Some("25006")), (2, None)] {
        other.query("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        other.query("SELECT n FROM kept").await?;
        let answer = other.query("SELECT n FROM kept WHERE n === 1").await?;
        let told = answer.error().map(|error| error.code().to_owned());
        ensure!(told.as_deref() == code, "{attempt}: {answer:?}");
        other.query("ROLLBACK").await?;
    }
    is_misread_by_nobody(&herd).await
}

/// What a transaction has set for itself is not in force any more when it is given up.
async fn tells_what_is_undone(herd: &Herd) -> Result<()> {
    let mut session = herd.raw().await?;
    for text in [
        "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "SET LOCAL DateStyle = 'SQL, DMY'",
        "SELECT n FROM kept",
    ] {
        ensure!(session.query(text).await?.error().is_none(), "{text}");
    }
    let refused = session.query("SELECT twice(21)").await?;
    let told: Vec<_> = refused.frames.iter().filter(|frame| frame.tag == b'S').collect();
    let is_told = told.len() == 1 && told.iter().all(|frame| frame.payload.starts_with(b"DateStyle\0ISO, "));
    ensure!(is_told && refused.error().is_some_and(|error| error.code() == "40001"), "{refused:?}");
    ensure!(session.query("ROLLBACK").await?.transaction_state() == Some('I'));
    Ok(())
}

/// What was read on a standby by what a transaction had set for itself, before that was refused something, is not for others.
async fn is_misread_by_nobody(herd: &Herd) -> Result<()> {
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let run = || -> Result<BytesMut> {
        let mut batch = BytesMut::new();
        let bound = frontend::bind("", "month", [], [""; 0], |_, _| Ok(IsNull::No), [], &mut batch);
        ensure!(bound.is_ok());
        frontend::execute("", 0, &mut batch)?;
        frontend::sync(&mut batch);
        Ok(batch)
    };
    let mut define = BytesMut::new();
    frontend::parse("month", "SELECT extract(month FROM '01/02/2003'::date)::int", [], &mut define)?;
    frontend::sync(&mut define);
    let mut reader = herd.raw().await?;
    // On the primary.
    for batch in [batch_of(&["BEGIN"])?, define.clone(), batch_of(&["ROLLBACK"])?] {
        reader.send(&batch).await?;
        ensure!(reader.read_answer().await?.error().is_none());
    }
    reader.query("BEGIN READ ONLY").await?;
    is_on(&standby).await?;
    reader.query("SET LOCAL DateStyle = 'ISO, DMY'").await?;
    reader.send(&run()?).await?;
    ensure!(reader.read_answer().await?.value().as_deref() == Some("2"));
    ensure!(reader.query("SELECT k.n FROM kept k WHERE k.n === 1").await?.error().is_none());
    is_on(&primary).await?;
    reader.query("ROLLBACK").await?;
    let mut other = herd.raw().await?;
    for batch in [define, run()?] {
        other.send(&batch).await?;
        let answer = other.read_answer().await?;
        ensure!(answer.value().is_none_or(|month| month == "1"), "{answer:?}");
    }
    Ok(())
}

/// Blocks that say something of themselves besides their reads.
const BLOCKS: [&[&str]; 4] = [
    &[
        "BEGIN READ ONLY",
        "SHOW transaction_read_only",
        "SHOW TRANSACTION ISOLATION LEVEL",
        "SET LOCAL statement_timeout = '7s'",
        "SAVEPOINT a",
        "SET LOCAL statement_timeout = '8s'",
        "SHOW statement_timeout",
        "SELECT n / 0 FROM kept",
        "SELECT n FROM kept",
        "ROLLBACK TO a",
        "SHOW statement_timeout",
        "SELECT n FROM kept",
        "RELEASE a",
        "EXPLAIN (COSTS off) SELECT n FROM kept",
        "COMMIT",
    ],
    &[
        "START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "DECLARE \"C 1\" SCROLL CURSOR WITHOUT HOLD FOR SELECT n FROM generate_series(1, 5) n, kept k",
        "FETCH 2 FROM \"C 1\"",
        "MOVE 1 IN \"C 1\"",
        "FETCH BACKWARD 1 FROM \"C 1\"",
        "SAVEPOINT b",
        "FETCH 1 FROM missing",
        "ROLLBACK TO SAVEPOINT b",
        "FETCH ALL FROM \"C 1\"",
        "CLOSE \"C 1\"",
        "CLOSE \"C 1\"",
        "ROLLBACK",
    ],
    &[
        "BEGIN READ ONLY",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE",
        "SHOW transaction_isolation",
        "SELECT n FROM kept",
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "ROLLBACK",
    ],
    &[
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE",
        "SELECT n FROM kept",
        "SAVEPOINT a",
        "COMMIT AND CHAIN",
        "SHOW transaction_isolation",
        "SHOW transaction_deferrable",
        "SELECT n FROM kept",
        "ROLLBACK TO a",
        "ROLLBACK AND CHAIN",
        "SHOW transaction_read_only",
        "SELECT n FROM kept",
        "ROLLBACK",
    ],
];

/// The answers of a server, and of pgherd, to the same.
async fn both(direct: &mut RawClient, session: &mut RawClient, batch: &[u8]) -> Result<()> {
    let mut said = Vec::new();
    for client in [direct, session] {
        client.send(batch).await?;
        let answer = client.read_answer().await?;
        said.push(answer.frames.into_iter().map(|frame| (frame.tag, frame.payload)).collect::<Vec<_>>());
    }
    ensure!(said.first() == said.last(), "{}: {said:?}", batch.escape_ascii());
    Ok(())
}

#[tokio::test]
async fn what_a_transaction_says_of_itself_is_answered_by_its_standby_as_by_one_server() -> Result<()> {
    let herd = herd_of_two().await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let password = herd.cluster.credentials().password("app");
    let mut direct = RawClient::login((primary.address(), primary.port()), "app", "app", password).await?;
    for (block, is_simple) in BLOCKS.iter().flat_map(|block| [(block, true), (block, false)]) {
        let mut session = herd.raw().await?;
        let (end, texts) = block.split_last().ok_or_else(|| pgherd_testkit::Error::msg("no block"))?;
        let write = |text: &str| -> Result<BytesMut> {
            let mut query = BytesMut::new();
            frontend::query(text, &mut query)?;
            if is_simple { Ok(query) } else { batch_of(&[text]) }
        };
        for text in texts {
            both(&mut direct, &mut session, &write(text)?).await?;
        }
        is_on(&standby).await?;
        both(&mut direct, &mut session, &write(end)?).await?;
        ensure!(blocks(&standby).await? == 0);
        // As drivers say that guard each statement.
        both(
            &mut direct,
            &mut session,
            &batch_of(&["BEGIN READ ONLY", "SAVEPOINT s", "SELECT n FROM kept"])?,
        )
        .await?;
        both(&mut direct, &mut session, &batch_of(&["RELEASE s", "SAVEPOINT s", "SELECT n / 0 FROM kept"])?)
            .await?;
        both(&mut direct, &mut session, &batch_of(&["ROLLBACK TO s", "SELECT n FROM kept"])?).await?;
        is_on(&standby).await?;
        both(&mut direct, &mut session, &write("COMMIT")?).await?;
    }
    goes_along(&herd).await?;
    reads_by_default(&herd).await?;
    leaves_at_once(&herd).await
}

/// With what it has said of itself, a transaction comes to the primary.
async fn goes_along(herd: &Herd) -> Result<()> {
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let mut session = herd.raw().await?;
    for text in
        ["BEGIN READ ONLY", "SET LOCAL app.tenant = 'x; y' -- so", "SAVEPOINT \"A\"", "SELECT n FROM kept"]
    {
        ensure!(session.query(text).await?.error().is_none(), "{text}");
    }
    is_on(&standby).await?;
    ensure!(session.query("SELECT is_standby()").await?.value().as_deref() == Some("f"));
    ensure!(session.query("SELECT n / 0 FROM kept").await?.transaction_state() == Some('E'));
    ensure!(session.query("ROLLBACK TO \"A\"").await?.transaction_state() == Some('T'));
    ensure!(session.query("SHOW app.tenant").await?.value().as_deref() == Some("x; y"));
    is_on(&primary).await?;
    ensure!(session.query("COMMIT").await?.transaction_state() == Some('I'));
    // Others see nothing of it on either connection.
    let other = herd.connect().await?;
    for text in
        ["SELECT current_setting('app.tenant', true)", "SELECT current_setting('app.tenant', true), twice(1)"]
    {
        ensure!(other.query_one(text, &[]).await?.get::<_, Option<String>>(0).is_none(), "{text}");
    }
    // A cursor cannot come along.
    let mut session = herd.raw().await?;
    for text in ["BEGIN READ ONLY", "DECLARE c CURSOR FOR SELECT n FROM kept", "FETCH c"] {
        ensure!(session.query(text).await?.error().is_none(), "{text}");
    }
    let refused = session.query("SELECT is_standby()").await?;
    ensure!(refused.error().is_some_and(|error| error.code() == "40001"), "{refused:?}");
    session.query("ROLLBACK").await?;
    ensure!(session.query("BEGIN READ ONLY").await?.transaction_state() == Some('T'));
    is_on(&primary).await?;
    session.query("ROLLBACK").await?;
    // One that has read, and is followed by another at once, is begun anew as that.
    let mut session = herd.raw().await?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE";
    for text in [begin, "SELECT n FROM kept", "COMMIT AND CHAIN"] {
        ensure!(session.query(text).await?.error().is_none(), "{text}");
    }
    is_on(&standby).await?;
    ensure!(session.query("SELECT is_standby()").await?.value().as_deref() == Some("f"));
    ensure!(session.query("SHOW transaction_deferrable").await?.value().as_deref() == Some("on"));
    ensure!(session.query("SHOW transaction_isolation").await?.value().as_deref() == Some("repeatable read"));
    session.query("ROLLBACK").await?;
    Ok(())
}

/// Who only reads by default reads on a standby, and who does not any more writes.
async fn reads_by_default(herd: &Herd) -> Result<()> {
    let standby = herd.cluster.server(2)?;
    for set in
        ["SET default_transaction_read_only = on", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"]
    {
        let mut session = herd.raw().await?;
        session.query(set).await?;
        session.query("BEGIN").await?;
        ensure!(session.query("SELECT n FROM kept").await?.value().as_deref() == Some("7"));
        is_on(&standby).await?;
        let refused = session.query("INSERT INTO kept VALUES (1)").await?;
        ensure!(refused.error().is_some_and(|error| error.code() == "25006"), "{refused:?}");
        session.query("ROLLBACK; RESET ALL; SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE").await?;
        session.query("BEGIN").await?;
        let written = session.query("INSERT INTO kept VALUES (1)").await?;
        ensure!(written.error().is_none(), "{written:?}");
        session.query("ROLLBACK").await?;
    }
    Ok(())
}

/// A standby that says nothing any more is not waited for.
async fn leaves_at_once(herd: &Herd) -> Result<()> {
    let standby = herd.cluster.server(2)?;
    let mut session = herd.raw().await?;
    session.query("BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY").await?;
    session.query("SELECT n FROM kept").await?;
    is_on(&standby).await?;
    standby.freeze().await?;
    let begun = Instant::now();
    let answer = session.query("SELECT is_standby()").await?;
    let took = begun.elapsed();
    standby.thaw().await?;
    ensure!(answer.value().as_deref() == Some("f") && took < Duration::from_secs(5), "{took:?} {answer:?}");
    Ok(())
}
