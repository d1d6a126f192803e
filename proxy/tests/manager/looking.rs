//! What is shown is what the servers say themselves.

use pgherd_testkit::{Cluster, Context, Result, ensure, eventually};
use serde_json::Value as Json;

use crate::herd::{Herd, OPERATOR, VIEWER};
use crate::live::Live;
use crate::schema::Schema;
use crate::web::{PATIENCE, Web, all, text};

/// A password that is nobody's, in a place where it may be shown.
const SECRET: &str = "s3cr3t-of-a-setting";

/// The object of a list that has this value at this name.
pub(crate) fn find<'a>(list: &'a Json, name: &str, value: impl Into<Json>) -> Result<&'a Json> {
    let value = value.into();
    let found = all(list).iter().find(|it| it[name] == value);
    found.with_context(|| format!("none has {name} = {value}: {list:#}"))
}

#[tokio::test]
async fn what_is_shown_is_what_the_servers_say() -> Result<()> {
    let cluster =
        Cluster::builder().setting("shared_preload_libraries", "repmgr,pg_stat_statements").start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd.set("failover.etcd.password", SECRET)).await?;
    let (operator, viewer) = (herd.operator().await?, herd.viewer().await?);
    let schema = Schema(operator.see("openapi.json").await?);
    eventually("all is well", PATIENCE, || async {
        let shown = operator.see("herd").await?;
        let reads = all(&shown["nodes"]).iter().filter(|it| it["used_for"] == "reads").count();
        Ok((reads == 2 && shown["alert"].is_null() && !shown["traffic"].is_null()).then_some(()))
    })
    .await?;
    the_herd(&herd, &operator).await?;
    replication(&herd, &operator).await?;
    activity(&herd, &operator).await?;
    statements(&herd, &operator).await?;
    repmgr(&herd, &operator).await?;
    on_the_servers(&operator).await?;
    views(&herd, &operator).await?;
    // As it says itself that it answers.
    for (path, _) in schema.paths()?.into_iter().filter(|(_, methods)| methods.contains(&"get")) {
        for web in [&operator, &viewer] {
            let asked = path.replace("{view}", "config").replace("{id}", "1");
            let answer = web.get(asked.trim_start_matches('/')).await?;
            ensure!(answer.header("content-type") == Some("application/json"), "{answer:?}");
            schema.check("get", path, &answer.status.to_string(), &answer.json()?).or_else(|error| {
                // What is not there is told in a sentence.
                answer.error().map(drop).map_err(|_| error)
            })?;
        }
    }
    nothing_secret(&herd, &operator, &schema).await?;
    herd.ensure_sound()
}

async fn the_herd(herd: &Herd, operator: &Web) -> Result<()> {
    let shown = operator.see("herd").await?;
    let primary = herd.server(1)?;
    let identifier = primary.scalar("SELECT system_identifier FROM pg_control_system()").await?;
    ensure!(shown["cluster"]["system_identifier"] == identifier && shown["cluster"]["timeline"] == 1);
    ensure!(shown["machine"]["state"] == "Steady" && shown["machine"]["decides"] == true, "{shown:#}");
    ensure!(shown["writes"]["open"] == true && shown["writes"]["node"] == 0, "{shown:#}");
    for server in herd.cluster.servers() {
        let node = find(&shown["nodes"], "id", server.backend_id())?;
        let is_primary = server.id() == 1;
        for (name, expected) in [
            ("name", Json::from(server.name())),
            ("host", server.address().to_string().into()),
            ("port", server.port().into()),
            ("role", if is_primary { "primary" } else { "standby" }.into()),
            ("used_for", if is_primary { "writes" } else { "reads" }.into()),
            ("up", true.into()),
            ("timeline", 1.into()),
            ("upstream", if is_primary { Json::Null } else { 0.into() }),
            ("receiver", if is_primary { Json::Null } else { "streaming".into() }),
            ("sync_state", if is_primary { Json::Null } else { "async".into() }),
            ("detached", false.into()),
        ] {
            ensure!(node[name] == expected, "{name}: {node:#}");
        }
        ensure!(node["lag_bytes"].as_u64().is_some_and(|it| it < 1 << 20), "{node:#}");
    }
    Ok(())
}

