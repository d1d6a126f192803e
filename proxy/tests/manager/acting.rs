//! What an operator orders about clients and settings, and what is refused.

use std::time::{Duration, Instant};

use pgherd_testkit::client::{ErrorFields, RawClient};
use pgherd_testkit::{Context, Result, ensure, eventually};
use serde_json::{Value as Json, json};

use crate::access::actions;
use crate::herd::{Herd, OPERATOR};
use crate::looking::find;
use crate::web::{PATIENCE, Web, all, text};

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() -> Result<()> {
    let herd = Herd::start(2).await?;
    let operator = herd.operator().await?;
    let client = herd.connect().await?;
    let settings = operator.see("settings").await?;
    for action in actions() {
        let told = operator.rehearse(action.clone()).await?;
        let (would, refused) = (text(&told["would"]), text(&told["refused"]));
        ensure!(would.is_empty() != refused.is_empty(), "{action}: {told:#}");
        ensure!((would + &refused).len() > 10, "{action}: {told:#}");
        let is_dangerous = ["reclone", "backup_delete"].iter().any(|it| action["action"] == **it);
        ensure!(told["dangerous"] == is_dangerous && told["confirm"].is_string() == is_dangerous, "{told:#}");
    }
    for (action, confirm) in [
        (json!({ "action": "failover", "allow_data_loss": true }), "failover"),
        (json!({ "action": "failover", "node": 1, "accept_timeline": 3 }), "pg02"),
        (json!({ "action": "rejoin", "node": 1, "allow_data_loss": true }), "pg02"),
    ] {
        let told = operator.rehearse(action).await?;
        ensure!(told["dangerous"] == true && told["confirm"] == confirm, "{told:#}");
    }
    let told = operator.rehearse(json!({ "action": "switchover" })).await?;
    ensure!(text(&told["would"]).contains("node 1"), "{told:#}");
    let told = operator.rehearse(json!({ "action": "stop", "node": 0 })).await?;
    ensure!(text(&told["consequences"][0]).contains("promotes a standby"), "{told:#}");
    let told = operator.rehearse(json!({ "action": "set", "key": "pool.sice", "value": "1" })).await?;
    ensure!(text(&told["refused"]).contains("pool.size"), "{told:#}");
    ensure!(operator.see("orders").await? == json!([]), "nothing was ordered");
    ensure!(operator.see("settings").await? == settings, "nothing was set");
    let shown = operator.see("herd").await?;
    ensure!(shown["machine"]["state"] == "Steady" && shown["machine"]["paused"] == false, "{shown:#}");
    ensure!(all(&shown["nodes"]).iter().all(|node| node["up"] == true && node["detached"] == false));
    client.batch_execute("CREATE TABLE works ()").await?;
    let log = herd.log();
    ensure!(!log.contains("command begins") && !log.contains("order begins"), "{log}");
    herd.ensure_sound()
}

