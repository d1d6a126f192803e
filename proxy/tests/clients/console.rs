//! The console: what it shows is what its page says, and what is ordered there happens.

use std::time::Duration;

use pgherd_testkit::client::{Answer, RawClient, Session, frontend, psql};
use pgherd_testkit::{Context, Result, ensure, eventually};
use tokio::time::timeout;

use crate::front::{Front, PATIENCE, extended, messages};

/// The console's page.
const PAGE: &str = include_str!("../../../docs/console.md");

impl Front {
    /// An administrator at the console.
    pub(crate) async fn console(&self, database: &str) -> Result<RawClient> {
        let password = self.cluster.monitor_password();
        RawClient::login(self.pgherd.address(), "repmgr", database, password).await
    }

    fn console_string(&self) -> String {
        self.pgherd.connection_string("repmgr", "pgherd")
    }
}

/// The rows as texts; nothing stands for null.
fn texts(answer: &Answer) -> Vec<Vec<String>> {
    let text = |value: Option<bytes::Bytes>| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
    answer.rows().into_iter().map(|row| row.into_iter().map(text).collect()).collect()
}

/// Rows as names of columns and values.
async fn show(console: &mut RawClient, view: &str) -> Result<Vec<Vec<(String, String)>>> {
    let answer = console.query(&format!("SHOW {view}")).await?;
    ensure!(answer.error().is_none(), "SHOW {view}: {answer:?}");
    let names = columns(&answer)?;
    Ok(texts(&answer).into_iter().map(|row| names.iter().cloned().zip(row).collect()).collect())
}

/// One value of the first row that has these others.
pub(crate) async fn value(
    console: &mut RawClient,
    view: &str,
    whose: &[(&str, &str)],
    column: &str,
) -> Result<String> {
    let rows = show(console, view).await?;
    let has = |row: &&Vec<(String, String)>| {
        whose.iter().all(|(name, value)| row.iter().any(|(n, v)| n == name && v == value))
    };
    let row =
        rows.iter().find(has).with_context(|| format!("SHOW {view} has no row of {whose:?}: {rows:?}"))?;
    let found =
        row.iter().find(|(name, _)| name == column).with_context(|| format!("{column} in {row:?}"))?;
    Ok(found.1.clone())
}

/// The names in a RowDescription.
fn columns(answer: &Answer) -> Result<Vec<String>> {
    let frame = answer.frames.iter().find(|frame| frame.tag == b'T').context("no RowDescription")?;
    let mut rest = frame.payload.get(2..).unwrap_or_default();
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned());
        rest = rest.get(end + 19..).unwrap_or_default();
    }
    Ok(names)
}

/// Each view of the page, with its columns.
fn views() -> Vec<(&'static str, Vec<&'static str>)> {
    let sections = PAGE.split("\n### SHOW ").skip(1);
    let view = |section: &'static str| {
        let (name, rest) = section.split_once("\n\n").unwrap_or_default();
        let columns = rest.split("\n\n").next().unwrap_or_default();
        (name, columns.split('`').skip(1).step_by(2).collect())
    };
    sections.map(view).collect()
}

#[tokio::test]
async fn each_view_has_the_columns_that_its_page_says_in_both_protocols() -> Result<()> {
    let front = Front::start().await?;
    let _client = front.raw().await?;
    let (mut own, mut pgbouncers) = (front.console("pgherd").await?, front.console("pgbouncer").await?);
    ensure!(views().len() > 30, "the page was read");
    for (view, expected) in views() {
        let shown = own.query(&format!("SHOW {view}")).await?;
        ensure!(columns(&shown)? == expected, "{view}: {:?}", columns(&shown)?);
        ensure!(shown.command().as_deref() == Some("SHOW") && shown.transaction_state() == Some('I'));
        let known: Vec<_> = expected.iter().filter(|name| **name != "pinned").copied().collect();
        ensure!(columns(&pgbouncers.query(&format!("show {view};")).await?)? == known, "{view} of pgbouncer");
        own.send(&extended("", &format!("SHOW {view}"), &[])?).await?;
        let asked = own.read_answer().await?;
        ensure!(asked.error().is_none() && columns(&asked)? == expected, "{view}: {asked:?}");
        ensure!(shown.rows().iter().chain(&asked.rows()).all(|row| row.len() == expected.len()), "{view}");
    }
    // Each is in the help, and the other way round.
    let help = own.query("SHOW HELP").await?.notice().context("no help")?;
    let help = help.field(b'D').unwrap_or_default().to_owned();
    let listed = help.lines().filter_map(|line| line.trim().strip_prefix("SHOW "));
    let mut listed: Vec<_> = listed.filter(|view| !view.contains('<')).collect();
    let mut described: Vec<_> = views().into_iter().map(|(view, _)| view).collect();
    described.sort_unstable();
    listed.sort_unstable();
    ensure!(listed == described, "{listed:?}\n{described:?}");
    Ok(())
}