async fn replication(herd: &Herd, operator: &Web) -> Result<()> {
    herd.server(1)?.query("SELECT pg_create_physical_replication_slot('of_mine', true)").await?;
    let shown = operator.see("replication").await?;
    ensure!(shown["primary"] == 0, "{shown:#}");
    let primary = find(&shown["nodes"], "node", 0)?;
    ensure!(primary["receiver"].is_null() && primary["error"].is_null(), "{primary:#}");
    let slot = find(&primary["slots"], "name", "of_mine")?;
    ensure!(
        slot["active"] == false && slot["type"] == "physical" && slot["retained_bytes"].is_u64(),
        "{slot}"
    );
    for id in [2, 3] {
        let standby = herd.server(id)?;
        let sender = find(&primary["senders"], "application_name", standby.name())?;
        let pid =
            format!("SELECT pid FROM pg_stat_replication WHERE application_name = '{}'", standby.name());
        let pid: u64 = herd.server(1)?.scalar(&pid).await?.parse()?;
        ensure!(sender["pid"] == pid, "{sender}");
        ensure!(sender["state"] == "streaming" && sender["lag_bytes"].is_u64(), "{sender}");
        ensure!(sender["node"] == standby.backend_id(), "{sender}");
        let receiver = &find(&shown["nodes"], "node", standby.backend_id())?["receiver"];
        ensure!(receiver["status"] == "streaming" && receiver["timeline"] == 1, "{receiver}");
        ensure!(receiver["sender_host"] == herd.server(1)?.address().to_string(), "{receiver}");
    }
    // One alone.
    let one = operator.see("replication?node=1").await?;
    ensure!(all(&one["nodes"]).len() == 1 && one["nodes"][0]["name"] == "pg02", "{one:#}");
    operator.get("replication?node=9").await?.expect(404)?.error()?;
    operator.get("replication?node=x").await?.expect(400)?.error()?;
    operator.get("replication?noise=1").await?.expect(400)?.error()?;
    herd.server(1)?.query("SELECT pg_drop_replication_slot('of_mine')").await?;
    Ok(())
}

async fn activity(herd: &Herd, operator: &Web) -> Result<()> {
    let (holds, waits) = (herd.connect().await?, herd.connect().await?);
    holds.batch_execute("CREATE TABLE locked (n int)").await?;
    holds.batch_execute("BEGIN; LOCK TABLE locked").await?;
    let pid = async |client: &pgherd_testkit::client::Session| -> Result<i32> {
        Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))
    };
    let holder = pid(&holds).await?;
    waits.batch_execute("BEGIN").await?;
    let waiter = pid(&waits).await?;
    let blocked = waits.batch_execute("SELECT 'waits for it' FROM locked");
    let look = async {
        let (holder, waiter) = eventually("it waits", PATIENCE, || async {
            let shown = operator.see("activity?node=0").await?;
            let sessions = &shown["nodes"][0]["sessions"];
            let (holder, waiter) = (find(sessions, "pid", holder)?, find(sessions, "pid", waiter)?);
            ensure!(waiter["wait"] == "Lock: relation", "{waiter:#} {sessions:#}");
            Ok(Some((holder.clone(), waiter.clone())))
        })
        .await?;
        ensure!(waiter["blocked_by"] == Json::from(vec![holder["pid"].clone()]), "{waiter:#}");
        ensure!(waiter["query"] == "SELECT 'waits for it' FROM locked", "{waiter:#}");
        ensure!(holder["state"] == "idle in transaction" && holder["blocked_by"] == Json::Array(vec![]));
        for time in ["backend_start", "xact_start", "query_start"] {
            ensure!(text(&waiter[time]).ends_with("+00:00"), "in UTC: {waiter:#}");
        }
        ensure!(waiter["xact_seconds"].as_f64().is_some_and(|it| it >= 0.0), "{waiter:#}");
        // It says whose it is.
        let clients = operator.see("show/clients").await?;
        let client = find(&clients, "id", holder["client"].clone())?;
        ensure!(client["user"] == "app" && client["state"] == "active", "{client}");
        let other = waiter["client"].as_u64().context("a client")?;
        ensure!(holder["client"] != waiter["client"] && find(&clients, "id", other).is_ok());
        holds.batch_execute("COMMIT").await?;
        Ok(())
    };
    let (blocked, looked) = tokio::join!(blocked, look);
    looked?;
    blocked?;
    waits.batch_execute("COMMIT; DROP TABLE locked").await?;
    Ok(())
}

