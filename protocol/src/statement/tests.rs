//! What texts are taken for.

use super::*;

#[track_caller]
fn pins(text: &str, pin: Option<Pin>) {
    assert_eq!(scan(text.as_bytes()).pin, pin, "{text}");
}

#[track_caller]
fn has_effect(text: &str, effect: Effect) {
    assert_eq!(scan(text.as_bytes()).effect, effect, "{text}");
}

#[test]
fn a_look_at_the_prepared_statements_is_seen() {
    for text in [
        "SELECT name FROM pg_prepared_statements",
        "select * from pg_catalog.PG_Prepared_Statement()",
        "SELECT count(*) FROM \"pg_prepared_statements\"",
    ] {
        assert_eq!(scan(text.as_bytes()).sees, Sight::All, "{text}");
    }
    for text in
        ["SELECT f('EXECUTE p (1)')", "SELECT f($$ select 1; execute p$$)", "DO 'begin execute q; end'"]
    {
        assert_eq!(scan(text.as_bytes()).sees, Sight::OfPrepare, "{text}");
    }
    for text in [
        "SELECT 'pg_prepared_statements'",
        "SELECT * FROM pg_prepared_xacts",
        "SELECT pg_prepared_statements_x",
        "SELECT 'executed', 'reexecute', 'exec'",
        "EXECUTE p('x')",
    ] {
        assert_eq!(scan(text.as_bytes()).sees, Sight::Nothing, "{text}");
    }
}

