//! What no text shows, such as a function that makes a temporary table, stays with its session and reaches no other.

use std::time::Duration;

use pgherd_testkit::client::RawClient;
use pgherd_testkit::{Context, PgherdBuilder, Result, ensure};
use tokio::task::JoinSet;

use crate::front::{Front, PATIENCE, execute, extended, says};

/// Functions that leave something, and what leads to them.
const SCHEMA: &str = "
    CREATE FUNCTION makes_table() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE left_here (i int); RETURN 1; END $$;
    CREATE FUNCTION drops_table() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DROP TABLE pg_temp.left_here; RETURN 1; END $$;
    CREATE FUNCTION \"Outer one\"() RETURNS int LANGUAGE sql AS $$ SELECT makes_table() $$;
    CREATE FUNCTION standard() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT \"Outer one\"(); END;
    CREATE FUNCTION of_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM makes_table(); RETURN NEW; END $$;
    CREATE TABLE watched (i int);
    CREATE TRIGGER watch AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION of_trigger();
    CREATE TABLE divided (i int) PARTITION BY RANGE (i);
    CREATE TABLE part PARTITION OF divided DEFAULT;
    CREATE TRIGGER watch AFTER INSERT ON part FOR EACH ROW EXECUTE FUNCTION of_trigger();
    CREATE VIEW seen AS SELECT makes_table() AS i;
    CREATE VIEW locks AS SELECT pg_advisory_lock(7) IS NULL AS i;
    CREATE TABLE filled (i int DEFAULT makes_table(), j int);
    CREATE PROCEDURE proceeds() LANGUAGE plpgsql AS $$ BEGIN COMMIT; PERFORM makes_table(); END $$;
    CREATE FUNCTION executes(what text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; RETURN 1; END $$;
    CREATE FUNCTION takes_lock() RETURNS int LANGUAGE sql AS $$ SELECT pg_advisory_lock(7); SELECT 1 $$;
    CREATE FUNCTION listens() RETURNS int LANGUAGE plpgsql AS $$ BEGIN LISTEN heard; RETURN 1; END $$;
    CREATE FUNCTION sets_custom() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.left', 'here', false) $$;
    CREATE FUNCTION sets_named(n text) RETURNS text LANGUAGE sql AS $$ SELECT set_config(n, 'here', false) $$;
    CREATE FUNCTION sets_made_up(n text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SET ' || n || ' = here'; RETURN 1; END $$;
    CREATE FUNCTION sets_locally(n text) RETURNS text LANGUAGE sql AS $$ SELECT set_config(n, coalesce('here'), true) $$;
    CREATE FUNCTION sets_role() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET ROLE guest; RETURN 1; END $$;
    CREATE FUNCTION sets_memory() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        -- Not for long.
        SET work_mem = '9MB'; RETURN 1; END $$;
    CREATE FUNCTION holds() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'; RETURN 1; END $$;
    CREATE FUNCTION harmless(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('work_mem', '8MB', true); RETURN i; END $$;
    CREATE FUNCTION turns_dates() RETURNS text LANGUAGE sql AS $$ SELECT set_config('DateStyle', 'ISO, DMY', true) $$;
    CREATE TABLE plain (i int);
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app";

const TABLE: &str = "SELECT (to_regclass('pg_temp.left_here') IS NOT NULL)::text";
const LOCK: &str =
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())::text";
const LISTENS: &str = "SELECT EXISTS (SELECT FROM pg_listening_channels())::text";
const CUSTOM: &str = "SELECT (current_setting('app.left', true) IS NOT DISTINCT FROM 'here')::text";
const UP: &str = "SELECT (current_setting('app.up', true) IS NOT DISTINCT FROM 'here')::text";
const ROLE: &str = "SELECT (current_user = 'guest')::text";
const MEMORY: &str = "SELECT (current_setting('work_mem') = '9MB')::text";
const CURSOR: &str = "SELECT EXISTS (SELECT FROM pg_cursors WHERE is_holdable)::text";

/// What is said, and how it is seen what that has left.
const LEFT: &[(&str, &str)] = &[
    ("SELECT makes_table()", TABLE),
    ("SELECT public.MAKES_TABLE ()", TABLE),
    ("SELECT \"Outer one\"()", TABLE),
    ("SELECT standard()", TABLE),
    ("INSERT INTO watched VALUES (1)", TABLE),
    ("BEGIN; INSERT INTO watched VALUES (1); COMMIT", TABLE),
    ("INSERT INTO divided VALUES (1)", TABLE),
    ("SELECT i FROM seen", TABLE),
    ("INSERT INTO filled (j) VALUES (1)", TABLE),
    ("CALL proceeds()", TABLE),
    ("DO $$ BEGIN PERFORM makes_table(); END $$", TABLE),
    ("DO $$ BEGIN EXECUTE 'CREATE TE' || 'MP TABLE left_here ()'; END $$", TABLE),
    ("SELECT executes('CREATE TE' || 'MP TABLE left_here ()')", TABLE),
    ("PREPARE p AS SELECT makes_table(); EXECUTE p", TABLE),
    ("SELECT takes_lock()", LOCK),
    ("SELECT i FROM locks", LOCK),
    ("TABLE seen", TABLE),
    ("PREPARE p AS TABLE locks; EXECUTE p", LOCK),
    ("SELECT listens()", LISTENS),
    ("SELECT sets_custom()", CUSTOM),
    ("SELECT sets_role()", ROLE),
    ("SELECT sets_memory()", MEMORY),
    ("SELECT holds()", CURSOR),
];

async fn front(settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder) -> Result<Front> {
    let front = Front::with(|pgherd| settings(pgherd.set("pool.size", 1).set("log.level", "debug"))).await?;
    let server = front.server()?;
    server.query("CREATE ROLE guest; GRANT guest TO app").await?;
    server.query_in("app", SCHEMA).await?;
    Ok(front)
}

async fn sees(client: &mut RawClient, sql: &str) -> Result<bool> {
    Ok(says(client, sql).await? == "true")
}

/// What the connections have run last that the pool has for `app`.
async fn last_queries(front: &Front) -> Result<String> {
    let sql = "SELECT coalesce(string_agg(query, ' | '), '') FROM pg_stat_activity WHERE usename = 'app'";
    front.server()?.scalar(sql).await
}

/// Waits until pgherd knows the functions of the database, which is used.
async fn wait_known(front: &Front) -> Result<()> {
    front.pgherd.wait_log("the catalogue was read", PATIENCE).await.map(drop)
}

#[tokio::test]
async fn what_a_function_leaves_stays_with_its_session_and_reaches_no_other() -> Result<()> {
    let front = front(|pgherd| pgherd).await?;
    let mut wrong = Vec::new();
    // Before the functions are known, and after.
    for known in [false, true] {
        // Of custom parameters the server tells only by their names, which stand in the catalogue.
        for (act, left) in LEFT.iter().copied().filter(|(act, _)| known || !act.contains("custom")) {
            let mut one = front.raw().await?;
            says(&mut one, act).await?;
            let mut other = front.raw().await?;
            for time in 1..3 {
                if !sees(&mut one, left).await? {
                    wrong.push(format!("{act}: is gone at {time}, known: {known}"));
                }
                if sees(&mut other, left).await? {
                    wrong.push(format!("{act}: reaches another at {time}, known: {known}"));
                }
            }
            drop((one, other));
            front.wait_all_idle(2).await?;
            let mut next = front.raw().await?;
            if sees(&mut next, left).await? {
                wrong.push(format!("{act}: reaches the next, known: {known}"));
            }
        }
        wait_known(&front).await?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What sets a custom parameter of which no source has the name; and whether its session keeps it once the functions are known.
const MADE_UP: &[(&str, bool)] = &[
    ("SELECT sets_named('app.up')", true),
    ("SELECT sets_made_up('app.up')", true),
    ("SELECT sets_locally('app.up')", false),
    ("SELECT executes('SET app.up = here')", false),
    ("DO $$ BEGIN EXECUTE 'SE' || 'T app.up = here'; END $$", false),
    ("PREPARE p AS SELECT sets_made_up('app.up'); EXECUTE p", true),
];

#[tokio::test]
async fn a_parameter_whose_name_is_made_up_reaches_no_other() -> Result<()> {
    let front = front(|pgherd| pgherd).await?;
    let mut wrong = Vec::new();
    for known in [false, true] {
        for (act, is_kept) in MADE_UP {
            let mut one = front.raw().await?;
            says(&mut one, act).await?;
            if sees(&mut front.raw().await?, UP).await? {
                wrong.push(format!("{act}: reaches another, known: {known}"));
            }
            if known && sees(&mut one, UP).await? != *is_kept {
                wrong.push(format!("{act}: is kept: {}", !is_kept));
            }
            drop(one);
            if sees(&mut front.raw().await?, UP).await? {
                wrong.push(format!("{act}: reaches another at the end, known: {known}"));
            }
        }
        wait_known(&front).await?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn what_the_extended_protocol_runs_is_found_out_too() -> Result<()> {
    let front = front(|pgherd| pgherd).await?;
    let mut one = front.raw().await?;
    let mut other = front.raw().await?;
    wait_known(&front).await?;
    // Prepared before the function was replaced by one that leaves something.
    one.send(&extended("named", "SELECT harmless($1)", &["1"])?).await?;
    ensure!(one.read_answer().await?.error().is_none());
    says(&mut other, "SELECT 1").await?;
    let replaced =
        "CREATE OR REPLACE FUNCTION harmless(i int) RETURNS int LANGUAGE sql AS $$ SELECT makes_table() $$";
    front.server()?.query_in("app", "ALTER FUNCTION harmless OWNER TO app").await?;
    says(&mut other, replaced).await?;
    one.send(&execute("named", &["1"])?).await?;
    ensure!(one.read_answer().await?.error().is_none());
    ensure!(!sees(&mut other, TABLE).await? && sees(&mut one, TABLE).await?);

    let mut unnamed = front.raw().await?;
    unnamed.send(&extended("", "SELECT takes_lock()", &[])?).await?;
    ensure!(unnamed.read_answer().await?.error().is_none());
    ensure!(!sees(&mut other, LOCK).await? && sees(&mut unnamed, LOCK).await?);
    Ok(())
}

#[tokio::test]
async fn what_leaves_nothing_costs_no_question() -> Result<()> {
    let front = front(|pgherd| pgherd).await?;
    let mut client = front.raw().await?;
    wait_known(&front).await?;
    for sql in [
        "SELECT harmless(1)",
        "INSERT INTO plain VALUES (harmless(2))",
        "DO $$ BEGIN PERFORM harmless(3); END $$",
        "UPDATE plain SET i = 4",
    ] {
        says(&mut client, sql).await?;
        front.wait_all_idle(1).await?;
        let last = last_queries(&front).await?;
        ensure!(last == sql, "after {sql}: {last}");
    }
    Ok(())
}

/// It would not be read if the catalogue waited for a connection that nobody uses: until it is read, each transaction costs a question.
#[tokio::test]
async fn where_all_connections_are_in_use_from_the_beginning_the_catalogue_is_read_at_once() -> Result<()> {
    let front = front(|pgherd| pgherd).await?;
    let mut clients = JoinSet::new();
    for _ in 0..3 {
        let mut client = front.raw().await?;
        clients.spawn(async move {
            loop {
                says(&mut client, "SELECT count(*) FROM plain").await?;
            }
        });
    }
    let known = front.pgherd.wait_log("the catalogue was read", Duration::from_secs(1));
    tokio::select! {
        known = known => known.map(drop),
        ended = clients.join_next() => ended.context("no client")??,
    }
}

#[tokio::test]
async fn what_is_prepared_behind_a_function_that_sets_parameters_is_nobody_elses() -> Result<()> {
    let front = front(|pgherd| pgherd).await?;
    let mut one = front.raw().await?;
    let mut other = front.raw().await?;
    says(&mut one, "SELECT 1").await?;
    wait_known(&front).await?;
    let day = extended("s", "SELECT extract(day FROM '01/02/2020'::date)::text", &[])?;
    for sql in ["BEGIN", "SELECT turns_dates()"] {
        says(&mut one, sql).await?;
    }
    one.send(&day).await?;
    ensure!(one.read_answer().await?.rows() == [[Some("1".into())]]);
    says(&mut one, "COMMIT").await?;
    other.send(&day).await?;
    ensure!(other.read_answer().await?.rows() == [[Some("2".into())]]);
    Ok(())
}

#[tokio::test]
async fn a_session_is_free_again_when_it_has_undone_what_it_left() -> Result<()> {
    let front = front(|pgherd| pgherd.set("pool.pinned_size", 0)).await?;
    let mut other = front.raw().await?;
    for script in [
        &["CREATE TEMP TABLE t ()", "DROP TABLE t"][..],
        &["CREATE TEMP TABLE t ()", "CREATE TEMP VIEW v AS SELECT", "DISCARD TEMP"],
        &["BEGIN", "CREATE TEMP TABLE t () ON COMMIT DROP", "COMMIT"],
        &["BEGIN", "CREATE TEMP TABLE t ()", "ROLLBACK"],
        &["CREATE TEMP TABLE t AS SELECT 1/0"],
        &["SELECT pg_advisory_lock(1)", "SELECT pg_try_advisory_lock(2)", "SELECT pg_advisory_unlock_all()"],
        &["SET ROLE guest", "RESET ROLE"],
        &["SET ROLE guest", "SET SESSION AUTHORIZATION app", "SET ROLE NONE"],
        &["SET ROLE nosuch"],
        &["DECLARE c CURSOR WITH HOLD FOR SELECT 1", "FETCH c", "CLOSE c"],
        &["SELECT makes_table()", "SELECT drops_table()"],
        &["SELECT takes_lock()", "DO $$ BEGIN PERFORM pg_advisory_unlock(7); END $$"],
        &["SET work_mem = '9MB'; CREATE TEMP TABLE t ()", "DROP TABLE t"],
    ] {
        let mut one = front.raw().await?;
        for sql in script {
            one.query(sql).await?;
        }
        let memory = script.first().is_some_and(|sql| sql.contains("work_mem"));
        ensure!(says(&mut other, "SELECT 1").await? == "1", "{script:?}");
        ensure!(!sees(&mut other, MEMORY).await? && sees(&mut one, MEMORY).await? == memory, "{script:?}");
        ensure!(says(&mut other, "SELECT current_user").await? == "app", "{script:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_is_asked_where_that_is_off_and_it_can_be_turned_on() -> Result<()> {
    let mut front = front(|pgherd| pgherd.set("pool.hidden_state", "off")).await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    says(&mut one, "SELECT makes_table()").await?;
    ensure!(last_queries(&front).await? == "SELECT makes_table()");
    ensure!(sees(&mut other, TABLE).await?, "as with any pool that does not ask");
    says(&mut other, "SELECT drops_table()").await?;

    front.pgherd.set("pool.hidden_state", "check")?;
    front.pgherd.reload().await?;
    // The catalogue of this one changes without pgherd's knowing.
    front
        .server()?
        .query_in("app", "CREATE OR REPLACE FUNCTION harmless(i int) RETURNS int LANGUAGE sql AS $$ SELECT makes_table() $$")
        .await?;
    says(&mut one, "SELECT harmless(1)").await?;
    ensure!(!sees(&mut other, TABLE).await? && sees(&mut one, TABLE).await?);
    Ok(())
}

#[tokio::test]
async fn a_library_that_one_session_loads_is_no_other_sessions() -> Result<()> {
    let mut wrong = Vec::new();
    for mode in ["transaction", "session"] {
        let front = front(|pgherd| pgherd.set("pool.mode", mode)).await?;
        front.server()?.query("ALTER ROLE app SUPERUSER").await?;
        for script in [&["LOAD 'auto_explain'"][..], &["LOAD 'auto_explain'", "DISCARD ALL"]] {
            let mut one = front.raw().await?;
            for sql in script {
                says(&mut one, sql).await?;
            }
            let loaded = "SELECT count(*)::text FROM pg_settings WHERE name LIKE 'auto_explain.%'";
            let pid = says(&mut one, "SELECT pg_backend_pid()").await?;
            if says(&mut one, loaded).await? == "0" {
                wrong.push(format!("{mode}, {script:?}: it is gone"));
            }
            drop(one);
            let mut next = front.raw().await?;
            if says(&mut next, loaded).await? != "0"
                || says(&mut next, "SELECT pg_backend_pid()").await? == pid
            {
                wrong.push(format!("{mode}, {script:?}: it reaches the next"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// More than a session can ask for: whoever may have set one for the session keeps its connection, and so its value.
#[tokio::test]
async fn of_more_parameters_than_can_be_asked_for_none_is_lost() -> Result<()> {
    for (count, is_pinned) in [(100, false), (200, true)] {
        let front = Front::with(|pgherd| pgherd.set("pool.size", 1).set("log.level", "debug")).await?;
        let functions: String = (0..count)
            .map(|n| {
                format!(
                    "CREATE FUNCTION sets_{n:03}(v text) RETURNS text LANGUAGE sql AS \
                     $$ SELECT set_config('app.p{n:03}', v, false) $$;"
                )
            })
            .collect();
        front.server()?.query_in("app", &functions).await?;
        let (mut one, mut other) = (front.raw().await?, front.raw().await?);
        says(&mut one, "SELECT 1").await?;
        wait_known(&front).await?;
        let last = count - 1;
        let seen = format!("SELECT coalesce(current_setting('app.p{last:03}', true), '')");
        ensure!(says(&mut one, &format!("SELECT sets_{last:03}('mine')")).await? == "mine");
        for _ in 0..2 {
            ensure!(says(&mut other, &seen).await? != "mine", "{count}: another sees it");
            ensure!(says(&mut one, &seen).await? == "mine", "{count}: it is lost");
        }
        let mut console = front.console("pgherd").await?;
        let pinned = console.query("SHOW PINS").await?.rows();
        ensure!(pinned.is_empty() != is_pinned, "{count}: {pinned:?}");
    }
    Ok(())
}
