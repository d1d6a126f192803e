//! Who is let in, and what those are told who are not.

use pgherd_testkit::client::{ErrorFields, RawClient, psql, startup_packet};
use pgherd_testkit::{Result, anyhow, ensure};

use crate::front::{Front, comparable};

/// How a login of these ends: what was refused, or that it was not.
pub(crate) async fn refusal(
    address: std::net::SocketAddr,
    user: &str,
    database: &str,
    password: &str,
) -> Result<String> {
    match RawClient::login(address, user, database, password).await {
        Ok(_) => Ok("let in".to_owned()),
        Err(error) => error.downcast::<ErrorFields>().map(|fields| fields.to_string()),
    }
}

#[tokio::test]
async fn those_who_are_refused_are_told_what_postgresql_tells_them() -> Result<()> {
    let front = Front::start().await?;
    let (app, legacy) = (front.password("app").to_owned(), front.password("legacy").to_owned());
    for statement in [
        "CREATE ROLE nologin PASSWORD 'pw'; CREATE ROLE nopassword LOGIN; \
         CREATE ROLE expired LOGIN PASSWORD 'pw' VALID UNTIL '2020-01-01'",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
    ] {
        front.server()?.query(statement).await?;
    }
    for (user, database, password) in [
        ("app", "app", app.as_str()),
        ("legacy", "app", &legacy),
        ("app", "app", "wrong"),
        ("legacy", "app", "wrong"),
        ("nobody", "app", "wrong"),
        ("app", "no_such_database", &app),
        ("app", "closed", &app),
        ("nologin", "app", "pw"),
        ("nologin", "app", "wrong"),
        ("nopassword", "app", "pw"),
        ("expired", "app", "pw"),
    ] {
        let what = format!("user {user}, database {database}");
        let answer =
            front.same(&what, async |address| refusal(address, user, database, password).await).await?;
        eprintln!("{what}: {answer}");
    }
    // A wrong password spoils nothing.
    front.raw().await.map(drop)
}

