//! What the servers are asked, at once and each in bounded time.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::no_server;
use crate::access::{Refusal, Visitor};
use crate::model::Node;
use crate::{Manager, Role, Source, servers as queries};

/// What is shown in place of others' statements.
const HIDDEN: &str = "<insufficient privilege>";

/// Of which server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    node: Option<u32>,
}

type Asked = Result<Query<Which>, QueryRejection>;

/// An object for each server that is asked: its number, its name, the error if there is one, and the answer: itself, or under the one name that
/// `empty` has, which stands for it where there is none.
async fn of_all<S, F>(
    manager: &Manager<S>,
    asked: Asked,
    empty: Value,
    ask: impl Fn(Node) -> F,
) -> Result<Vec<Value>, Refusal>
where
    S: Source,
    F: Future<Output = Result<Value, String>>,
{
    let Query(Which { node: only }) =
        asked.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    let herd = manager.source.herd();
    if let Some(id) = only.filter(|id| herd.node(*id).is_none()) {
        return Err(no_server(id));
    }
    let wanted = herd.nodes.into_iter().filter(|node| only.is_none_or(|id| node.id == id));
    let answers = wanted.map(|node| {
        let (id, name, up) = (node.id, node.name.clone(), node.up);
        let (asking, empty) = (ask(node), &empty);
        async move {
            let answer = if up {
                asking.await
            } else {
                asking.await.map_err(|why| format!("it does not answer: {why}"))
            };
            let error = answer.as_ref().err().cloned();
            let fields = match (answer, empty.as_object().and_then(|empty| empty.keys().next())) {
                (Ok(Value::Object(fields)), _) => Value::Object(fields),
                (Ok(list), Some(name)) => json!({ name: list }),
                (Ok(_), None) | (Err(_), _) => empty.clone(),
            };
            let mut shown = json!({ "node": id, "name": name, "error": error });
            if let (Some(shown), Value::Object(fields)) = (shown.as_object_mut(), fields) {
                shown.extend(fields);
            }
            shown
        }
    });
    Ok(join_all(answers).await)
}

/// The objects of a list.
fn objects(list: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut)
}

impl<S: Source> Manager<S> {
    async fn ask(&self, node: u32, query: &str) -> Result<Value, String> {
        let text = self.source.ask(node, query, &[]).await?;
        serde_json::from_str(&text).map_err(|error| format!("the server's answer cannot be read: {error}"))
    }
}

#[utoipa::path(get, path = "/replication", tag = "servers", params(("node" = Option<u32>, Query, description = "only this server")),
    responses((status = 200, body = Value, description = "senders, receiver and slots of each server")))]
/// WAL senders, receivers and slots.
pub(super) async fn replication<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    _: Visitor,
    asked: Asked,
) -> Result<Json<Value>, Refusal> {
    let herd = manager.source.herd();
    let primary = herd.writes.node;
    let named = |name: &Value| herd.nodes.iter().find(|node| *name == *node.name).map(|node| node.id);
    let ask = async |id: u32| {
        let mut shown = manager.ask(id, queries::REPLICATION).await?;
        for sender in shown.get_mut("senders").into_iter().flat_map(objects) {
            let node = sender.get("application_name").and_then(named);
            sender.insert("node".to_owned(), node.into());
        }
        Ok(shown)
    };
    let empty = json!({ "senders": [], "receiver": null, "slots": [] });
    let nodes = of_all(&manager, asked, empty, |node| ask(node.id)).await?;
    Ok(Json(json!({ "primary": primary, "nodes": nodes })))
}

#[utoipa::path(get, path = "/activity", tag = "servers", params(("node" = Option<u32>, Query, description = "only this server")),
    responses((status = 200, body = Value, description = "pg_stat_activity of each server")))]
