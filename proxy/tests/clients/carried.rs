//! Run-time parameters that a session sets are in force for it on whatever connection it is served, and for nobody else.

use pgherd_testkit::client::{ErrorFields, RawClient, frontend};
use pgherd_testkit::{Result, anyhow, ensure, eventually};

use crate::front::{Front, PATIENCE, comparable, execute, extended, messages};
use crate::http::metric;

const SEEN: &str = "SELECT name || '=' || setting FROM pg_settings \
                    WHERE name IN ('work_mem', 'search_path', 'TimeZone', 'DateStyle', 'application_name', \
                    'client_encoding', 'default_transaction_isolation', 'statement_timeout') ORDER BY name";

/// Sets the same parameters to other values, so that nothing fits by chance.
const OTHERS: &str = "SET work_mem = '11MB'; SET search_path = others; SET TimeZone = 'Asia/Tokyo'; \
                      SET DateStyle = 'German'; SET application_name = 'others'";

/// Two clients of one pool with a single connection.
async fn front() -> Result<Front> {
    Front::with(|pgherd| pgherd.set("pool.size", 1).set("pool.pinned_size", 0)).await
}

/// Ends the clients' server connections, and waits until they are gone.
async fn end_connections(front: &Front) -> Result<()> {
    let end = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE usename = 'app'";
    front.server()?.scalar(end).await?;
    front.wait_all_idle(0).await
}

async fn succeeds(client: &mut RawClient, sql: &str) -> Result<()> {
    let answer = client.query(sql).await?;
    ensure!(answer.error().is_none(), "{sql}: {answer:?}");
    Ok(())
}

const SCRIPTS: &[&[&str]] = &[
    &[
        "SET work_mem = '7MB'",
        "SET search_path TO \"a b\", pg_catalog",
        "SET TIME ZONE INTERVAL '2:30' HOUR TO MINUTE",
    ],
    &["SET NAMES 'LATIN1'", "SET application_name = 'it''s \\ mine'", "SET DateStyle = 'SQL, DMY'"],
    &[
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET SESSION statement_timeout TO '77s'",
    ],
    &["BEGIN", "SET work_mem = '7MB'", "COMMIT"],
    &["BEGIN", "SET work_mem = '7MB'", "ROLLBACK"],
    &["BEGIN", "SET work_mem = '7MB'", "SELECT 1/0", "COMMIT"],
    &["BEGIN", "SET work_mem = '7MB'", "SAVEPOINT a", "SET work_mem = '8MB'", "ROLLBACK TO a", "COMMIT"],
    &["BEGIN", "SET work_mem = '7MB'", "SET LOCAL work_mem = '8MB'", "COMMIT"],
    &["BEGIN", "SET LOCAL work_mem = '8MB'", "SET work_mem = '7MB'", "COMMIT AND CHAIN", "ROLLBACK"],
    &["SET work_mem = '7MB'; SELECT 1/0"],
    &["BEGIN; SET work_mem = '7MB'; COMMIT; SELECT 1/0"],
    &["SET LOCAL work_mem = '7MB'", "SET work_mem = 'many'", "SET nosuch = 1"],
    &["SELECT set_config('work_mem', '7MB', false), set_config('search_path', '', false)"],
    &["SELECT set_config('work_mem', '7MB', true)"],
    &["SET NAMES 'LATIN1'", "SET NAMES"],
    &["SET NAMES 'LATIN1'", "SET NAMES DEFAULT"],
    &[
        "BEGIN",
        "SET work_mem = '7MB'",
        "COMMIT AND CHAIN",
        "SET work_mem = '8MB'",
        "ROLLBACK AND CHAIN",
        "COMMIT",
    ],
    &["SET work_mem = '7MB'", "SET search_path = x", "RESET work_mem"],
    &["SET work_mem = '7MB'", "SET search_path = x", "SET work_mem TO DEFAULT"],
    &["SET work_mem = '7MB'", "SET application_name = 'mine'", "RESET ALL"],
    &["SET work_mem = '7MB'", "BEGIN", "RESET ALL", "ROLLBACK"],
    &["SET work_mem = '7MB'", "DISCARD ALL"],
    &["SET work_mem = '7MB'", "SELECT set_config('work_mem', NULL, false)"],
    &[
        "SET transaction_isolation = 'serializable'",
        "SET work_mem = '7MB'",
        "BEGIN",
        "SHOW transaction_isolation",
        "COMMIT",
    ],
];

