//! `currval()` and `lastval()` tell a session of its own numbers, and never of another's.

use bytes::BytesMut;
use pgherd_testkit::client::{Answer, RawClient, frontend};
use pgherd_testkit::{Context, PgherdBuilder, Result, bail, ensure};
use tokio::task::JoinSet;
use toml::{Table, Value};

use crate::front::{Front, PATIENCE, bind, execute, extended, messages};

const LAST: &str = "SELECT owner FROM t WHERE id = lastval()";
const CURRENT: &str = "SELECT owner FROM t WHERE id = pg_catalog.\"currval\"('t_id_seq')";
const UNDEFINED: &str = "55000";
const PASSWORD: &str = "sequences";

/// A server whose roles have, each, heard of nobody who asks; and a pgherd with these settings.
async fn front(settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder) -> Result<Front> {
    let front = Front::with(settings).await?;
    let sql = "CREATE TABLE t (id serial PRIMARY KEY, owner text); CREATE TABLE plain (a text); \
               GRANT ALL ON t, plain, t_id_seq TO PUBLIC";
    front.server()?.query_in("app", sql).await?;
    Ok(front)
}

/// One connection, on which all sessions follow each other.
async fn narrow() -> Result<Front> {
    front(|pgherd| pgherd.set("pool.size", 1).set("pool.pinned_size", 3)).await
}

/// Two clients of a role that is new.
async fn two(front: &Front, role: &str) -> Result<[RawClient; 2]> {
    let sql = format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'");
    front.server()?.query(&sql).await?;
    let address = front.pgherd.address();
    Ok([
        RawClient::login(address, role, "app", PASSWORD).await?,
        RawClient::login(address, role, "app", PASSWORD).await?,
    ])
}

/// The first value of the first row, or the SQLSTATE of the error.
fn outcome(answer: &Answer) -> String {
    match answer.error() {
        Some(error) => error.code().to_owned(),
        None => answer.value().unwrap_or_else(|| "nothing".to_owned()),
    }
}

async fn ask(client: &mut RawClient, sql: &str) -> Result<String> {
    Ok(outcome(&client.query(sql).await?))
}

async fn send(client: &mut RawClient, bytes: &[u8]) -> Result<String> {
    client.send(bytes).await?;
    Ok(outcome(&client.read_answer().await?))
}

async fn insert(client: &mut RawClient, owner: &str) -> Result<()> {
    let answer = client.query(&format!("INSERT INTO t (owner) VALUES ('{owner}')")).await?;
    ensure!(answer.error().is_none(), "{owner}: {answer:?}");
    Ok(())
}