#[tokio::test]
async fn psql_and_drivers_talk_to_the_console_as_to_postgresql() -> Result<()> {
    let front = Front::start().await?;
    let console = front.console_string();
    ensure!(psql(&console, "SHOW VERSION").await?.starts_with("pgherd "));
    let both = psql(&console, "SHOW STATE; BEGIN; SHOW server_version; COMMIT").await?;
    ensure!(both.contains("active|yes") && both.contains("pgherd"), "{both}");
    let error = psql(&console, "SHOW POOLS; SELCT 1").await.err().context("no error")?.to_string();
    ensure!(error.contains("42601") && error.contains("at or near \"SELCT\""), "{error}");
    ensure!(error.contains("LINE 1: SHOW POOLS; SELCT 1") && error.contains("            ^"), "{error}");

    let session = Session::connect(&console).await?;
    let statement = session.prepare("SHOW CLIENTS").await?;
    let rows = session.query(&statement, &[]).await?;
    let own = rows.iter().find(|row| row.get::<_, &str>("database") == "pgherd").context("not listed")?;
    // As its types say, in binary.
    ensure!(own.get::<_, i32>("id") > 0 && own.get::<_, i32>("port") > 0);
    ensure!(own.get::<_, Option<&str>>("pinned").is_none() && own.get::<_, &str>("state") == "active");
    let unknown = session.simple_query("SHOW nothing").await.err().context("no error")?;
    ensure!(unknown.code().map(|code| code.code()) == Some("42704"), "{unknown}");

    // A cursor's rows in portions, and a failed transaction.
    let mut raw = front.console("pgherd").await?;
    raw.query("BEGIN").await?;
    let portions = messages(|out| {
        frontend::parse("s", "SHOW LISTS", [], out)?;
        crate::front::bind("s", &[], out)?;
        for _ in 0..2 {
            frontend::execute("", 10, out)?;
        }
        frontend::sync(out);
        Ok(())
    })?;
    raw.send(&portions).await?;
    let tags: String = raw.read_answer().await?.frames.iter().map(|frame| char::from(frame.tag)).collect();
    ensure!(tags == format!("12{}s{}CZ", "D".repeat(10), "D".repeat(4)), "{tags}");
    ensure!(raw.query("NO").await?.transaction_state() == Some('E'));
    ensure!(raw.query("SHOW LISTS").await?.error().is_some_and(|error| error.code() == "25P02"));
    ensure!(raw.query("COMMIT").await?.command().as_deref() == Some("ROLLBACK"));
    raw.send(&extended("", "SHOW LISTS; SHOW POOLS", &[])?).await?;
    ensure!(raw.read_answer().await?.error().is_some_and(|error| error.code() == "42601"));
    raw.send(&extended("", "SHOW LISTS", &["1"])?).await?;
    ensure!(raw.read_answer().await?.error().is_some_and(|error| error.code() == "08P01"));
    Ok(())
}

#[tokio::test]
async fn only_those_who_may_use_the_console_are_let_in_and_some_may_only_look() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("admin.stats_users", "legacy")).await?;
    let refused = RawClient::login(front.pgherd.address(), "app", "pgherd", front.password("app")).await;
    let error = format!("{:#}", refused.err().context("app was let in")?);
    ensure!(error.contains("permission denied for database \"pgherd\""), "{error}");
    let refused = RawClient::login(front.pgherd.address(), "repmgr", "pgbouncer", "wrong").await;
    ensure!(
        format!("{:#}", refused.err().context("a wrong password")?)
            .contains("password authentication failed")
    );
    let mut looker =
        RawClient::login(front.pgherd.address(), "legacy", "pgbouncer", front.password("legacy")).await?;
    ensure!(value(&mut looker, "STATE", &[("key", "active")], "value").await? == "yes");
    for order in
        ["PAUSE", "KILL app", "KILL_CLIENT 1", "SHUTDOWN", "RELOAD", "SET pool.size = 1", "DISABLE app"]
    {
        let answer = looker.query(order).await?;
        ensure!(answer.error().is_some_and(|error| error.code() == "42501"), "{order}: {answer:?}");
    }
    ensure!(front.raw().await?.query("SELECT 1").await?.error().is_none());
    Ok(())
}