async fn statements(herd: &Herd, operator: &Web) -> Result<()> {
    let shown = operator.see("statements").await?;
    for node in all(&shown["nodes"]) {
        ensure!(text(&node["error"]).contains("CREATE EXTENSION pg_stat_statements"), "{node:#}");
    }
    let primary = herd.server(1)?;
    let install = "CREATE SCHEMA \"its; own\"\" schema\"; CREATE EXTENSION pg_stat_statements SCHEMA \"its; own\"\" schema\"";
    primary.query_in("repmgr", install).await?;
    let client = primary.connect("app", "app").await?;
    client.batch_execute("SELECT 'a literal of mine', 4711 AS of_mine").await?;
    primary
        .query("ALTER ROLE nils PASSWORD 'of-somebody-4711'; ALTER ROLE nils SET a.b = $x$4711$x$")
        .await?;
    eventually("the statement is there, without its literals", PATIENCE, || async {
        let shown = operator.see("statements?node=0").await?;
        let list = &shown["nodes"][0]["statements"];
        let found = all(list).iter().find(|it| text(&it["query"]).contains("SELECT $1, $2 AS of_mine"));
        let Some(found) = found else { return Ok(None) };
        ensure!(found["database"] == "app" && found["user"] == "app" && found["calls"] == 1, "{found}");
        ensure!(!shown.to_string().contains("4711"), "{shown:#}");
        Ok(Some(()))
    })
    .await
}

async fn repmgr(herd: &Herd, operator: &Web) -> Result<()> {
    let primary = herd.server(1)?;
    let secrets = [
        format!("host=x password={SECRET} dbname=y"),
        format!("password = ''a {SECRET}'' host=x"),
        format!("host=x password=a\\ {SECRET}"),
        format!("postgresql://repmgr:{SECRET}@x/repmgr"),
        format!("postgres://x/repmgr?password={SECRET}&user=repmgr"),
    ];
    for (conninfo, id) in secrets.iter().zip(50..) {
        let insert = format!(
            "INSERT INTO repmgr.nodes (node_id, type, node_name, conninfo, repluser, priority, active, location, slot_name, config_file) \
             VALUES ({id}, 'witness', 'w{id}', '{conninfo}', 'r', 0, false, 'l', NULL, '')"
        );
        primary.query_in("repmgr", &insert).await?;
    }
    let shown = operator.see("repmgr").await?;
    primary.query_in("repmgr", "DELETE FROM repmgr.nodes WHERE node_id >= 50").await?;
    ensure!(shown["error"].is_null(), "{shown:#}");
    ensure!(!shown.to_string().contains(SECRET), "{shown:#}");
    let rows = primary.query_in("repmgr", "SELECT node_id, node_name, conninfo FROM repmgr.nodes").await?;
    for row in &rows {
        let id: i32 = row.get(0).context("node_id")?.parse()?;
        let node = find(&shown["nodes"], "node_id", id)?;
        ensure!(Some(text(&node["node_name"]).as_str()) == row.get(1), "{node}");
        ensure!(Some(text(&node["conninfo"]).as_str()) == row.get(2), "{node}");
    }
    let events = primary.query_in("repmgr", "SELECT count(*) FROM repmgr.events").await?;
    let count = events.first().and_then(|row| row.get(0)).unwrap_or_default();
    ensure!(all(&shown["events"]).len().to_string() == count, "{count}: {shown:#}");
    Ok(())
}

