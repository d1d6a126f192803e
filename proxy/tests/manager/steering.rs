//! What an operator orders about servers, under load.

use std::time::Duration;

use pgherd_testkit::history::{Record, Report, Running, Workload};
use pgherd_testkit::{Context, Result, ensure, eventually};
use serde_json::{Value as Json, json};

use crate::herd::Herd;
use crate::live::Live;
use crate::looking::find;
use crate::web::{PATIENCE, Web, all, text};

impl Herd {
    /// Writers, with an empty table.
    pub(crate) async fn writers(&self) -> Result<Running> {
        let password = self.cluster.credentials().password("app");
        let workload = Workload::new(self.pgherd.address(), "app", "app", password);
        workload.create_table().await?;
        let running = workload.pause(Duration::from_millis(5)).start().await?;
        running.wait_acknowledged(100, PATIENCE).await?;
        Ok(running)
    }

    pub(crate) async fn compare(&self, record: &Record) -> Result<Report> {
        let report = Report::compare(record, self.cluster.primary().await?.history().await?);
        ensure!(report.is_exact(), "{report}");
        Ok(report)
    }
}

/// Waits until a node is shown so.
pub(crate) async fn wait_node(web: &Web, node: u32, name: &str, value: impl Into<Json>) -> Result<()> {
    let value = value.into();
    eventually(format!("node {node}: {name} is {value}"), PATIENCE, || async {
        let shown = web.see("herd").await?;
        Ok((find(&shown["nodes"], "id", node)?[name] == value).then_some(()))
    })
    .await
}

#[tokio::test]
async fn servers_are_switched_stopped_started_and_taken_in_again() -> Result<()> {
    let herd = Herd::start(3).await?;
    let operator = herd.operator().await?;
    wait_node(&operator, 1, "used_for", "reads").await?;
    wait_node(&operator, 2, "used_for", "reads").await?;
    switchover(&herd, &operator).await?;
    detached_and_paused(&operator).await?;
    standby_stops(&herd, &operator).await?;
    primary_stops(&herd, &operator).await?;
    copied_anew(&herd, &operator).await?;
    let events = operator.see("repmgr").await?;
    for event in ["standby_promote", "node_rejoin", "standby_clone"] {
        let known = || all(&events["events"]).iter().map(|it| text(&it["event"])).collect::<Vec<_>>();
        ensure!(known().iter().any(|it| it.contains(event)), "{event}: {:?}", known());
    }
    herd.ensure_sound()
}

/// No client meets an error, and all that is done is told on the way.
async fn switchover(herd: &Herd, operator: &Web) -> Result<()> {
    let running = herd.writers().await?;
    let mut page = Live::of(operator).await?;
    let order = operator.give(json!({ "action": "switchover", "node": 1 })).await?;
    let mut pushed: Vec<Json> = Vec::new();
    while pushed.last().is_none_or(|it| it["state"] == "running") {
        let order = page.next("order").await?;
        if let Some(last) = pushed.last() {
            ensure!(all(&order["lines"]).starts_with(all(&last["lines"])), "{last:#} {order:#}");
        }
        pushed.push(order);
    }
    let last = pushed.last().context("an order")?;
    ensure!(last["state"] == "done" && last["id"] == order["id"], "{last:#}");
    ensure!(pushed.len() > 3 && all(&last["lines"]).len() > 3, "they came together: {pushed:#?}");
    ensure!(operator.ended(&order).await? == *last, "the same is told to whoever asks");
    running.wait_acknowledged(100, PATIENCE).await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0 && report.sqlstates.is_empty(), "{report}\n{}", herd.log());
    ensure!(herd.cluster.primary().await?.id() == 2);
    let told = operator.see("failovers").await?[0].clone();
    ensure!(told["kind"] == "switchover" && told["outcome"] == "done", "{told:#}");
    ensure!(told["from"] == 0 && told["to"] == 1, "{told:#}");
    let closed = told["writes_closed_seconds"].as_f64().context("writes were closed")?;
    ensure!(closed > 0.0 && Some(closed) <= told["seconds"].as_f64(), "{told:#}");
    wait_node(operator, 0, "used_for", "reads").await
}