#[tokio::test]
async fn what_clients_do_is_counted_exactly() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 2)).await?;
    let (mut console, mut client) = (front.console("pgbouncer").await?, front.raw().await?);
    let app = [("database", "app")];
    let of = async |console: &mut RawClient, column: &str| -> Result<u64> {
        Ok(value(console, "STATS", &app, column).await?.parse()?)
    };
    let mut before = Vec::new();
    let counted =
        ["total_server_assignment_count", "total_xact_count", "total_query_count", "total_bind_count"];
    for column in counted {
        before.push(of(&mut console, column).await?);
    }
    let (sent, query_time) =
        (of(&mut console, "total_sent").await?, of(&mut console, "total_query_time").await?);
    for _ in 0..5 {
        client.query("SELECT 1").await?;
    }
    for sql in ["BEGIN", "SELECT pg_sleep(0.2)", "SELECT repeat('x', 100000)", "COMMIT"] {
        client.query(sql).await?;
    }
    client.send(&extended("", "SELECT $1::text", &["1"])?).await?;
    client.read_answer().await?;
    for (column, (before, more)) in counted.iter().zip(before.into_iter().zip([7, 7, 10, 1])) {
        let after = of(&mut console, column).await?;
        ensure!(after == before + more, "{column}: {before} before, {after} after, {more} expected");
    }
    ensure!(of(&mut console, "total_sent").await? >= sent + 100_000);
    let worked = of(&mut console, "total_query_time").await? - query_time;
    ensure!((200_000..20_000_000).contains(&worked), "{worked} us");
    ensure!(of(&mut console, "total_xact_time").await? >= of(&mut console, "total_query_time").await?);
    // Those of a session that is pinned, too, and while it is.
    client.query("LISTEN c").await?;
    let before = of(&mut console, "total_query_count").await?;
    client.query("SELECT 1").await?;
    ensure!(of(&mut console, "total_query_count").await? == before + 1);
    let reads = value(&mut console, "POOL_NODES", &[("node_id", "0")], "select_cnt").await?.parse::<u64>()?;
    ensure!(reads >= 6, "{reads}");
    Ok(())
}

#[tokio::test]
async fn clients_and_their_server_connections_are_shown_as_they_are() -> Result<()> {
    let front = Front::with(|pgherd| {
        let pgherd = pgherd.set("pool.size", 1).set("pool.pinned_size", 1);
        pgherd.set("pool.max_db_client_connections", 7).set("pool.max_user_client_connections", 9)
    })
    .await?;
    let mut console = front.console("pgherd").await?;
    let mut busy = front.login(front.pgherd.address(), &[("application_name", "busy")]).await?;
    let mut late = front.login(front.pgherd.address(), &[("application_name", "late")]).await?;
    let (is_busy, is_late) = ([("application_name", "busy")], [("application_name", "late")]);
    ensure!(value(&mut console, "CLIENTS", &is_busy, "state").await? == "idle");
    ensure!(value(&mut console, "CLIENTS", &is_busy, "replication").await? == "none");
    let app = [("name", "app")];
    ensure!(value(&mut console, "DATABASES", &app, "max_client_connections").await? == "7");
    ensure!(value(&mut console, "USERS", &app, "max_user_client_connections").await? == "9");
    busy.query("BEGIN").await?;
    ensure!(value(&mut console, "CLIENTS", &is_busy, "state").await? == "active");
    let pid = texts(&busy.query("SELECT pg_backend_pid()").await?).concat().concat();
    let name = value(&mut console, "CLIENTS", &is_busy, "ptr").await?;
    ensure!(value(&mut console, "SERVERS", &[("link", &name)], "remote_pid").await? == pid);
    late.send(&messages(|out| frontend::query("SELECT 1", out))?).await?;
    eventually("the other waits", PATIENCE, || async {
        let mut console = front.console("pgherd").await?;
        let state = value(&mut console, "CLIENTS", &is_late, "state").await?;
        Ok((state == "waiting").then_some(()))
    })
    .await?;
    let pool = [("database", "app"), ("user", "app")];
    for (column, expected) in [("cl_active", "1"), ("cl_waiting", "1"), ("sv_active", "1"), ("sv_idle", "0")]
    {
        let shown = value(&mut console, "POOLS", &pool, column).await?;
        ensure!(shown == expected, "{column}: {shown}");
    }
    busy.query("COMMIT").await?;
    late.read_answer().await?;
    ensure!(value(&mut console, "POOLS", &pool, "sv_idle").await? == "1");
    late.query("SET application_name = 'later'; LISTEN c").await?;
    let later = [("application_name", "late")];
    ensure!(value(&mut console, "CLIENTS", &later, "pinned").await? == "LISTEN");
    ensure!(value(&mut console, "PINS", &later, "reason").await? == "LISTEN");
    drop(late);
    eventually("it is gone", PATIENCE, || async {
        let mut console = front.console("pgherd").await?;
        Ok((show(&mut console, "PINS").await?.is_empty()).then_some(()))
    })
    .await
}

