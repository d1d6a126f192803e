//! What pgherd knows by itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::Value;

use crate::access::{Refusal, Visitor};
use crate::model::{Event, Failover, Herd, History};
use crate::{Manager, Source};

#[utoipa::path(get, path = "/herd", tag = "look", responses((status = 200, body = Herd)))]
/// The herd at this moment.
pub(super) async fn herd<S: Source>(State(manager): State<Arc<Manager<S>>>, _: Visitor) -> Json<Herd> {
    Json(manager.herd())
}

#[utoipa::path(get, path = "/events", tag = "look", responses((status = 200, body = Vec<Event>)))]
/// What has happened of late, and what was ordered here; the newest first.
pub(super) async fn events<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    _: Visitor,
) -> Json<Vec<Event>> {
    Json(manager.events(&manager.source.herd()))
}

#[utoipa::path(get, path = "/failovers", tag = "look", responses((status = 200, body = Vec<Failover>)))]
/// The changes of the primary since pgherd began, step by step; the newest first.
pub(super) async fn failovers<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    _: Visitor,
) -> Json<Vec<Failover>> {
    Json(manager.feed.failovers())
}

#[utoipa::path(get, path = "/history", tag = "look", responses((status = 200, body = History)))]
/// Traffic, latency, connections and lag of the last hour.
pub(super) async fn history<S: Source>(State(manager): State<Arc<Manager<S>>>, _: Visitor) -> Json<History> {
    Json(manager.feed.history())
}

#[utoipa::path(get, path = "/settings", tag = "look", responses((status = 200, body = Value, description = "a list of key, value, default, source, restart")))]
/// The configuration in force, without secrets.
pub(super) async fn settings<S: Source>(State(manager): State<Arc<Manager<S>>>, _: Visitor) -> Json<Value> {
    Json(manager.source.settings())
}

#[utoipa::path(get, path = "/show", tag = "look", responses((status = 200, body = Vec<String>)))]
/// The names of the console's views.
pub(super) async fn views<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    _: Visitor,
) -> Json<Vec<&'static str>> {
    Json(manager.source.views())
}

#[utoipa::path(get, path = "/show/{view}", tag = "look", params(("view" = String, Path, description = "such as pools, clients, servers, routing")),
    responses((status = 200, body = Value, description = "a list of objects with the view's columns"), (status = 404, description = "no such view")))]
/// What SHOW of the console shows: pools, clients, servers, pinned sessions, counters of routing, prepared statements, ...
pub(super) async fn show<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    visitor: Visitor,
    view: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let Path(view) = view.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    let rows = manager.source.show(&view, visitor.role);
    rows.map(Json).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("There is no view \"{view}\": GET /api/v1/show lists them."),
        )
    })
}

#[utoipa::path(get, path = "/swarm", tag = "look", responses((status = 200, body = Value, description = "services, nodes and tasks, or why there are none")))]
/// The swarm that pgherd runs in, if it was given a docker socket.
pub(super) async fn swarm<S: Source>(State(manager): State<Arc<Manager<S>>>, _: Visitor) -> Json<Value> {
    Json(manager.source.swarm().await)
}
