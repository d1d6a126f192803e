//! SET on the console: in force at once, until the configuration is read again.

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Context, Result, ensure};

use crate::console::value;
use crate::front::{Front, messages};

/// What SHOW CONFIG says of a key.
async fn setting(console: &mut RawClient, key: &str) -> Result<String> {
    value(console, "CONFIG", &[("key", key)], "value").await
}

async fn set(console: &mut RawClient, order: &str) -> Result<()> {
    let answer = console.query(order).await?;
    ensure!(answer.error().is_none() && answer.command().as_deref() == Some("SET"), "{order}: {answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_setting_is_in_force_at_once_and_until_the_file_is_read_again() -> Result<()> {
    let mut front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let mut console = front.console("pgherd").await?;
    let (mut busy, mut late) = (front.raw().await?, front.raw().await?);
    busy.query("BEGIN").await?;
    late.send(&messages(|out| frontend::query("SELECT 1", out))?).await?;
    front.wait_waiting(1).await?;
    set(&mut console, "SET default_pool_size = 2").await?;
    ensure!(late.read_answer().await?.error().is_none(), "the pool has grown");
    ensure!(setting(&mut console, "pool.size").await? == "2");
    ensure!(setting(&mut console, "default_pool_size").await? == "2");
    busy.query("COMMIT").await?;

    // Time-outs, in the units of both, and an override, of sessions that are there.
    set(&mut console, "SET query_timeout = 0.2").await?;
    let error = busy.query("SELECT pg_sleep(60)").await?.error().context("it has no end")?;
    ensure!(error.code() == "57014", "{error}");
    set(&mut console, "SET query_timeout TO DEFAULT; SET pool.transaction_timeout TO '7min'").await?;
    ensure!(setting(&mut console, "pool.query_timeout").await? == "off");
    ensure!(setting(&mut console, "transaction_timeout").await? == "420");
    set(&mut console, "SET pool.override = '[{ database = \"app\", mode = \"statement\" }]'").await?;
    ensure!(value(&mut console, "DATABASES", &[("name", "app")], "pool_mode").await? == "statement");

    // The file may have errors by now, or say something else: it is not read.
    front.pgherd.set("failover.confirm", "soon")?;
    front.pgherd.set("pool.pinned_size", 3)?;
    set(&mut console, "SET pool.size = 4").await?;
    ensure!(setting(&mut console, "pool.pinned_size").await? == "20");
    ensure!(console.query("RELOAD").await?.error().is_some(), "the file has errors");
    ensure!(setting(&mut console, "pool.size").await? == "4", "nothing has changed");
    front.pgherd.set("failover.confirm", "4s")?;
    ensure!(console.query("RELOAD").await?.error().is_none());
    for (key, expected) in [
        ("pool.size", "1"),
        ("pool.pinned_size", "3"),
        ("pool.transaction_timeout", "off"),
        ("pool.override", ""),
    ] {
        let shown = setting(&mut console, key).await?;
        ensure!(shown == expected, "{key}: {shown}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_set_is_an_error_that_says_why_and_the_log_shows_no_secret() -> Result<()> {
    let front = Front::start().await?;
    let mut console = front.console("pgherd").await?;
    for (order, sqlstate, part) in [
        ("SET pool.sise = 3", "42704", "did you mean `pool.size`"),
        ("SET max_client_con = 3", "42704", "did you mean `pool.max_client_conn`"),
        ("SET auth_type = trust", "42704", "section `auth`"),
        ("SET listen.address = '127.0.0.1:1'", "55P02", "without restarting"),
        ("SET unix_socket_dir = '/tmp'", "55P02", "listen.unix"),
        ("SET pool.size = many", "22023", "takes a whole number from 1 to 10000"),
        ("SET pool.query_timeout = 5", "22023", "`5s`"),
        ("SET backends.tls.ca = '/no/such/file'", "22023", "/no/such/file"),
        ("SET listen.tls.cert = '/no/such/file'", "22023", "listen.tls"),
        ("SET monitor.password = ''", "22023", "neither empty nor"),
        ("SET pool.size", "42601", "end of input"),
    ] {
        let answer = console.query(order).await?;
        let error = answer.error().with_context(|| format!("{order} was taken"))?;
        let text = format!("{error} {}", error.field(b'D').unwrap_or_default());
        ensure!(error.code() == sqlstate && text.contains(part), "{order}: {text}");
    }
    let needless = console.query("SET server_check_query = 'SELECT 1'").await?;
    ensure!(needless.command().as_deref() == Some("SET") && needless.notice().is_some(), "{needless:?}");

    let password = front.cluster.monitor_password();
    let mut wrong = console.query("SET monitor.password = 'betrayed'").await?;
    ensure!(wrong.error().is_none(), "{wrong:?}");
    ensure!(setting(&mut console, "monitor.password").await? == "<set>");
    wrong = console.query(&format!("SET monitor.password = '{password}'; SET log.level = debug")).await?;
    ensure!(wrong.error().is_none(), "{wrong:?}");
    let log = front.pgherd.log().join("\n");
    ensure!(log.contains("pool.size: takes a whole number") && log.contains("SET: "), "{log}");
    ensure!(log.contains("log.level") && !log.contains("betrayed"), "{log}");
    ensure!(front.raw().await?.query("SELECT 1").await?.error().is_none());
    Ok(())
}