#[tokio::test]
async fn while_a_database_is_paused_its_clients_wait_and_no_server_connection_is_open() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 3)).await?;
    let (mut console, mut client, mut busy) =
        (front.console("pgbouncer").await?, front.raw().await?, front.raw().await?);
    client.query("SELECT 1").await?;
    busy.query("BEGIN").await?;
    console.send(&messages(|out| frontend::query("PAUSE app", out))?).await?;
    let early = timeout(Duration::from_millis(500), console.read_answer()).await;
    ensure!(early.is_err(), "a transaction is open: {early:?}");
    busy.query("COMMIT").await?;
    let paused = console.read_answer().await?;
    ensure!(paused.command().as_deref() == Some("PAUSE"), "{paused:?}");
    front.wait_all_idle(0).await?;
    ensure!(value(&mut console, "DATABASES", &[("name", "app")], "paused").await? == "1");
    ensure!(console.query("PAUSE app").await?.error().is_some_and(|error| error.code() == "55000"));
    client.send(&messages(|out| frontend::query("SELECT 1", out))?).await?;
    let early = timeout(Duration::from_millis(500), client.read_answer()).await;
    ensure!(early.is_err(), "it is not served: {early:?}");
    ensure!(console.query("RESUME app").await?.command().as_deref() == Some("RESUME"));
    ensure!(client.read_answer().await?.error().is_none());
    ensure!(console.query("RESUME").await?.error().is_some_and(|error| error.code() == "55000"));

    // All of them, taken back by a cancel request, and then kept.
    busy.query("BEGIN").await?;
    let string = front.console_string();
    let pausing = Session::connect(&string).await?;
    let cancel = pausing.cancel_token();
    let waiting = tokio::spawn(async move { pausing.simple_query("PAUSE").await.map(drop) });
    eventually("all are paused", PATIENCE, || async {
        let mut console = front.console("pgbouncer").await?;
        Ok((value(&mut console, "STATE", &[("key", "paused")], "value").await? == "yes").then_some(()))
    })
    .await?;
    cancel.cancel_query(tokio_postgres::NoTls).await?;
    let error = waiting.await?.err().context("PAUSE was not cancelled")?;
    ensure!(error.code().map(|code| code.code()) == Some("57014"), "{error}");
    ensure!(client.query("SELECT 1").await?.error().is_none(), "it is taken back");

    // RECONNECT and WAIT_CLOSE
    let pid = async |client: &mut RawClient| -> Result<String> {
        Ok(texts(&client.query("SELECT pg_backend_pid()").await?).concat().concat())
    };
    let (held, idle) = (pid(&mut busy).await?, pid(&mut client).await?);
    console.query("RECONNECT").await?;
    ensure!(pid(&mut client).await? != idle && pid(&mut busy).await? == held);
    console.send(&messages(|out| frontend::query("WAIT_CLOSE app", out))?).await?;
    let early = timeout(Duration::from_millis(300), console.read_answer()).await;
    ensure!(early.is_err(), "one is still open: {early:?}");
    busy.query("COMMIT").await?;
    ensure!(console.read_answer().await?.command().as_deref() == Some("WAIT_CLOSE"));
    ensure!(pid(&mut busy).await? != held);
    Ok(())
}