#[tokio::test]
async fn each_of_many_clients_is_told_its_own_number_when_it_is_known_that_they_ask() -> Result<()> {
    let front = front(|pgherd| pgherd.set("pool.size", 2).set("pool.pinned_size", 20)).await?;
    ensure!(ask(&mut front.raw().await?, "SELECT lastval()").await? == UNDEFINED);
    let mut clients = JoinSet::new();
    for number in 0..16 {
        let mut client = front.raw().await?;
        clients.spawn(async move {
            for round in 0..30 {
                let owner = format!("client {number} round {round}");
                insert(&mut client, &owner).await?;
                let told = ask(&mut client, if round % 2 == 0 { LAST } else { CURRENT }).await?;
                ensure!(told == owner, "{owner} was told of {told}");
            }
            Result::Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}

#[tokio::test]
async fn before_it_is_known_that_they_ask_no_client_is_told_anothers_number() -> Result<()> {
    let front = front(|pgherd| pgherd.set("pool.size", 2).set("pool.pinned_size", 20)).await?;
    let mut clients = JoinSet::new();
    for number in 0..12 {
        let mut client = front.raw().await?;
        clients.spawn(async move {
            let owner = format!("client {number}");
            for _ in 0..=number {
                insert(&mut client, &owner).await?;
            }
            let mut undefined = 0;
            for _ in 0..30 {
                insert(&mut client, &owner).await?;
                match ask(&mut client, LAST).await? {
                    told if told == owner => {}
                    told if told == UNDEFINED => undefined += 1,
                    told => bail!("{owner} was told of {told}"),
                }
            }
            // The first number may have been taken elsewhere; all after it are kept.
            ensure!(undefined <= 1, "{owner} was told {undefined} times that it has no number");
            Result::Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}

#[tokio::test]
async fn the_first_who_asks_is_served_by_the_connection_of_its_last_number() -> Result<()> {
    let front = narrow().await?;
    let [mut one, mut other] = two(&front, "nobody_since").await?;
    insert(&mut other, "other").await?;
    insert(&mut one, "one").await?;
    ensure!(ask(&mut one, LAST).await? == "one");
    // From now on it keeps the connection, and so does the other when it has taken a number.
    insert(&mut other, "other").await?;
    ensure!(ask(&mut other, LAST).await? == "other" && ask(&mut one, LAST).await? == "one");
    front.pgherd.wait_log("a session has asked for currval() or lastval()", PATIENCE).await?;

    let [mut one, mut other] = two(&front, "others_since").await?;
    insert(&mut one, "one").await?;
    insert(&mut other, "other").await?;
    ensure!(ask(&mut one, LAST).await? == UNDEFINED, "the other has used the connection");
    insert(&mut one, "one").await?;
    insert(&mut other, "other").await?;
    ensure!(ask(&mut one, LAST).await? == "one" && ask(&mut other, CURRENT).await? == "other");

    // On several connections, each of which is free.
    let front = self::front(|pgherd| pgherd.set("pool.size", 2).set("pool.pinned_size", 3)).await?;
    let [mut one, mut other] = two(&front, "of_several").await?;
    other.query("BEGIN").await?;
    insert(&mut one, "one").await?;
    other.query("COMMIT").await?;
    // That of the other was given back last.
    ensure!(ask(&mut one, LAST).await? == "one");
    Ok(())
}

#[tokio::test]
async fn in_one_transaction_and_in_one_text_a_session_is_told_its_own_number() -> Result<()> {
    let front = narrow().await?;
    let [mut one, mut other] = two(&front, "transactions").await?;
    let text = format!("INSERT INTO t (owner) VALUES ('one'); {LAST}");
    for round in 0..3 {
        insert(&mut other, "other").await?;
        one.query("BEGIN").await?;
        insert(&mut one, "one").await?;
        ensure!(ask(&mut one, CURRENT).await? == "one" && ask(&mut one, LAST).await? == "one", "{round}");
        ensure!(one.query("COMMIT").await?.error().is_none());
    }
    let [mut one, mut other] = two(&front, "texts").await?;
    for round in 0..3 {
        insert(&mut other, "other").await?;
        ensure!(ask(&mut one, &text).await? == "one", "{round}");
    }
    let [mut one, mut other] = two(&front, "pipelines").await?;
    for round in 0..3 {
        insert(&mut other, "other").await?;
        let batch = messages(|out| {
            run("", "INSERT INTO t (owner) VALUES ('one')", out)?;
            run("", LAST, out)?;
            frontend::sync(out);
            Ok(())
        })?;
        ensure!(send(&mut one, &batch).await? == "one", "{round}");
    }
    Ok(())
}

/// Parse, Bind and Execute.
fn run(name: &str, sql: &str, out: &mut BytesMut) -> std::io::Result<()> {
    frontend::parse(name, sql, [], out)?;
    bind(name, &[], out)?;
    frontend::execute("", 0, out)
}

#[tokio::test]
async fn however_it_asks_a_session_that_has_taken_no_number_is_told_so() -> Result<()> {
    let front = narrow().await?;
    let long = format!("SELECT '{}', lastval()", "x".repeat(40_000));
    let texts = [
        "SELECT lastval()",
        "SELECT pg_catalog . \"lastval\" /* of whom? */ ()",
        "SELECT U&\"last\\0076al\"()",
        "INSERT INTO plain VALUES (currval('t_id_seq'))",
        "DO $$ BEGIN EXECUTE 'SELECT last' || 'val()'; PERFORM lastval(); END $$",
        "COPY (SELECT lastval()) TO STDOUT",
        "PREPARE s AS SELECT lastval(); EXECUTE s",
        "BEGIN; SELECT lastval()",
        "DECLARE c CURSOR WITH HOLD FOR SELECT lastval()",
        &long,
    ];
    for (number, text) in texts.iter().enumerate() {
        let [mut one, mut other] = two(&front, &format!("simple{number}")).await?;
        insert(&mut other, "other").await?;
        ensure!(ask(&mut one, text).await? == UNDEFINED, "{text}");
        one.query("ROLLBACK").await?;
        let [mut one, mut other] = two(&front, &format!("extended{number}")).await?;
        if !text.contains("; ") || text.starts_with("DO") {
            insert(&mut other, "other").await?;
            ensure!(send(&mut one, &extended("", text, &[])?).await? == UNDEFINED, "{text}, extended");
        }
        front.server()?.query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename ~ '^(simple|extended)'").await?;
    }
    Ok(())
}

#[tokio::test]
async fn prepared_statements_ask_too() -> Result<()> {
    let front = narrow().await?;
    let [mut one, mut other] = two(&front, "drivers").await?;
    let prepare = messages(|out| {
        frontend::parse("ask", LAST, [], out)?;
        frontend::describe(b'S', "ask", out)?;
        frontend::sync(out);
        Ok(())
    })?;
    send(&mut one, &prepare).await?;
    let add = "INSERT INTO t (owner) VALUES ($1) RETURNING owner";
    let close = messages(|out| {
        frontend::close(b'S', "add", out)?;
        frontend::sync(out);
        Ok(())
    })?;
    for owner in ["other", "one", "other"] {
        let client = if owner == "one" { &mut one } else { &mut other };
        ensure!(send(client, &extended("add", add, &[owner])?).await? == owner);
        send(client, &close).await?;
    }
    ensure!(send(&mut one, &execute("ask", &[])?).await? == "one");
    ensure!(send(&mut other, &extended("ask", LAST, &[])?).await? == "other");

    // Prepared in SQL, and executed on a connection that knows others' numbers.
    let [mut one, mut other] = two(&front, "in_sql").await?;
    one.query(&format!("PREPARE ask AS {LAST}")).await?;
    insert(&mut other, "other").await?;
    ensure!(ask(&mut one, "EXECUTE ask").await? == UNDEFINED);
    one.query("PREPARE add AS INSERT INTO t (owner) VALUES ('one')").await?;
    one.query("EXECUTE add").await?;
    insert(&mut other, "other").await?;
    ensure!(ask(&mut one, "EXECUTE ask").await? == "one");
    Ok(())
}

#[tokio::test]
async fn what_pgherd_says_in_between_disturbs_neither_transactions_nor_batches() -> Result<()> {
    let front = narrow().await?;
    let [mut one, mut other] = two(&front, "failed").await?;
    insert(&mut other, "other").await?;
    one.query("BEGIN; SAVEPOINT a").await?;
    ensure!(ask(&mut one, "SELECT 1/0").await? == "22012");
    ensure!(ask(&mut one, LAST).await? == "25P02");
    one.query("ROLLBACK TO a").await?;
    ensure!(ask(&mut one, LAST).await? == UNDEFINED, "it can be asked again");
    ensure!(ask(&mut one, LAST).await? == "25P02");
    ensure!(one.query("ROLLBACK").await?.command().as_deref() == Some("ROLLBACK"));

    let [mut one, mut other] = two(&front, "batches").await?;
    insert(&mut other, "other").await?;
    // What stands before it in the batch is of the same transaction.
    let batch = messages(|out| {
        run("", "UPDATE t SET owner = 'changed'", out)?;
        run("", "SELECT lastval()", out)?;
        frontend::sync(out);
        Ok(())
    })?;
    ensure!(send(&mut one, &batch).await? == UNDEFINED);
    ensure!(ask(&mut one, "SELECT count(*)::text FROM t WHERE owner = 'changed'").await? == "0");
    let [mut one, mut other] = two(&front, "portals").await?;
    insert(&mut other, "other").await?;
    // A portal and the unnamed statement that were there before are there afterwards.
    let begin = messages(|out| {
        run("", "BEGIN", out)?;
        frontend::parse("", "SELECT g::text FROM generate_series(1, 3) g", [], out)?;
        bind("", &[], out)?;
        frontend::execute("", 1, out)?;
        frontend::sync(out);
        Ok(())
    })?;
    ensure!(send(&mut one, &begin).await? == "1");
    let batch = messages(|out| {
        frontend::parse("ask", "SELECT count(*)::text FROM t WHERE id = lastval() AND false", [], out)?;
        frontend::execute("", 1, out)?;
        bind("", &[], out)?;
        frontend::execute("", 1, out)?;
        frontend::sync(out);
        Ok(())
    })?;
    one.send(&batch).await?;
    let rows = one.read_answer().await?.rows();
    ensure!(rows == [[Some("2".into())], [Some("1".into())]], "{rows:?}");
    Ok(())
}

/// A FunctionCall of `pg_backend_pid()`.
const CALL: &[u8] = b"F\0\0\0\x0e\0\0\x07\xea\0\0\0\0\0\0";

#[tokio::test]
async fn in_a_transaction_that_has_failed_no_answer_is_lost_and_nobody_elses_number_told() -> Result<()> {
    let front = narrow().await?;
    let long = "x".repeat(40_000);
    let [mut one, mut other] = two(&front, "long").await?;
    insert(&mut other, "other").await?;
    one.query("BEGIN").await?;
    ensure!(ask(&mut one, "SELECT 1/0").await? == "22012");
    // It is too long to be seen, and does not ask.
    ensure!(ask(&mut one, &format!("COMMIT; SELECT '{long}'")).await? == long);
    for (number, sql) in [
        format!("COMMIT; SELECT '{long}'; SELECT lastval()"),
        format!("COMMIT; SELECT lastval()::text || '{long}'"),
    ]
    .into_iter()
    .enumerate()
    {
        let [mut one, mut other] = two(&front, &format!("long{number}")).await?;
        insert(&mut other, "other").await?;
        let batch = messages(|out| {
            ["BEGIN", "SELECT 1/0", &sql, "SELECT 1"]
                .into_iter()
                .try_for_each(|sql| frontend::query(sql, out))
        })?;
        one.send(&batch).await?;
        for expected in ["nothing", "22012", "25P02", "25P02"] {
            let answer = one.read_answer().await?;
            ensure!(outcome(&answer) == expected, "{expected}: {answer:?}");
        }
        ensure!(one.query("ROLLBACK").await?.command().as_deref() == Some("ROLLBACK"));
        ensure!(ask(&mut one, LAST).await? == UNDEFINED);
    }

    let [mut one, mut other] = two(&front, "calls").await?;
    insert(&mut other, "other").await?;
    let batch = messages(|out| {
        frontend::query("BEGIN", out)?;
        frontend::query("SELECT 1/0", out)?;
        // A batch without its Sync: with what is refused in it, the call would be skipped.
        frontend::close(b'S', "none", out)?;
        out.extend_from_slice(CALL);
        Ok(())
    })?;
    one.send(&batch).await?;
    for expected in ["nothing", "22012", "25P02"] {
        let answer = one.read_answer().await?;
        ensure!(outcome(&answer) == expected, "{expected}: {answer:?}");
    }
    ensure!(one.query("ROLLBACK").await?.command().as_deref() == Some("ROLLBACK"));
    Ok(())
}

#[tokio::test]
async fn whoever_discards_its_numbers_gives_its_connection_back() -> Result<()> {
    let front = front(|pgherd| {
        pgherd.set("pool.size", 1).set("pool.pinned_size", 0).set("pool.query_wait_timeout", "500ms")
    })
    .await?;
    for (number, discard) in ["DISCARD SEQUENCES", "DISCARD ALL"].into_iter().enumerate() {
        let [mut one, mut other] = two(&front, &format!("discards{number}")).await?;
        ensure!(ask(&mut one, "SELECT lastval()").await? == UNDEFINED);
        ensure!(ask(&mut other, "SELECT 'served'").await? == "served", "who only asks keeps nothing");
        insert(&mut one, "one").await?;
        let refused = other.query("SELECT 1").await?.error().context("the other was served")?;
        ensure!(refused.code() == "53300", "{refused:?}");
        ensure!(format!("{refused:?}").contains("a number that it has taken of a sequence"), "{refused:?}");
        let mut console =
            RawClient::login(front.pgherd.address(), "repmgr", "pgherd", front.password("repmgr")).await?;
        let pins = console.query("SHOW PINS").await?.rows();
        ensure!(format!("{pins:?}").contains("a number that it has taken of a sequence"), "{pins:?}");
        ensure!(ask(&mut one, LAST).await? == "one");
        ensure!(one.query(discard).await?.command().as_deref() == Some(discard));
        ensure!(ask(&mut other, "SELECT 'served'").await? == "served");
        ensure!(ask(&mut one, LAST).await? == UNDEFINED);
        one.query(&format!("{discard}; SELECT 1")).await?;
        ensure!(ask(&mut other, "SELECT 'served'").await? == "served");
        drop((one, other));
        front.wait_all_idle(0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_setting_says_for_whom_it_is_done_and_is_followed_at_a_reload() -> Result<()> {
    let override_for = |user: &str, sequences: &str| {
        let entries = [("user", user), ("sequences", sequences)];
        Value::Table(
            entries.map(|(key, value)| (key.to_owned(), Value::from(value))).into_iter().collect::<Table>(),
        )
    };
    let mut front = front(|pgherd| {
        let overrides = vec![override_for("careless", "off"), override_for("careful", "pin")];
        pgherd.set("pool.size", 1).set("pool.pinned_size", 3).set("pool.override", overrides)
    })
    .await?;
    let [mut one, mut other] = two(&front, "careful").await?;
    insert(&mut one, "one").await?;
    insert(&mut other, "other").await?;
    ensure!(ask(&mut one, LAST).await? == "one" && ask(&mut other, LAST).await? == "other");

    let [mut one, mut other] = two(&front, "careless").await?;
    insert(&mut one, "one").await?;
    insert(&mut other, "other").await?;
    ensure!(ask(&mut one, LAST).await? == "other", "nothing is done about it");
    front.pgherd.set("pool.override", vec![override_for("careless", "pin")])?;
    front.pgherd.reload().await?;
    ensure!(ask(&mut one, LAST).await? == UNDEFINED);
    insert(&mut one, "one").await?;
    insert(&mut other, "other").await?;
    ensure!(ask(&mut one, LAST).await? == "one" && ask(&mut other, LAST).await? == "other");
    Ok(())
}

#[tokio::test]
async fn in_session_mode_nobody_begins_with_the_numbers_of_those_who_shared_the_connection() -> Result<()> {
    let mut front = narrow().await?;
    let [mut one, _] = two(&front, "shares").await?;
    insert(&mut one, "one").await?;
    front.pgherd.set("pool.mode", "session")?;
    front.pgherd.reload().await?;
    let mut other = RawClient::login(front.pgherd.address(), "shares", "app", PASSWORD).await?;
    ensure!(ask(&mut other, LAST).await? == UNDEFINED);
    insert(&mut other, "other").await?;
    ensure!(ask(&mut other, LAST).await? == "other");
    drop(other);
    let mut third = RawClient::login(front.pgherd.address(), "shares", "app", PASSWORD).await?;
    ensure!(ask(&mut third, LAST).await? == UNDEFINED, "the next has the last one's number");
    Ok(())
}
