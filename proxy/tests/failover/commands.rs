//! What an operator does from the command line, with the real program against a real cluster.

use pgherd_testkit::{Asked, Cluster, Context, Result, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

impl Herd {
    /// Runs a command, which is to end with this exit code.
    async fn asks(&self, arguments: &[&str], code: i32) -> Result<Asked> {
        let asked = self.pgherd.ask(arguments).await?;
        ensure!(asked.code == code, "pgherd {arguments:?}: {asked:?}\n{}", self.log());
        Ok(asked)
    }

    /// Waits until `pgherd status` says this.
    async fn wait_status(&self, part: &str) -> Result<String> {
        eventually(format!("pgherd status says {part:?}"), PATIENCE, || async {
            let asked = self.pgherd.ask(&["status"]).await?;
            Ok(asked.said.contains(part).then_some(asked.said))
        })
        .await
        .with_context(|| self.log())
    }
}

#[tokio::test]
async fn manual_mode_shows_what_it_would_do_and_the_order_does_it() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd.set("failover.mode", "manual")).await?;
    herd.wait_status("Steady since").await?;
    let refused = herd.asks(&["failover"], 1).await?;
    ensure!(refused.complained.contains("node 0 is the primary and works: a switchover"), "{refused:?}");
    herd.cluster.server(1)?.kill9().await?;
    let status = herd.wait_status("What to do").await?;
    for words in [
        "Hold since",
        "failover.mode is manual",
        "pgherd failover (node 1, ",
        "bytes behind what node 0 was last known to have, is promoted)",
        "none takes writes: they wait",
        "(e) neither paused nor manual",
    ] {
        ensure!(status.contains(words), "{words:?} is not in\n{status}");
    }
    let json = herd.asks(&["status", "--json"], 4).await?.said;
    for words in [
        "\"writes_open\": false",
        "\"primary\": null",
        "\"state\": \"Hold\"",
        "\"advice\": \"pgherd failover",
    ] {
        ensure!(json.contains(words), "{words} is not in\n{json}");
    }
    let plan = herd.asks(&["failover", "--dry-run"], 0).await?.said;
    ensure!(plan.contains("order would be taken: node 1, ") && plan.contains("guard holds: (a)"), "{plan}");
    ensure!(!herd.log().contains("command begins"), "nothing was done to the servers");
    let name = herd.cluster.server(3)?.name().to_owned();
    let done = herd.asks(&["failover", "--to", &name, "--allow-data-loss"], 0).await?;
    ensure!(done.said.contains("node 2 is the primary, on timeline 2"), "{done:?}");
    ensure!(herd.cluster.primary().await?.id() == 3, "{}", herd.log());
    let status = herd.asks(&["status"], 0).await?.said;
    ensure!(status.contains("node 2 (") && status.contains("on timeline 2"), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_somebody_has_stopped_is_rejoined_by_order_alone() -> Result<()> {
    let herd = Herd::start().await?;
    let old = herd.cluster.server(1)?;
    let done = herd.asks(&["switchover", "1", "--dry-run"], 0).await?.said;
    ensure!(done.contains("order would be taken: node 1, "), "{done}");
    herd.asks(&["switchover", "1"], 0).await?;
    herd.pgherd.wait_log("server rejoined", PATIENCE).await?;
    old.stop_clean().await?;
    herd.wait_status("refuses connections").await?;
    let refused = herd.asks(&["rejoin", "1"], 1).await?;
    ensure!(refused.complained.contains("node 1 is the primary"), "{refused:?}");
    // While it is paused nobody else repairs it.
    herd.asks(&["pause"], 0).await?;
    let done = herd.asks(&["rejoin", "0"], 0).await?;
    ensure!(done.said.contains("node 0 follows node 1"), "{done:?}");
    let again = herd.asks(&["rejoin", "0"], 1).await?;
    ensure!(again.complained.contains("node 0 follows node 1 already"), "{again:?}");
    let primary = herd.cluster.server(2)?;
    herd.wait_led_by(&primary, &[&old]).await
}

#[tokio::test]
async fn a_detached_server_is_neither_read_nor_promoted() -> Result<()> {
    let herd = Herd::start().await?;
    let refused = herd.asks(&["detach", "0"], 1).await?;
    ensure!(
        refused.complained.contains("node 0 is the primary: make another the primary first"),
        "{refused:?}"
    );
    let unknown = herd.asks(&["detach", "pg09"], 1).await?;
    ensure!(unknown.complained.contains("there is no server \"pg09\""), "{unknown:?}");
    herd.asks(&["detach", "1"], 0).await?;
    let status = herd.asks(&["status"], 0).await?.said;
    ensure!(
        status.contains("node 1 is detached") && status.contains("an operator has detached it"),
        "{status}"
    );
    herd.cluster.server(1)?.kill9().await?;
    herd.wait_status("Primary     node 2").await?;
    herd.asks(&["attach", "1"], 0).await?;
    let again = herd.asks(&["attach", "1"], 1).await?;
    ensure!(again.complained.contains("node 1 is not detached"), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn while_failover_is_paused_nobody_is_promoted() -> Result<()> {
    let herd = Herd::start().await?;
    herd.asks(&["pause"], 0).await?;
    ensure!(herd.asks(&["pause"], 1).await?.complained.contains("paused already"));
    herd.cluster.server(1)?.kill9().await?;
    let status = herd.wait_status("What to do  pgherd resume").await?;
    ensure!(status.contains("Warning     failover is paused"), "{status}");
    let refused = herd.asks(&["failover", "--allow-data-loss"], 1).await?;
    ensure!(refused.complained.contains("failover is paused by an operator: resume it first"), "{refused:?}");
    herd.asks(&["resume"], 0).await?;
    herd.wait_writable().await
}

#[tokio::test]
async fn exit_codes_say_what_was_wrong() -> Result<()> {
    let mut herd = Herd::start().await?;
    let table = herd.pgherd.ask(&["failover", "--explain"]).await?;
    ensure!(table.code == 2, "--explain asks nobody, and takes no --config: {table:?}");
    ensure!(herd.asks(&["detach"], 2).await?.complained.contains("NODE"));
    let stranger = herd.asks(&["status", "--user", "nobody"], 3).await?;
    ensure!(stranger.complained.contains("as user \"nobody\""), "{stranger:?}");
    herd.pgherd.kill9().await?;
    let gone = herd.asks(&["status"], 3).await?;
    ensure!(gone.complained.contains("pgherd cannot be reached at"), "{gone:?}");
    ensure!(gone.complained.contains("Is it running?"), "{gone:?}");
    Ok(())
}

#[tokio::test]
async fn what_has_happened_is_in_repmgrs_table_of_events_and_told() -> Result<()> {
    let herd = Herd::start().await?;
    herd.cluster.server(1)?.kill9().await?;
    herd.wait_writable().await?;
    let primary = herd.cluster.primary().await?;
    herd.cluster.server(1)?.start().await?;
    eventually("all of it is in repmgr.events", PATIENCE, || async {
        let sql =
            "SELECT string_agg(event || ' ' || node_id || ' ' || successful, ', ' ORDER BY event_timestamp)
                     FROM repmgr.events WHERE event LIKE 'pgherd%'";
        let rows = primary.query_in("repmgr", sql).await?;
        let seen = rows.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned();
        let new = primary.id();
        let all = [
            "pgherd_fence 1 true".to_owned(),
            format!("pgherd_promote {new} true"),
            format!("pgherd_failover {new} true"),
            "pgherd_rejoin 1 true".to_owned(),
        ];
        Ok(all.iter().all(|it| seen.contains(it)).then_some(()))
    })
    .await
    .with_context(|| herd.log())?;
    let said = herd.asks(&["events"], 0).await?.said;
    for words in [
        "pgherd_fence",
        "the primary is replaced: all guards hold; node 0 was last seen at",
        "pgherd_rejoin",
        " bytes of WAL of its own, from 0/",
    ] {
        ensure!(said.contains(words), "{words:?} is not in\n{said}");
    }
    let json = herd.asks(&["events", "--json"], 0).await?.said;
    ensure!(
        json.contains("\"event\": \"pgherd_failover\"") && json.contains("\"successful\": true"),
        "{json}"
    );
    Ok(())
}