#[tokio::test]
async fn what_is_no_order_is_refused_in_a_sentence() -> Result<()> {
    let herd = Herd::start(1).await?;
    let operator = herd.operator().await?;
    for (body, status, words) in [
        (json!({ "action": "stop", "node": 7 }), 404, "There is no server 7"),
        (json!({ "action": "switchover", "node": 7, "dry_run": true }), 404, "There is no server 7"),
        (json!({ "action": "dance" }), 400, "dance"),
        (json!({ "action": "Stop", "node": 0 }), 400, "Stop"),
        (json!({ "node": 0 }), 400, "action"),
        (json!({ "action": "stop" }), 400, "node"),
        (json!({ "action": "stop", "node": "0" }), 400, "0"),
        (json!({ "action": "stop", "node": 0.5 }), 400, "0.5"),
        (json!({ "action": "stop", "node": 4294967296_u64 }), 400, "u32"),
        (json!({ "action": "stop", "node": 0, "now": true }), 400, "now"),
        (json!({ "action": "reload", "dry_run": "yes" }), 400, "dry_run"),
        (json!({ "action": "backup", "node": 0, "kind": "whole" }), 400, "whole"),
        (json!({ "action": "reclone", "node": 0 }), 409, "primary"),
        (json!({ "action": "failover", "allow_data_loss": true }), 409, "primary"),
        (json!([]), 422, ""),
    ] {
        let answer = operator.post("orders", &body).await?;
        ensure!(answer.status == status && answer.error()?.contains(words), "{body}: {answer:?}");
    }
    ensure!(operator.see("orders").await? == json!([]), "nothing was ordered");
    // What is an order, and cannot be done.
    for (action, words) in [
        (json!({ "action": "unregister", "node": 0 }), "is the primary"),
        (json!({ "action": "start", "node": 0 }), "runs already"),
        (json!({ "action": "detach", "node": 0 }), "is the primary"),
        (json!({ "action": "switchover" }), ""),
        (json!({ "action": "resume" }), "is not paused"),
        (json!({ "action": "pause", "database": "pgherd" }), "console"),
        (json!({ "action": "disable", "database": "pgbouncer" }), "console"),
        (json!({ "action": "kill_client", "id": 4711 }), "no client 4711"),
        (json!({ "action": "cancel", "node": 0, "pid": -1 }), "no process"),
        (json!({ "action": "terminate", "node": 0, "pid": 0 }), "no process"),
        (json!({ "action": "set", "key": "pool.size", "value": "many" }), "pool.size"),
        (json!({ "action": "set", "key": "http.address", "value": "off" }), "restart"),
        (json!({ "action": "set", "key": "auth.pam", "value": "x" }), "auth.pam"),
        (json!({ "action": "backup", "node": 0, "kind": "base" }), ""),
        (
            json!({ "action": "backup", "node": 0, "kind": "dump", "database": "a; rm -rf /" }),
            "no name of a database",
        ),
        (
            json!({ "action": "backup_restore", "node": 0, "name": "dump-../x", "database": "a" }),
            "no name of a backup",
        ),
    ] {
        let why = operator.fails(action.clone()).await?;
        ensure!(why.len() > 10 && why.contains(words), "{action}: {why}");
    }
    // A long name is compared with no key: nobody waits for that.
    let moment = Instant::now();
    operator.rehearse(json!({ "action": "set", "key": format!("pool.{}", "k".repeat(7_000)) })).await?;
    ensure!(moment.elapsed() < Duration::from_secs(1), "{:?}", moment.elapsed());
    let refused = json!({ "action": "backup_delete", "node": 0, "name": "$(reboot)", "confirm": "pg01" });
    operator.post("orders", &refused).await?.expect(409)?.error()?;
    herd.ensure_sound()
}

#[tokio::test]
async fn orders_about_settings_and_clients_are_carried_out() -> Result<()> {
    let mut herd = Herd::start(1).await?;
    let operator = herd.operator().await?;
    settings(&mut herd, &operator).await?;
    pools(&herd, &operator).await?;
    gates(&herd, &operator).await?;
    sessions(&herd, &operator).await?;
    let events = operator.see("events").await?;
    let orders = operator.see("orders").await?;
    ensure!(all(&orders).len() >= 10, "{orders:#}");
    for order in all(&orders) {
        let name = format!("operator_{}", text(&order["action"]));
        let is_it = |it: &&Json| it["event"] == name && it["at"] == order["at"];
        let event =
            all(&events).iter().find(is_it).with_context(|| format!("{order} is not in {events:#}"))?;
        ensure!(event["by"] == OPERATOR.0 && event["details"] == order["result"], "{event}");
        ensure!(event["successful"] == (order["state"] == "done"), "{event}");
    }
    let times: Vec<_> = all(&events).iter().map(|it| text(&it["at"])).collect();
    ensure!(times.is_sorted_by(|one, next| one >= next), "the newest first: {times:?}");
    herd.ensure_sound()
}

async fn settings(herd: &mut Herd, operator: &Web) -> Result<()> {
    let value = async |key: &str| {
        Ok::<_, pgherd_testkit::Error>(find(&operator.see("settings").await?, "key", key)?.clone())
    };
    operator.order(json!({ "action": "set", "key": "pool.size", "value": "7" })).await?;
    let set = value("pool.size").await?;
    ensure!(set["value"] == "7" && text(&set["source"]).contains("SET"), "{set}");
    operator.order(json!({ "action": "set", "key": "pool.size" })).await?;
    ensure!(value("pool.size").await?["value"] == "20");
    herd.pgherd.set("pool.size", 9)?;
    let order = operator.order(json!({ "action": "reload" })).await?;
    ensure!(text(&order["result"]).contains("pool.size"), "{order}");
    ensure!(value("pool.size").await?["value"] == "9");
    herd.pgherd.set("pool.size", "many")?;
    let why = operator.fails(json!({ "action": "reload" })).await?;
    ensure!(why.contains("pool.size") && why.contains("nothing has changed"), "{why}");
    ensure!(value("pool.size").await?["value"] == "9");
    herd.pgherd.set("pool.size", 9)
}