#[tokio::test]
async fn an_administrator_ends_sessions_and_shuts_databases() -> Result<()> {
    let front = Front::start().await?;
    let mut console = front.console("pgherd").await?;
    let mut one = front.login(front.pgherd.address(), &[("application_name", "one")]).await?;
    let mut other = front.raw().await?;
    let id = value(&mut console, "CLIENTS", &[("application_name", "one")], "id").await?;
    one.send(&messages(|out| frontend::query("SELECT pg_sleep(60)", out))?).await?;
    front.wait_running("pg_sleep").await?;
    ensure!(console.query(&format!("KILL_CLIENT {id}")).await?.command().as_deref() == Some("KILL_CLIENT"));
    ended(&mut one).await?;
    front.wait_all_idle(20).await?;
    ensure!(console.query(&format!("KILL_CLIENT {id}")).await?.error().is_some());

    console.query("DISABLE app").await?;
    ensure!(other.query("SELECT 1").await?.error().is_none(), "those that are there go on");
    let refused = front.raw().await.err().context("app is disabled")?;
    ensure!(format!("{refused:#}").contains("not currently accepting connections"), "{refused:#}");
    console.query("ENABLE app").await?;
    let mut third = front.raw().await?;

    ensure!(console.query("KILL app").await?.command().as_deref() == Some("KILL"));
    ended(&mut other).await?;
    ended(&mut third).await?;
    front.wait_all_idle(0).await?;
    console.query("RESUME app").await?;
    ensure!(front.raw().await?.query("SELECT 1").await?.error().is_none());
    for order in ["KILL pgbouncer", "PAUSE pgherd", "SUSPEND"] {
        ensure!(console.query(order).await?.error().is_some(), "{order}");
    }
    ensure!(console.query("DISABLE nobodys").await?.notice().is_some(), "it may be misspelt");
    Ok(())
}

/// It is told why, and the connection is closed.
async fn ended(client: &mut RawClient) -> Result<()> {
    let last = client.read_to_end().await?;
    let error = last.iter().find_map(|frame| frame.error_fields()).context("no last words")?;
    ensure!(error.code() == "57P01" && error.severity() == "FATAL", "{error}");
    Ok(())
}

