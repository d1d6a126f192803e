//! pgpool's commands in ordinary databases: old scripts work on, and nothing else of the session notices.

use std::time::Duration;

use pgherd_testkit::client::{Answer, RawClient, frontend, psql};
use pgherd_testkit::{Result, ensure};
use tokio::time::timeout;

use crate::front::{Front, bind, extended, messages};

fn tags(answer: &Answer) -> String {
    answer.frames.iter().map(|frame| char::from(frame.tag)).collect()
}

#[tokio::test]
async fn pgpools_commands_are_answered_wherever_they_stand() -> Result<()> {
    for mode in ["transaction", "session"] {
        let front = Front::with(|pgherd| pgherd.set("pool.mode", mode)).await?;
        let mut client = front.raw().await?;
        let shown = client.query("SHOW pool_nodes").await?;
        ensure!(tags(&shown) == "TDCZ" && shown.command().as_deref() == Some("SELECT 1"), "{shown:?}");
        let port = front.server()?.port().to_string();
        ensure!(shown.rows().concat().contains(&Some(port.into())), "{shown:?}");
        let out = psql(&front.pgherd.connection_string("app", "app"), "SELECT 1; SHOW POOL_VERSION").await;
        ensure!(out.is_err(), "several statements in one text are a server's");
        let out = psql(&front.pgherd.connection_string("app", "app"), "SHOW POOL_VERSION;").await?;
        ensure!(out.contains("pgherd"), "{out}");

        // In a transaction, which goes on; in a failed one, too.
        client.query("BEGIN").await?;
        client.query("CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1 AS a").await?;
        let inside = client.query("SHOW POOL_POOLS").await?;
        ensure!(inside.error().is_none() && inside.transaction_state() == Some('T'), "{inside:?}");
        ensure!(client.query("SELECT a FROM t").await?.rows() == [[Some("1".into())]]);
        client.query("SELECT 1/0").await?;
        ensure!(client.query("SHOW POOL_NODES").await?.transaction_state() == Some('E'));
        client.query("ROLLBACK").await?;

        // In the extended protocol, named and not, and in the midst of a pipeline, in its turn.
        let asked = {
            client.send(&extended("", "SHOW POOL_NODES", &[])?).await?;
            client.read_answer().await?
        };
        ensure!(tags(&asked) == "12TDCZ", "{asked:?}");
        let pipeline = messages(|out| {
            frontend::parse("nodes", "SHOW pool_nodes;", [], out)?;
            frontend::describe(b'S', "nodes", out)?;
            frontend::parse("", "SELECT 'first'", [], out)?;
            bind("", &[], out)?;
            frontend::execute("", 0, out)?;
            bind("nodes", &[], out)?;
            frontend::execute("", 0, out)?;
            bind("", &[], out)?;
            frontend::execute("", 0, out)?;
            frontend::close(b'S', "nodes", out)?;
            frontend::sync(out);
            Ok(())
        })?;
        client.send(&pipeline).await?;
        let answer = client.read_answer().await?;
        ensure!(tags(&answer) == "1tT12DC2DC2DC3Z", "{mode}: {}", tags(&answer));
        let rows = answer.rows();
        ensure!(rows.len() == 3 && rows[0] == rows[2] && rows[1].len() == 14, "{rows:?}");
        client
            .send(&messages(|out| {
                bind("nodes", &[], out)?;
                frontend::sync(out);
                Ok(())
            })?)
            .await?;
        ensure!(
            client.read_answer().await?.error().is_some_and(|error| error.code() == "26000"),
            "it is closed"
        );

        // Behind an error it is skipped with the rest; behind a batch without its end it is the server's.
        let skipped = messages(|out| {
            frontend::parse("", "SELEKT", [], out)?;
            frontend::parse("n", "SHOW POOL_NODES", [], out)?;
            bind("n", &[], out)?;
            frontend::execute("", 0, out)?;
            frontend::sync(out);
            frontend::query("SHOW POOL_CACHE", out)
        })?;
        client.send(&skipped).await?;
        ensure!(tags(&client.read_answer().await?) == "EZ");
        ensure!(tags(&client.read_answer().await?) == "TDCZ");
        ensure!(client.query("SELECT 1").await?.error().is_none());
    }
    Ok(())
}

#[tokio::test]
async fn pgpools_parameters_are_shown_in_its_units_and_no_client_sets_them() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.client_idle_timeout", "5min")).await?;
    let mut client = front.raw().await?;
    let port = front.pgherd.address().port().to_string();
    for (name, value) in [
        ("port", port.as_str()),
        ("client_idle_limit", "300"),
        ("num_init_children", "20"),
        ("connect_timeout", "15000"),
        ("use_watchdog", "off"),
    ] {
        let shown = client.query(&format!("PGPOOL SHOW {name}")).await?;
        ensure!(tags(&shown) == "TDCZ" && shown.command().as_deref() == Some("SELECT 1"), "{shown:?}");
        ensure!(shown.rows() == [[Some(value.to_owned().into())]], "{name}: {shown:?}");
    }
    client.send(&extended("", "PGPOOL SHOW port", &[])?).await?;
    ensure!(tags(&client.read_answer().await?) == "12TDCZ");
    let (all, status) = (client.query("PGPOOL SHOW ALL").await?, client.query("SHOW POOL_STATUS").await?);
    ensure!(all.rows() == status.rows() && all.rows().len() > 20, "{all:?}");

    client.query("BEGIN").await?;
    let set = client.query("PGPOOL SET client_idle_limit = 3").await?;
    ensure!(set.error().is_some_and(|error| error.code() == "55P02"), "{set:?}");
    ensure!(set.transaction_state() == Some('T'), "the transaction is the server's: {set:?}");
    ensure!(client.query("PGPOOL RESET ALL").await?.command().as_deref() == Some("RESET"));
    client.send(&extended("", "PGPOOL RESET port", &[])?).await?;
    ensure!(tags(&client.read_answer().await?) == "12nCZ");
    ensure!(client.query("COMMIT").await?.command().as_deref() == Some("COMMIT"));
    // What is nothing here either is an error in both protocols.
    ensure!(client.query("PGPOOL SHOW nothing").await?.error().is_some_and(|error| error.code() == "42601"));
    client.send(&extended("", "PGPOOL SET port = 1", &[])?).await?;
    ensure!(tags(&client.read_answer().await?) == "EZ");
    ensure!(client.query("SELECT 1").await?.error().is_none());
    Ok(())
}

#[tokio::test]
async fn a_script_hears_of_the_nodes_while_no_server_is_up_and_while_all_are_busy() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let (mut holder, mut client) = (front.raw().await?, front.raw().await?);
    holder.query("BEGIN").await?;
    let asked = timeout(Duration::from_secs(10), client.query("SHOW POOL_NODES")).await??;
    ensure!(asked.rows().len() == 1, "{asked:?}");
    holder.query("COMMIT").await?;
    ensure!(client.query("SELECT 1").await?.error().is_none(), "it goes on");
    front.server()?.stop_immediate().await?;
    let mut said = Vec::new();
    for _ in 0..300 {
        said = RawClient::query(&mut client, "SHOW POOL_NODES").await?.rows().concat();
        if said.get(4) == Some(&Some("down".into())) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(false, "{said:?}");
    Ok(())
}