#[tokio::test]
async fn what_was_set_is_in_force_for_its_session_as_on_a_connection_of_its_own() -> Result<()> {
    let front = front().await?;
    let [_, pgherd] = front.both()?;
    let mut wrong = Vec::new();
    for script in SCRIPTS {
        for startup in
            [&[][..], &[("work_mem", "5MB"), ("application_name", "login"), ("options", "-c app.x=1")]]
        {
            let what = format!("{script:?} {startup:?}");
            let told = front.same(&what, async |address| {
                let mut client = front.login(address, startup).await?;
                let mut other = front.login(address, &[]).await?;
                // What a reset itself is answered with in between is in session_defaults.rs and docs/clients.md.
                let resets = script
                    .iter()
                    .any(|sql| ["RESET", "DISCARD", "NULL", "NAMES"].iter().any(|word| sql.contains(word)));
                let mut seen = Vec::new();
                for sql in script.iter().chain(&[SEEN, SEEN]) {
                    let answer = client.query(sql).await?;
                    if *sql == SEEN || !resets {
                        let frames = comparable(&answer.frames).into_iter();
                        seen.extend(frames.filter(|frame| !resets || !frame.starts_with('S')));
                    }
                    if address == pgherd && answer.transaction_state() == Some('I') {
                        succeeds(&mut other, OTHERS).await?;
                    }
                }
                Ok(seen)
            });
            if let Err(error) = told.await {
                wrong.push(format!("{error:#}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn what_one_session_sets_is_seen_by_no_other() -> Result<()> {
    let front = front().await?;
    let mut quiet = front.raw().await?;
    let before = quiet.query(SEEN).await?.rows();
    let mut one = front.raw().await?;
    for sql in [OTHERS, "BEGIN; SET work_mem = '7MB'; COMMIT", "RESET work_mem", "DISCARD ALL", OTHERS] {
        succeeds(&mut one, sql).await?;
        let seen = quiet.query(SEEN).await?.rows();
        ensure!(seen == before, "after {sql}: {seen:?}");
    }
    // It leaves in the middle of a transaction, and right behind a SET.
    for last in ["BEGIN; SET work_mem = '9MB'", "SET work_mem = '9MB'"] {
        let mut one = front.raw().await?;
        one.send(&messages(|out| frontend::query(last, out))?).await?;
        drop(one);
        let seen = quiet.query(SEEN).await?.rows();
        ensure!(seen == before, "after {last}: {seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_set_survives_its_connection() -> Result<()> {
    let front = front().await?;
    let mut one = front.raw().await?;
    succeeds(&mut one, "SET work_mem = '7MB'; SET search_path = mine").await?;
    let shown = "SELECT current_setting('work_mem') || current_setting('search_path')";
    ensure!(one.query(shown).await?.rows() == [[Some("7MBmine".into())]]);
    // The client has its answer a moment before its connection is given back.
    eventually("the session has no connection", PATIENCE, || async {
        let active = metric(&front, r#"pgherd_pool_servers_active{database="app",user="app"}"#).await?;
        Ok((active < 1.0).then_some(()))
    })
    .await?;
    end_connections(&front).await?;
    ensure!(one.query(shown).await?.rows() == [[Some("7MBmine".into())]]);

    // A session whose transaction is open on it ends with it, as in PostgreSQL.
    succeeds(&mut one, "BEGIN; SET work_mem = '9MB'").await?;
    end_connections(&front).await?;
    let ended = one.query("SELECT 1").await.err().ok_or_else(|| anyhow!("the session goes on"))?;
    let error = ended.downcast_ref::<ErrorFields>().map(ErrorFields::code);
    ensure!(error == Some("57P01"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_statement_that_two_prepare_means_to_each_what_its_own_parameters_say() -> Result<()> {
    let front = front().await?;
    let day = "SELECT extract(day FROM '01/02/2020'::date)::text";
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    let days = async |client: &mut RawClient, bytes: &[u8]| {
        client.send(bytes).await?;
        Result::<_>::Ok(client.read_answer().await?.rows())
    };
    let (prepare, run) = (extended("s", day, &[])?, execute("s", &[])?);
    // Prepared before its parameters were changed, and by another at the same time.
    ensure!(days(&mut one, &prepare).await? == [[Some("2".into())]]);
    ensure!(days(&mut other, &prepare).await? == [[Some("2".into())]]);
    succeeds(&mut one, "SET DateStyle = 'ISO, DMY'").await?;
    days(&mut one, &run).await?;
    ensure!(days(&mut other, &run).await? == [[Some("2".into())]]);
    let mut third = front.raw().await?;
    succeeds(&mut third, "SET DateStyle = 'ISO, DMY'").await?;
    ensure!(days(&mut third, &prepare).await? == [[Some("1".into())]]);
    ensure!(days(&mut other, &run).await? == [[Some("2".into())]]);
    ensure!(days(&mut third, &run).await? == [[Some("1".into())]]);

    // On connections that have neither.
    end_connections(&front).await?;
    days(&mut one, &run).await?;
    ensure!(days(&mut other, &run).await? == [[Some("2".into())]]);
    ensure!(days(&mut third, &run).await? == [[Some("1".into())]]);
    Ok(())
}

#[tokio::test]
async fn a_session_whose_parameters_cannot_be_asked_for_stays_where_they_are() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1).set("pool.pinned_size", 1)).await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    // A name that cannot be told in UTF-8, and a parameter without a name.
    let named = "DO $$ BEGIN PERFORM set_config('app.' || 'tenant', 'mine', false); END $$";
    for sql in ["SET NAMES 'LATIN1'; SET search_path = 'sch\u{e9}ma'", named] {
        succeeds(&mut one, "DISCARD ALL").await?;
        succeeds(&mut one, sql).await?;
        let seen = "SELECT pg_backend_pid()::text || current_setting('search_path') || current_setting('app.tenant', true)";
        let before = one.query(seen).await?.rows();
        succeeds(&mut other, OTHERS).await?;
        ensure!(one.query(seen).await?.rows() == before, "{sql}");
    }
    Ok(())
}