/// What the servers' processes do.
pub(super) async fn activity<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    visitor: Visitor,
    asked: Asked,
) -> Result<Json<Value>, Refusal> {
    let ask = async |node: Node| {
        let mut sessions = manager.ask(node.id, queries::ACTIVITY).await?;
        let clients = manager.source.clients_of(node.id);
        for session in objects(&mut sessions) {
            let pid = session.get("pid").and_then(Value::as_u64);
            let client = clients.iter().find(|(of, _)| Some(u64::from(*of)) == pid);
            session.insert("client".to_owned(), client.map(|(_, client)| *client).into());
            // As SHOW PREPARED has it: texts may hold what their users would not show.
            if visitor.role < Role::Operator {
                session.insert("query".to_owned(), HIDDEN.into());
            }
        }
        Ok(sessions)
    };
    let nodes = of_all(&manager, asked, json!({ "sessions": [] }), ask).await?;
    Ok(Json(json!({ "nodes": nodes })))
}

#[utoipa::path(get, path = "/statements", tag = "servers", params(("node" = Option<u32>, Query, description = "only this server")),
    responses((status = 200, body = Value, description = "the statements that took most time, of each server")))]
/// The statements that took most time, normalised by `pg_stat_statements`.
pub(super) async fn statements<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    _: Visitor,
    asked: Asked,
) -> Result<Json<Value>, Refusal> {
    let ask = async |id: u32| {
        let Value::String(schema) = manager.ask(id, queries::STATEMENTS_SCHEMA).await? else {
            return Err("the extension pg_stat_statements is not there: put it into shared_preload_libraries, restart the server, and \
                CREATE EXTENSION pg_stat_statements in the monitor's database (monitor.database of pgherd)"
                .to_owned());
        };
        manager.ask(id, &queries::statements(&schema)).await
    };
    let nodes = of_all(&manager, asked, json!({ "statements": [] }), |node| ask(node.id)).await?;
    Ok(Json(json!({ "source": "pg_stat_statements", "nodes": nodes })))
}

#[utoipa::path(get, path = "/repmgr", tag = "servers", responses((status = 200, body = Value, description = "rows of repmgr's tables")))]
/// repmgr's nodes and events, as the primary has them, else the first server that answers.
pub(super) async fn repmgr<S: Source>(State(manager): State<Arc<Manager<S>>>, _: Visitor) -> Json<Value> {
    let herd = manager.source.herd();
    let best = herd.writes.node.or_else(|| herd.nodes.iter().find(|node| node.up).map(|node| node.id));
    let answer = match best {
        Some(node) => manager.ask(node, queries::REPMGR).await,
        None => Err("no server answers".to_owned()),
    };
    Json(match answer {
        Ok(Value::Object(mut shown)) => {
            shown.insert("error".to_owned(), Value::Null);
            Value::Object(shown)
        }
        Ok(_) => json!({ "error": "the answer is none", "nodes": [], "events": [] }),
        Err(why) => json!({ "error": why, "nodes": [], "events": [] }),
    })
}

#[utoipa::path(get, path = "/checks", tag = "servers", params(("node" = Option<u32>, Query, description = "only this server")),
    responses((status = 200, body = Value, description = "programs, disks and repmgr's checks of each server")))]
/// What a look at the servers over ssh gives: supervisord's programs, disks, repmgr's checks.
pub(super) async fn checks<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    _: Visitor,
    asked: Asked,
) -> Result<Json<Value>, Refusal> {
    let empty = json!({ "programs": [], "disks": [], "repmgr": [] });
    let nodes = of_all(&manager, asked, empty, |node| manager.source.checks(node.id)).await?;
    Ok(Json(json!({ "nodes": nodes })))
}

#[utoipa::path(get, path = "/backups", tag = "servers", params(("node" = Option<u32>, Query, description = "only this server")),
    responses((status = 200, body = Value, description = "the backups on each server")))]
/// The backups on the servers.
pub(super) async fn backups<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    _: Visitor,
    asked: Asked,
) -> Result<Json<Value>, Refusal> {
    let nodes =
        of_all(&manager, asked, json!({ "backups": [] }), |node| manager.source.backups(node.id)).await?;
    Ok(Json(json!({ "nodes": nodes })))
}