async fn pools(herd: &Herd, operator: &Web) -> Result<()> {
    let (open, late) = (herd.connect().await?, herd.connect().await?);
    open.batch_execute("BEGIN; CREATE TABLE paused (n int)").await?;
    let pause = operator.give(json!({ "action": "pause" })).await?;
    let path = format!("orders/{}", pause["id"]);
    eventually("it waits for the transaction", PATIENCE, || async {
        // Before that the catalogue may be read on another connection.
        let order = operator.see(&path).await?;
        let is_told = |line: &Json| text(&line["text"]).contains("1 server connections");
        Ok(all(&order["lines"]).iter().any(is_told).then_some(()))
    })
    .await?;
    ensure!(operator.fails(json!({ "action": "pause" })).await?.contains("already paused"));
    let query = late.batch_execute("SELECT 1");
    let rest = async {
        ensure!(operator.see(&path).await?["state"] == "running");
        open.batch_execute("COMMIT").await?;
        let ended = operator.ended(&pause).await?;
        ensure!(ended["state"] == "done", "{ended:#}");
        eventually("one client waits", PATIENCE, || async {
            let pools = operator.see("show/pools").await?;
            Ok((find(&pools, "database", "app")?["cl_waiting"] == 1).then_some(()))
        })
        .await?;
        operator.order(json!({ "action": "resume" })).await
    };
    let (query, rest) = tokio::join!(query, rest);
    rest?;
    query?;
    // One that was resumed before was none.
    open.batch_execute("BEGIN; SELECT 1").await?;
    let pause = operator.give(json!({ "action": "pause", "database": "app" })).await?;
    operator.order(json!({ "action": "resume", "database": "app" })).await?;
    ensure!(text(&operator.ended(&pause).await?["result"]).contains("resumed before"));
    open.batch_execute("COMMIT").await?;
    let pid = |client| backend(client);
    let before = pid(&open).await?;
    operator.order(json!({ "action": "reconnect", "database": "app" })).await?;
    pid(&open).await?;
    ensure!(pid(&open).await? != before, "the connection was replaced");
    Ok(())
}

async fn backend(client: &pgherd_testkit::client::Session) -> Result<i32> {
    Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))
}

async fn gates(herd: &Herd, operator: &Web) -> Result<()> {
    let inside = herd.connect().await?;
    operator.order(json!({ "action": "disable", "database": "app" })).await?;
    let refused = herd.raw().await.err();
    let code =
        refused.as_ref().and_then(|it| it.downcast_ref::<ErrorFields>()).map(|it| it.code().to_owned());
    ensure!(code.as_deref() == Some("55000"), "{refused:?}");
    inside.batch_execute("SELECT 1").await?;
    operator.order(json!({ "action": "enable", "database": "app" })).await?;
    herd.raw().await?;
    Ok(())
}

/// The process that serves this client, and how its query ends.
async fn told(herd: &Herd, operator: &Web, action: &str) -> Result<(Option<String>, RawClient)> {
    let mut client = herd.raw().await?;
    let query = "SELECT pg_sleep(60) -- of mine";
    let sleeps = client.query(query);
    let orders = async {
        let pid = eventually("it sleeps", PATIENCE, || async {
            let shown = operator.see("activity?node=0").await?;
            Ok(find(&shown["nodes"][0]["sessions"], "query", query).ok().map(|it| it["pid"].clone()))
        })
        .await?;
        let order = json!({ "action": action, "node": 0, "pid": pid });
        let would = text(&operator.rehearse(order.clone()).await?["would"]);
        ensure!(would.contains(&pid.to_string()), "{would}");
        operator.order(order).await
    };
    let (slept, ordered) = tokio::join!(sleeps, orders);
    ordered?;
    let code = match slept {
        Ok(answer) => answer.error().map(|it| it.code().to_owned()),
        Err(error) => error.downcast_ref::<ErrorFields>().map(|it| it.code().to_owned()),
    };
    Ok((code, client))
}

async fn sessions(herd: &Herd, operator: &Web) -> Result<()> {
    let (code, mut client) = told(herd, operator, "cancel").await?;
    ensure!(code.as_deref() == Some("57014"), "{code:?}");
    ensure!(client.query("SELECT 1").await?.error().is_none(), "its session goes on");
    let (code, _) = told(herd, operator, "terminate").await?;
    ensure!(code.as_deref() == Some("57P01"), "{code:?}");
    let id = eventually("it is the only one", PATIENCE, || async {
        let clients = operator.see("show/clients").await?;
        Ok((all(&clients).len() == 1).then(|| clients[0]["id"].clone()))
    })
    .await?;
    let order = json!({ "action": "kill_client", "id": id });
    let would = text(&operator.rehearse(order.clone()).await?["would"]);
    ensure!(would.contains("app in database app"), "{would}");
    operator.order(order).await?;
    let last = client.read_to_end().await?;
    let code = last.iter().find_map(|it| it.error_fields()).map(|it| it.code().to_owned());
    ensure!(code.as_deref() == Some("57P01"), "{last:?}");
    Ok(())
}