#[tokio::test]
async fn an_answer_that_is_no_password_is_refused_as_postgresql_does() -> Result<()> {
    let front = Front::start().await?;
    for user in ["app", "legacy"] {
        for bytes in [&b"Q\0\0\0\x0dSELECT 1\0"[..], b"X\0\0\0\x04", b"p\0\0\0\x05\0"] {
            let what = format!("{user} answers {bytes:?}");
            let answer = front
                .same(&what, async |address| {
                    let mut client = RawClient::connect(address).await?;
                    client.send(&startup_packet(user, "app")?).await?;
                    client.expect_frame().await?;
                    client.send(bytes).await?;
                    Ok(comparable(&client.read_to_end().await?))
                })
                .await?;
            eprintln!("{what}: {answer:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_password_works_at_the_next_login_and_the_old_one_no_more() -> Result<()> {
    let front = Front::start().await?;
    let address = front.pgherd.address();
    let server = front.server()?;
    server.query("CREATE ROLE anna LOGIN PASSWORD 'first'").await?;
    ensure!(refusal(address, "anna", "app", "first").await? == "let in");
    for (before, after) in [("first", "second"), ("second", "third")] {
        server.query(&format!("ALTER ROLE anna PASSWORD '{after}'")).await?;
        let first = refusal(address, "anna", "app", after).await?;
        ensure!(first == "let in", "{first}");
        ensure!(refusal(address, "anna", "app", before).await?.contains("28P01"));
        let mut client = RawClient::login(address, "anna", "app", after).await?;
        ensure!(client.query("SELECT 1").await?.error().is_none(), "it opens the server too");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_spoils_nothing() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let address = front.pgherd.address();
    let server = front.server()?;
    server.query("CREATE ROLE anna LOGIN PASSWORD 'first'").await?;
    // The first who comes has a wrong one.
    ensure!(refusal(address, "anna", "app", "wrong").await?.contains("28P01"));
    let mut before = RawClient::login(address, "anna", "app", "first").await?;
    server.query("ALTER ROLE anna PASSWORD 'second'").await?;
    for wrong in ["wrong", "first"] {
        ensure!(refusal(address, "anna", "app", wrong).await?.contains("28P01"));
        ensure!(before.query("SELECT 1").await?.error().is_none(), "a session goes on");
    }
    // No server connection is left of before: a new one is opened with what the last login gave.
    server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'anna'").await?;
    let mut after = RawClient::login(address, "anna", "app", "second").await?;
    ensure!(refusal(address, "anna", "app", "first").await?.contains("28P01"));
    for client in [&mut after, &mut before] {
        let answer = client.query("SELECT 1").await?;
        ensure!(answer.error().is_none(), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn no_more_clients_than_allowed_are_let_in_and_others_are_when_one_leaves() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.max_clients", 3)).await?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(front.raw().await?);
    }
    let (address, password) = (front.pgherd.address(), front.password("app"));
    let refused = refusal(address, "app", "app", password).await?;
    ensure!(refused == "FATAL 53300: sorry, too many clients already", "{refused}");
    clients.pop();
    pgherd_testkit::eventually("room for one", crate::front::PATIENCE, || async {
        Ok((refusal(address, "app", "app", password).await? == "let in").then_some(()))
    })
    .await
}

#[tokio::test]
async fn run_time_parameters_of_the_startup_packet_are_the_sessions_own() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let url = front.pgherd.connection_string("app", "app");
    let show = "SELECT current_setting('timezone') || ' ' || current_setting('work_mem') || ' ' || \
                current_setting('application_name')";
    let tuned = format!("{url} application_name=tuned options='-c TimeZone=Asia/Tokyo -c work_mem=7MB'");
    let plain = psql(&url, show).await?;
    for _ in 0..2 {
        ensure!(psql(&tuned, show).await?.trim() == "Asia/Tokyo 7MB tuned");
        ensure!(psql(&url, show).await? == plain, "the next client does not inherit them");
    }
    let wrong = psql(&format!("{url} options='-c no_such_parameter=1'"), "SELECT 1").await;
    let text = format!("{:#}", wrong.err().ok_or_else(|| anyhow!("it was let in"))?);
    ensure!(text.contains("unrecognized configuration parameter \"no_such_parameter\""), "{text}");
    Ok(())
}

#[tokio::test]
async fn clients_are_told_that_they_can_write_whichever_server_was_asked_first() -> Result<()> {
    let cluster = pgherd_testkit::Cluster::builder().servers(2).start().await?;
    let pgherd =
        pgherd_testkit::Pgherd::builder(&cluster).set("failover.restart_grace", "3s").start().await?;
    pgherd.wait_log("writes are open", crate::front::PATIENCE).await?;
    cluster.server(1)?.kill9_all().await?;
    pgherd.wait_log("to=Suspect", crate::front::PATIENCE).await?;
    // A login while there is no primary learns its parameters from a standby.
    let url = format!("{} target_session_attrs=read-write", pgherd.connection_string("app", "app"));
    for _ in 0..2 {
        ensure!(psql(&url, "CREATE TABLE IF NOT EXISTS t (); SELECT 'written'").await?.trim() == "written");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_is_not_blamed_for_the_settings_of_the_one_before_it() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let login = async |parameters: &[(&str, &str)]| {
        let mut packet = bytes::BytesMut::new();
        let all = [("user", "app"), ("database", "app")].into_iter().chain(parameters.iter().copied());
        pgherd_testkit::client::frontend::startup_message(all, &mut packet)?;
        let mut client = RawClient::connect(front.pgherd.address()).await?;
        client.send(&packet).await?;
        client.authenticate("app", front.password("app")).await?;
        Ok::<_, pgherd_testkit::Error>(client)
    };
    let mut japanese = login(&[("client_encoding", "EUC_JP")]).await?;
    ensure!(japanese.query("SELECT 1").await?.error().is_none());
    // No text of EUC_JP.
    let mut other = login(&[("application_name", "\u{c0}")]).await?;
    let answer = other.query("SELECT 1").await?;
    ensure!(answer.error().is_none(), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn clients_that_have_not_proven_who_they_are_keep_nobody_out() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.max_clients", 3)).await?;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let mut stranger = RawClient::connect(front.pgherd.address()).await?;
        stranger.send(&startup_packet("app", "app")?).await?;
        stranger.expect_frame().await?;
        strangers.push(stranger);
    }
    let answer = refusal(front.pgherd.address(), "app", "app", front.password("app")).await?;
    ensure!(answer == "let in", "{answer}");
    Ok(())
}

#[tokio::test]
async fn who_logs_in_while_all_server_connections_are_in_use_is_let_in_or_told_why_not() -> Result<()> {
    let front = Front::with(|pgherd| {
        pgherd.set("pool.size", 1).set("pool.pinned_size", 0).set("pool.client_login_timeout", "3s")
    })
    .await?;
    let mut holder = front.raw().await?;
    holder.query("BEGIN").await?;
    let mut packet = bytes::BytesMut::new();
    let parameters = [("user", "app"), ("database", "app"), ("TimeZone", "Asia/Tokyo")];
    pgherd_testkit::client::frontend::startup_message(parameters, &mut packet)?;
    let mut client = RawClient::connect(front.pgherd.address()).await?;
    client.send(&packet).await?;
    match client.authenticate("app", front.password("app")).await {
        Ok(_) => {}
        Err(error) => {
            let fields = error.downcast::<ErrorFields>()?;
            ensure!(fields.code() == "53300", "{fields}");
        }
    }
    Ok(())
}