#[test]
fn what_outlives_a_transaction_pins() {
    pins("/* c */ -- d\n set role to x", Some(Pin::Role));
    pins("SELECT set_config($1, '1', false)", Some(Pin::Parameter));
    pins("listen x", Some(Pin::Listen));
    pins("LISTEN x; CREATE TEMP TABLE t ()", Some(Pin::Temporary));
    pins("LOAD 'a'; LISTEN x", Some(Pin::Load));
    pins("CREATE TEMP TABLE t (i int)", Some(Pin::Temporary));
    pins("create table pg_temp.t ()", Some(Pin::Temporary));
    pins("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Some(Pin::HoldCursor));
    pins("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", None);
    pins("select pg_try_advisory_lock_shared(1)", Some(Pin::AdvisoryLock));
    pins("LOAD 'auto_explain'", Some(Pin::Load));
    pins("CREATE TEMP TABLE t (); LOAD 'a'; LISTEN x", Some(Pin::Load));
}

#[test]
fn the_body_of_a_do_counts_and_that_of_a_function_does_not() {
    pins("DO $$ begin create temp table t (); end $$", Some(Pin::Temporary));
    pins("DO $a$ begin perform pg_advisory_lock(1); end $a$", Some(Pin::AdvisoryLock));
    pins("DO LANGUAGE plpgsql 'begin listen x; end'", Some(Pin::Listen));
    for body in ["create temp table t ()", "listen x", "set a.b = 1", "perform pg_advisory_lock(1)"] {
        pins(&format!("CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ begin {body}; end $$"), None);
    }
    let suspect = |text: &str| scan(text.as_bytes()).suspect;
    assert!(suspect("DO $$ begin execute 'create te' || 'mp table t ()'; end $$"));
    assert!(!suspect("DO $$ begin perform f(); end $$") && !suspect("EXECUTE s"));
}

#[test]
fn custom_parameters_are_carried_by_their_names() {
    for text in [
        "SET a.b = 1",
        "SET a1.b = 1",
        "SET session.b = 1",
        "SET SESSION a.b TO DEFAULT",
        "SET \"a.b\" = 1",
        "SELECT set_config('a.b', $1, false)",
    ] {
        let Scan { sets, sets_custom, pin, .. } = scan(text.as_bytes());
        assert_eq!((sets, sets_custom, pin), (true, SetsCustom::Named, None), "{text}");
    }
    for text in ["SET LOCAL a.b = 1", "set local \"a.b\" to x", "SELECT set_config('a.b', 'x', true)"] {
        let Scan { sets, sets_custom, pin, .. } = scan(text.as_bytes());
        assert_eq!((sets, sets_custom, pin), (false, SetsCustom::Named, None), "{text}");
    }
    for text in [
        "SELECT set_config($1, $2, true)",
        "SELECT set_config('a.' || 'b', 'x', true)",
        "SELECT set_config(E'a\\056b', 'x', true)",
        "SET LOCAL U&\"a\" = 1",
        "DO $$ begin perform set_config('a.b', 'x', true); end $$",
    ] {
        assert_eq!(scan(text.as_bytes()).sets_custom, SetsCustom::Hidden, "{text}");
    }
    for text in [
        "SET work_mem = 1",
        "SET LOCAL seed TO 0.5",
        "SET role x",
        "SELECT set_config('role', 'a.b', true)",
        "SELECT set_config('search_path', $1, true)",
    ] {
        assert_eq!(scan(text.as_bytes()).sets_custom, SetsCustom::Nothing, "{text}");
    }
}

#[test]
fn what_may_undo_what_was_left_is_seen() {
    for text in [
        "DROP TABLE t",
        "select 1; drop view v",
        "CLOSE ALL",
        "RESET ROLE",
        "DISCARD TEMP",
        "SELECT pg_advisory_unlock(1)",
        "DO $$ begin drop table t; end $$",
    ] {
        assert!(scan(text.as_bytes()).undoes, "{text}");
    }
    for text in ["SELECT 1", "INSERT INTO drop_ VALUES (1)", "SELECT pg_advisory_xact_lock(1)", "COMMIT"] {
        assert!(!scan(text.as_bytes()).undoes, "{text}");
    }
}

#[test]
fn what_ends_with_the_transaction_does_not_pin() {
    pins("SET LOCAL work_mem = '1MB'", None);
    pins("SET TRANSACTION READ ONLY", None);
    pins("set constraints all deferred", None);
    pins("select pg_advisory_xact_lock(1)", None);
    pins("update t set a = 1", None);
    pins("insert into listen values (1)", None);
}

#[test]
fn parameters_that_a_server_tells_of_can_be_carried() {
    for text in [
        "SET search_path = a",
        "/* c */ -- d\n set timezone to 'UTC'",
        "SET SESSION work_mem TO '1MB'",
        "SET TIME ZONE 'UTC'",
        "SET NAMES 'UTF8'",
        "SET NAMES",
        "SET NAMES;",
        "SET NAMES DEFAULT",
        "set \"Work_Mem\" = 1",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET work_mem TO DEFAULT",
        "SELECT set_config('work_mem', $1, false)",
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "BEGIN; SET work_mem = 1; COMMIT",
    ] {
        let Scan { sets, alters, pin, .. } = scan(text.as_bytes());
        assert_eq!((sets, alters, pin), (true, true, None), "{text}");
    }
    for text in [
        "SET SEED TO 0.5",
        "SET U&\"a\" = 1",
        "SELECT set_config('role', 'x', false)",
        "SELECT set_config('ro' 'le', 'x', false)",
        "SELECT set_config('ro' || 'le', 'x', false)",
        "SELECT set_config(E'role', 'x', false), set_config($1, 'x', false)",
        "SELECT set_config(name, 'x', false) FROM t",
        "SET role.x = 1",
        "SET role x; SET temp_buffers = 1",
        "SET temp_buffers = '1MB'",
        "SELECT set_config('search_path', $1, false)",
        "SELECT set_config('search_path', 'pg_' || 'temp', false)",
    ] {
        assert_eq!(scan(text.as_bytes()).pin, Some(Pin::Parameter), "{text}");
    }
    for text in [
        "SET role x",
        "SET SESSION ROLE x",
        "SET \"role\" = x",
        "SET SESSION AUTHORIZATION x",
        "SET session_authorization = x",
        "SET work_mem = 1; SET role x",
    ] {
        assert_eq!(scan(text.as_bytes()).pin, Some(Pin::Role), "{text}");
    }
    for text in ["SET NAMES", "SET NAMES;", "SET NAMES DEFAULT"] {
        assert_eq!(scan(text.as_bytes()).resets, Resets::ForSession, "{text}");
    }
    pins("SET search_path = 'pg_'\n'temp'", Some(Pin::Temporary));
    for text in ["SET search_path = 'pg_temp'", "SET SCHEMA 'pg_temp'", "SET search_path = pg_temp"] {
        assert_eq!(scan(text.as_bytes()).pin, Some(Pin::Temporary), "{text}");
    }
    pins("select set_config('search_path', 'pg_temp', true)", Some(Pin::Temporary));
    assert!(!scan(b"SET LOCAL work_mem = 1; SELECT set_config('work_mem', '1', true)").sets);
}

#[test]
fn what_goes_back_to_defaults_resets_and_does_not_pin() {
    let asyncpg = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;";
    for text in ["RESET work_mem", "select 1; reset all", "DISCARD ALL", asyncpg] {
        let findings = scan(text.as_bytes());
        assert_eq!((findings.resets, findings.pin), (Resets::ForSession, None), "{text}");
    }
    for (text, resets) in [
        ("SET work_mem TO DEFAULT", Resets::ForSession),
        ("SELECT set_config('work_mem', NULL, false)", Resets::ForSession),
        ("SELECT set_config('work_mem', NULL, true)", Resets::ForTransaction),
        ("SET LOCAL work_mem TO DEFAULT", Resets::ForTransaction),
        ("SET LOCAL work_mem TO DEFAULT; RESET ALL", Resets::ForSession),
        ("SET LOCAL work_mem = '1MB'; SELECT NULL", Resets::Nothing),
        ("INSERT INTO reset VALUES (DEFAULT)", Resets::Nothing),
    ] {
        assert_eq!(scan(text.as_bytes()).resets, resets, "{text}");
    }
}

#[test]
fn what_changes_parameters_if_only_for_a_transaction_alters() {
    for text in
        ["SET LOCAL a.b = 1", "select set_config('a.b', '1', true)", "begin; set local a = b", "reset all"]
    {
        assert!(scan(text.as_bytes()).alters, "{text}");
    }
    assert!(!scan(b"UPDATE t SET a = 1").alters);
}

#[test]
fn what_changes_the_schema_if_only_for_a_transaction_alters() {
    for text in [
        "CREATE TYPE mood AS ENUM ('fine')",
        "ALTER TABLE t ADD COLUMN a int",
        "SELECT 1; DROP DOMAIN d",
        "SELECT a INTO t FROM u",
        "WITH u AS (SELECT 1) SELECT * INTO t FROM u",
        "DO $$ BEGIN CREATE TABLE t (); END $$",
        "CALL migrate()",
        "IMPORT FOREIGN SCHEMA s FROM SERVER f INTO t",
    ] {
        assert!(scan(text.as_bytes()).alters, "{text}");
    }
    for text in
        ["INSERT INTO t VALUES (1)", "SELECT f(1)", "BEGIN", "DELETE FROM t", "FETCH 1 FROM c", "LOCK t"]
    {
        assert!(!scan(text.as_bytes()).alters, "{text}");
    }
}

#[test]
fn only_what_surely_changes_nothing_is_harmless() {
    has_effect("", Effect::Empty);
    has_effect("; -- nothing", Effect::Empty);
    has_effect("BEGIN", Effect::Begin);
    has_effect("SELECT abalance FROM pgbench_accounts WHERE aid = 5;", Effect::Harmless);
    has_effect("select count(*) from t where a in (1, 2)", Effect::Harmless);
    has_effect("SELECT f(1)", Effect::Write);
    has_effect("SELECT \"f\"(1)", Effect::Write);
    has_effect("SELECT s.nextval ('x')", Effect::Write);
    has_effect("SELECT 1 INTO t", Effect::Write);
    has_effect("SELECT * FROM t FOR UPDATE", Effect::Write);
    has_effect("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", Effect::Write);
    has_effect("insert into t values (1)", Effect::Write);
    has_effect("explain analyze delete from t", Effect::Write);
}

#[test]
fn ends_of_transactions_are_told_apart() {
    has_effect("COMMIT", Effect::Commit);
    has_effect("end work;", Effect::Commit);
    has_effect("rollback", Effect::Rollback);
    has_effect("ROLLBACK TO SAVEPOINT a", Effect::Write);
    has_effect("COMMIT AND CHAIN", Effect::MayCommit);
    has_effect("COMMIT PREPARED 'x'", Effect::MayCommit);
    has_effect("insert into t values (1); commit", Effect::MayCommit);
    has_effect("CALL p()", Effect::MayCommit);
    has_effect("DO $$ begin end $$", Effect::MayCommit);
    has_effect("select case when a then b end from t", Effect::Harmless);
}

#[test]
fn what_may_take_a_number_of_a_sequence_is_told_apart_from_what_reads() {
    for (text, draws) in [
        ("SELECT a, count(*) FROM t WHERE a IN (1, 2)", Draws::No),
        ("SELECT pg_catalog.version(), current_setting('a'), pg_backend_pid()", Draws::No),
        ("SELECT currval('s'), pg_catalog.lastval()", Draws::No),
        ("SET a = b; SHOW a; BEGIN; SAVEPOINT a; LOCK t; COMMIT; DISCARD ALL; LISTEN a", Draws::No),
        ("PREPARE s AS INSERT INTO t VALUES (nextval('s'))", Draws::No),
        ("COPY t TO STDOUT", Draws::Perhaps),
        ("COPY (SELECT a FROM t) TO STDOUT", Draws::Perhaps),
        ("UPDATE t SET a = 1", Draws::Perhaps),
        ("SELECT f()", Draws::Perhaps),
        ("SELECT app.version()", Draws::Perhaps),
        ("SELECT setval('s', 1)", Draws::Perhaps),
        ("CALL p()", Draws::Perhaps),
        ("DO 'BEGIN END'", Draws::Perhaps),
        ("EXECUTE s", Draws::Perhaps),
        ("SELECT U&\"nextval\"('s')", Draws::Perhaps),
        ("SELECT 'a\\'", Draws::Perhaps),
        ("INSERT INTO t VALUES (1)", Draws::Likely),
        ("COPY t FROM STDIN", Draws::Likely),
        ("COPY t (a, b) FROM STDIN", Draws::Likely),
        ("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", Draws::Likely),
        ("SELECT 1; SELECT public.NEXTVAL ('s')", Draws::Likely),
        ("WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a", Draws::Likely),
        ("EXPLAIN ANALYZE INSERT INTO t VALUES (1)", Draws::Likely),
    ] {
        assert_eq!(scan(text.as_bytes()).draws, draws, "{text}");
    }
}

#[test]
fn who_calls_currval_or_lastval_asks_however_that_is_written() {
    for text in [
        "SELECT currval('s')",
        "select LASTVAL ( )",
        "SELECT pg_catalog . \"currval\" /* */ ('s')",
        "INSERT INTO t VALUES (currval('s'))",
        "COPY (SELECT lastval()) TO STDOUT",
        "DECLARE c CURSOR FOR SELECT lastval()",
        "PREPARE s AS SELECT lastval()",
        "DO 'BEGIN PERFORM lastval(); END'",
        "SELECT U&\"curr\\0076al\"('s')",
        "SELECT 'a\\', lastval()",
    ] {
        assert!(scan(text.as_bytes()).asks, "{text}");
    }
    for text in
        ["SELECT lastval FROM t", "SELECT 'lastval()'", "SELECT nextval('s')", "SELECT my_currval('s')"]
    {
        assert!(!scan(text.as_bytes()).asks, "{text}");
    }
}

#[test]
fn each_statement_of_the_corpus_may_run_where_it_says() {
    let mut place = Place::Standby;
    let mut seen = 0;
    for line in include_str!("corpus.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix("= ") {
            let why = Why::ALL.into_iter().find(|why| why.word() == section);
            place = why.map_or(Place::Standby, Place::Primary);
            assert!(why.is_some() || section == "standby", "{section}");
            continue;
        }
        seen += 1;
        assert_eq!(scan(line.as_bytes()).place, place, "{line}");
    }
    assert!(seen > 300);
}