/// There is neither supervisord nor a place for backups on these servers, and it is said so.
async fn on_the_servers(operator: &Web) -> Result<()> {
    let checks = operator.see("checks").await?;
    ensure!(all(&checks["nodes"]).len() == 3, "{checks:#}");
    for node in all(&checks["nodes"]) {
        ensure!(node["programs"] == Json::Array(vec![]), "{node:#}");
        ensure!(text(&node["programs_error"]).contains("supervisor"), "{node:#}");
        let disk = find(&node["disks"], "what", "data")?;
        ensure!(disk["size"].as_u64() > disk["used"].as_u64() && disk["percent"].is_u64(), "{disk}");
        ensure!(["ok", "warning", "critical"].contains(&text(&disk["level"]).as_str()), "{disk}");
        ensure!(!all(&node["repmgr"]).is_empty() || node["repmgr_error"].is_string(), "{node:#}");
    }
    let backups = operator.see("backups").await?;
    for node in all(&backups["nodes"]) {
        ensure!(text(&node["error"]).len() > 10 && node["backups"] == Json::Array(vec![]), "{node:#}");
    }
    let swarm = operator.see("swarm").await?;
    ensure!(swarm["available"] == false && text(&swarm["why_not"]).contains("http.docker_socket"), "{swarm}");
    Ok(())
}

/// Each view as the console has it.
async fn views(herd: &Herd, operator: &Web) -> Result<()> {
    let names = operator.see("show").await?;
    ensure!(all(&names).len() > 20, "{names}");
    let mut console = herd.console().await?;
    for name in all(&names) {
        let name = text(name);
        let shown = operator.see(&format!("show/{name}")).await?;
        let answer = console.query(&format!("SHOW {name}")).await?;
        ensure!(answer.error().is_none(), "{name}: {answer:?}");
        let frame = answer.frames.iter().find(|frame| frame.tag == b'T').context("columns")?;
        let row = all(&shown).first().and_then(Json::as_object);
        for column in row.into_iter().flatten() {
            let is_there = frame.payload.windows(column.0.len()).any(|it| it == column.0.as_bytes());
            ensure!(is_there, "{name}: {column:?}");
        }
    }
    for nothing in [
        "show/nothing",
        "show/POOLS%20",
        "show/help%00",
        "show/%FF",
        "show/",
        "orders/99",
        "orders/x",
        "orders/-1",
    ] {
        let answer = operator.get(nothing).await?;
        ensure!([400, 404].contains(&answer.status), "{answer:?}");
        answer.error()?;
    }
    operator.get("live").await?.expect(400)?.error()?;
    operator.ask("PUT", "herd", b"{}").await?.expect(405)?.error()?;
    Ok(())
}

/// Nobody is told a password, wherever it was given.
async fn nothing_secret(herd: &Herd, operator: &Web, schema: &Schema) -> Result<()> {
    let settings = operator.see("settings").await?;
    let size = find(&settings, "key", "pool.size")?;
    ensure!(size["default"] == "20" && size["restart"] == false && size["source"] == "default", "{size}");
    let http = find(&settings, "key", "http.address")?;
    ensure!(http["restart"] == true && text(&http["source"]).contains("pgherd-1.toml"), "{http}");
    // A password can be set, too.
    let key = serde_json::json!({ "action": "set", "key": "monitor.password", "value": SECRET });
    let told = operator.rehearse(key.clone()).await?;
    ensure!(!told.to_string().contains(SECRET), "{told}");
    let mut page = Live::of(operator).await?;
    let given = operator.give(key).await?;
    let ended = operator.ended(&given).await?;
    let pushed = page.next("order").await?;
    ensure!(text(&ended["result"]).contains("monitor.password"), "{ended}");
    let wrong = serde_json::json!({ "action": "set", "key": "monitor.passwort", "value": SECRET });
    operator.fails(wrong).await?;
    operator.order(serde_json::json!({ "action": "reload" })).await?;
    let mut said = vec![given.to_string(), ended.to_string(), pushed.to_string(), herd.log()];
    let views = operator.see("show").await?;
    let views = all(&views).iter().map(|view| format!("show/{}", text(view)));
    let paths = schema.paths()?.into_iter().filter(|(_, methods)| methods.contains(&"get"));
    for path in paths.map(|(path, _)| path.trim_start_matches('/').to_owned()).chain(views) {
        said.push(operator.get(&path).await?.body);
    }
    let (monitor, app) = (herd.cluster.monitor_password(), herd.cluster.credentials().password("app"));
    for secret in [SECRET, monitor, app, OPERATOR.1, VIEWER.1] {
        let found = said.iter().find(|it| it.contains(secret));
        ensure!(found.is_none(), "{secret} is in {found:?}");
    }
    Ok(())
}