async fn detached_and_paused(operator: &Web) -> Result<()> {
    operator.order(json!({ "action": "detach", "node": 2 })).await?;
    wait_node(operator, 2, "detached", true).await?;
    wait_node(operator, 2, "used_for", "no").await?;
    let shown = operator.see("herd").await?;
    ensure!(text(&find(&shown["nodes"], "id", 2)?["why_not"]).contains("detached"), "{shown:#}");
    operator.order(json!({ "action": "attach", "node": 2 })).await?;
    wait_node(operator, 2, "used_for", "reads").await?;
    operator.order(json!({ "action": "pause_failover" })).await?;
    let shown = operator.see("herd").await?;
    ensure!(shown["machine"]["paused"] == true && shown["alert"]["level"] == "warning", "{shown:#}");
    operator.order(json!({ "action": "resume_failover" })).await?;
    ensure!(operator.see("herd").await?["machine"]["paused"] == false);
    Ok(())
}

async fn standby_stops(herd: &Herd, operator: &Web) -> Result<()> {
    let standby = herd.server(3)?;
    let why = operator.fails(json!({ "action": "unregister", "node": 2 })).await?;
    ensure!(why.contains("stop it before"), "{why}");
    operator.order(json!({ "action": "stop", "node": 2 })).await?;
    ensure!(standby.postmaster_pid().is_none(), "it runs");
    wait_node(operator, 2, "up", false).await?;
    let unregister = json!({ "action": "unregister", "node": 2 });
    // Until it is known that it is down, and not only going down.
    eventually("it may be unregistered", PATIENCE, || async {
        Ok(operator.rehearse(unregister.clone()).await?["refused"].is_null().then_some(()))
    })
    .await?;
    operator.order(unregister).await?;
    let primary = herd.cluster.primary().await?;
    let rows = primary.query_in("repmgr", "SELECT 1 FROM repmgr.nodes WHERE node_id = 3").await?;
    ensure!(rows.is_empty(), "it is registered");
    let why = operator.fails(json!({ "action": "unregister", "node": 2 })).await?;
    // By pgherd, or by repmgr where pgherd has not read its rows again.
    ensure!(why.contains("not registered") || why.contains("not found"), "{why}");
    operator.order(json!({ "action": "start", "node": 2 })).await?;
    wait_node(operator, 2, "up", true).await?;
    standby.must_repmgr("standby register --force").await?;
    wait_node(operator, 2, "used_for", "reads").await
}

async fn primary_stops(herd: &Herd, operator: &Web) -> Result<()> {
    let running = herd.writers().await?;
    let name = text(&operator.rehearse(json!({ "action": "stop", "node": 1 })).await?["confirm"]);
    operator.order(json!({ "action": "stop", "node": 1, "confirm": name })).await?;
    eventually("another is the primary", PATIENCE, || async {
        let shown = operator.see("herd").await?;
        Ok((shown["writes"]["open"] == true && shown["writes"]["node"] != 1).then_some(()))
    })
    .await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    herd.compare(&running.stop().await?).await?;
    let told = operator.see("failovers").await?[0].clone();
    ensure!(told["kind"] == "failover" && told["from"] == 1, "{told:#}");
    // It may be back by itself already.
    eventually("it is a standby again", PATIENCE, || async {
        let order = operator.give(json!({ "action": "rejoin", "node": 1 })).await?;
        let ended = operator.ended(&order).await?;
        let is_there = ended["state"] == "done" || text(&ended["result"]).contains("already");
        ensure!(is_there, "{ended:#}");
        Ok(Some(()))
    })
    .await?;
    wait_node(operator, 1, "used_for", "reads").await
}

/// What may lose data has to be meant.
async fn copied_anew(herd: &Herd, operator: &Web) -> Result<()> {
    let standby = herd.server(2)?;
    standby.stop_clean().await?;
    wait_node(operator, 1, "up", false).await?;
    let reclone = json!({ "action": "reclone", "node": 1 });
    for confirm in [Json::Null, "".into(), "pg01".into(), "PG02".into(), "1".into()] {
        let mut order = reclone.clone();
        order["confirm"] = confirm;
        let answer = operator.post("orders", &order).await?;
        // While something else is under way there it is refused.
        ensure!(answer.status == 400 || answer.status == 409, "{answer:?}");
        ensure!(answer.status == 409 || answer.error()?.contains("\"pg02\""), "{answer:?}");
    }
    ensure!(!herd.log().contains("CloneStandby") || !herd.log().contains("Reclone"), "{}", herd.log());
    let mut order = reclone;
    order["confirm"] = "pg02".into();
    let given = eventually("it is taken", PATIENCE, || async {
        let answer = operator.post("orders", &order).await?;
        Ok(if answer.status == 202 { Some(answer.json()?) } else { None })
    })
    .await?;
    let ended = operator.ended(&given).await?;
    ensure!(ended["state"] == "done", "{ended:#}\n{}", herd.log());
    wait_node(operator, 1, "used_for", "reads").await
}
