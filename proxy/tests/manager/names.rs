//! Names that were thought out to be taken for something else come through as they are.

use pgherd_testkit::client::Session;
use pgherd_testkit::{Result, ensure, eventually};

use crate::herd::Herd;
use crate::looking::find;
use crate::web::{PATIENCE, all};

const NAMES: [&str; 5] = [
    "<script>alert(1)</script>",
    "a\"b'c;--\\ ${x} $(reboot)",
    "two\nlines\tand\r a bell \u{7}",
    "right\u{202e}to left\u{200b}",
    "</pre>&amp;😀",
];

#[tokio::test]
async fn hostile_names_come_through_unchanged() -> Result<()> {
    let herd = Herd::start(1).await?;
    let operator = herd.operator().await?;
    let server = herd.server(1)?;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for name in NAMES {
        server.query(&format!("CREATE ROLE {} LOGIN SUPERUSER PASSWORD 'p'", quoted(name))).await?;
        server.query(&format!("CREATE DATABASE {}", quoted(name))).await?;
    }
    let mut sessions = Vec::new();
    for name in NAMES {
        let mut config = tokio_postgres::Config::new();
        config.host(herd.pgherd.address().ip().to_string()).port(herd.pgherd.address().port());
        config.user(name).dbname(name).application_name(name).password("p");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(&format!("BEGIN; SELECT '{}' AS \"hostile\"", name.replace('\'', "''"))).await?;
        sessions.push(client);
    }
    let clients = operator.see("show/clients").await?;
    let activity = operator.see("activity").await?;
    for name in NAMES {
        let client = find(&clients, "user", name)?;
        ensure!(client["database"] == name && client["application_name"] == name, "{client}");
        let session = find(&activity["nodes"][0]["sessions"], "user", name)?;
        ensure!(session["database"] == name, "{session}");
        ensure!(
            session["query"].as_str().is_some_and(|it| it.contains(&name.replace('\'', "''"))),
            "{session}"
        );
        for view in ["pools", "databases", "users", "stats"] {
            let shown = operator.see(&format!("show/{view}")).await?;
            let column = if ["pools", "stats"].contains(&view) { "database" } else { "name" };
            find(&shown, column, name)?;
        }
        // An order names it as it is.
        let disable = serde_json::json!({ "action": "disable", "database": name });
        operator.order(disable).await?;
        let databases = operator.see("show/databases").await?;
        ensure!(find(&databases, "name", name)?["disabled"] == 1, "{databases:#}");
        let login = operator.try_log_in(name, "p").await?.expect(401)?;
        ensure!(!login.body.contains(name), "{login:?}");
    }
    // An order is one line of the log, whatever it is about.
    let log = herd.pgherd.log();
    ensure!(
        log.iter().filter(|line| line.contains("an order at the manager")).count() == NAMES.len(),
        "{log:#?}"
    );
    ensure!(!log.iter().any(|line| line.starts_with("lines")), "{log:#?}");
    other_encodings(&herd).await?;
    herd.ensure_sound()
}

/// What a client of another encoding says is shown as far as it can be read, and hides nobody else.
async fn other_encodings(herd: &Herd) -> Result<()> {
    let (operator, server) = (herd.operator().await?, herd.server(1)?);
    server
        .query("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        .await?;
    let client = Session::connect(&server.connection_string("repmgr", "latin")).await?;
    client.batch_execute("BEGIN; SELECT 'é ü' AS latin").await?;
    eventually("it is shown", PATIENCE, || async {
        let activity = operator.see("activity").await?;
        let node = &activity["nodes"][0];
        ensure!(node["error"].is_null(), "{node:#}");
        let found = find(&node["sessions"], "database", "latin")?;
        // The letters of its encoding are none here.
        Ok((all(&node["sessions"]).len() > 3
            && found["query"].as_str().is_some_and(|it| it.contains('\u{fffd}')))
        .then_some(()))
    })
    .await
}