#[tokio::test]
async fn the_console_works_without_servers_and_beyond_the_limit_of_clients() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.max_clients", 1)).await?;
    drop(front.console("pgherd").await?);
    let _only = front.raw().await?;
    ensure!(front.raw().await.is_err(), "there is no place");
    front.server()?.stop_immediate().await?;
    let mut console = front.console("pgherd").await?;
    ensure!(front.console("pgherd").await.is_err(), "one place is kept, and no more");
    let mut state = String::new();
    for _ in 0..300 {
        state = value(&mut console, "TOPOLOGY", &[("node", "0")], "state").await?;
        if state != "up" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(state != "up", "{state}");
    ensure!(!value(&mut console, "FAILOVER", &[("item", "state")], "detail").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn pgherd_ends_as_it_is_told_to() -> Result<()> {
    let mut front = Front::start().await?;
    let order = async |front: &Front, how: &str| -> Result<()> {
        let said = front.console("pgherd").await?.query(&format!("SHUTDOWN {how}")).await?;
        ensure!(said.command().as_deref() == Some("SHUTDOWN"), "{said:?}");
        Ok(())
    };
    let mut last = front.raw().await?;
    order(&front, "WAIT_FOR_CLIENTS").await?;
    let refused = front.raw().await.err().context("it is to end")?;
    ensure!(format!("{refused:#}").contains("shutting down"), "{refused:#}");
    ensure!(last.query("SELECT 1").await?.error().is_none(), "it is not sent away");
    drop(last);
    ensure!(front.pgherd.wait_exit().await?.success());

    front.pgherd.start().await?;
    eventually("it serves again", PATIENCE, || async { Ok(front.raw().await.ok().map(drop)) }).await?;
    let mut busy = front.raw().await?;
    busy.query("BEGIN").await?;
    order(&front, "WAIT_FOR_SERVERS").await?;
    ensure!(busy.query("COMMIT").await?.error().is_none(), "its transaction ends as it wants");
    ended(&mut busy).await?;
    ensure!(front.pgherd.wait_exit().await?.success());

    front.pgherd.start().await?;
    eventually("it serves again", PATIENCE, || async { Ok(front.raw().await.ok().map(drop)) }).await?;
    let mut busy = front.raw().await?;
    busy.query("BEGIN").await?;
    order(&front, "").await?;
    ended(&mut busy).await?;
    ensure!(front.pgherd.wait_exit().await?.success());
    Ok(())
}

#[tokio::test]
async fn nonsense_ends_a_console_session_and_nothing_else() -> Result<()> {
    let front = Front::start().await?;
    let before = front.resident()?;
    for nonsense in
        [&b"Q\x7f\xff\xff\xff"[..], b"Q\0\x10\0\0", b"\0\0\0\0\0", b"p\0\0\0\x08abcd", b"Q\0\0\0\x03"]
    {
        let mut console = front.console("pgherd").await?;
        console.send(nonsense).await?;
        let last = console.read_to_end().await?;
        ensure!(last.iter().all(|frame| frame.tag == b'E'), "{nonsense:?}: {last:?}");
    }
    let mut console = front.console("pgherd").await?;
    for odd in [
        &b"P\0\0\0\x05x"[..],
        b"B\0\0\0\x06\0\0",
        b"D\0\0\0\x04",
        b"E\0\0\0\x05\0",
        b"C\0\0\0\x05S",
        b"F\0\0\0\x04",
    ] {
        console.send(odd).await?;
        console.send(b"S\0\0\0\x04").await?;
        let answer = console.read_answer().await?;
        ensure!(answer.error().is_some(), "{odd:?}: {answer:?}");
        if odd[0] == b'F' {
            console.read_answer().await?;
        }
    }
    let answer = console.query("\u{e9}\u{1f40e}\"").await?;
    ensure!(answer.error().is_some_and(|error| error.code() == "42601"), "{answer:?}");
    // Names without end, and answers that nobody reads.
    let many = messages(|out| {
        (0..1000).try_for_each(|n| frontend::parse(&format!("s{n}"), "SHOW CONFIG", [], out))
    })?;
    console.send(&many).await?;
    console.send(b"S\0\0\0\x04").await?;
    ensure!(console.read_answer().await?.error().is_some_and(|error| error.code() == "54000"));
    let query = messages(|out| frontend::query("SHOW CONFIG", out))?;
    let flood = async {
        loop {
            console.send(&query).await?;
        }
    };
    let flooded: Result<Result<()>, _> = timeout(Duration::from_secs(2), flood).await;
    ensure!(flooded.is_err(), "{flooded:?}");
    let after = front.resident()?;
    ensure!(after < before + 32 * 1024, "{before} KiB before, {after} KiB after");
    ensure!(front.raw().await?.query("SELECT 1").await?.error().is_none());
    Ok(())
}

#[tokio::test]
async fn it_is_told_where_a_statement_would_run_and_why() -> Result<()> {
    let front =
        Front::with(|pgherd| pgherd.set("routing.write_functions", "refresh_*").set("log.level", "debug"))
            .await?;
    let schema = "CREATE FUNCTION reads() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
        CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION refresh_all() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
        CREATE TABLE t (i serial); CREATE VIEW odd AS SELECT writes() AS i";
    front.server()?.query_in("app", schema).await?;
    let mut console = front.console("pgherd").await?;
    let mut asked = async |text: &str, whose: &str| -> Result<String> {
        let answer = console.query(&format!("SHOW ROUTING '{text}' {whose}")).await?;
        let row = texts(&answer).pop().with_context(|| format!("{text}: {answer:?}"))?;
        Ok([&*row[0], &row[1], &row[3]].join(" "))
    };
    ensure!(asked("SELECT i FROM t", "DATABASE app").await? == "primary unread unread");
    ensure!(asked("SELECT i FROM t", "").await? == "any read off");
    let mut client = front.raw().await?;
    client.query("SELECT 1").await?;
    front.pgherd.wait_log("the catalogue was read", PATIENCE).await?;
    for (text, told) in [
        ("SELECT i, reads() FROM t", "any read read"),
        ("SELECT writes()", "primary function read"),
        ("SELECT refresh_all()", "primary name read"),
        ("SELECT * FROM odd", "primary name read"),
        ("SELECT ''odd'', last_value FROM t_i_seq", "primary server read"),
        ("SELECT * FROM t FOR UPDATE", "primary writes read"),
        ("/*NO LOAD BALANCE*/ SELECT 1", "primary hint read"),
    ] {
        for whose in ["DATABASE app", "DATABASE app USER app"] {
            let found = asked(text, whose).await?;
            ensure!(found == told, "{text}: {found}");
        }
    }
    let set = front.console("pgherd").await?.query("SET routing.consistency = 'strong'").await?;
    ensure!(set.error().is_none(), "{set:?}");
    let strong = asked("SELECT i FROM t", "DATABASE app").await?;
    ensure!(strong == "primary strong read", "{strong}");
    ensure!(value(&mut console, "POOL_NODES", &[("node_id", "0")], "load_balance_node").await? == "false");
    Ok(())
}
