//! What can be asked and ordered over HTTP.

mod act;
mod look;
mod openapi;
mod servers;
mod session;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};

use crate::access::Refusal;
use crate::{Manager, Source, live, page};

/// Longest body of a request: a few names, or a password. A hundred orders are kept, and shown to all.
const LONGEST: usize = 8 * 1024;

pub(crate) fn routes<S: Source>(manager: &Arc<Manager<S>>) -> Router {
    let api = Router::new()
        .route("/session", get(session::show::<S>).post(session::begin::<S>).delete(session::end::<S>))
        .route("/herd", get(look::herd::<S>))
        .route("/events", get(look::events::<S>))
        .route("/failovers", get(look::failovers::<S>))
        .route("/history", get(look::history::<S>))
        .route("/settings", get(look::settings::<S>))
        .route("/show", get(look::views::<S>))
        .route("/show/{view}", get(look::show::<S>))
        .route("/replication", get(servers::replication::<S>))
        .route("/activity", get(servers::activity::<S>))
        .route("/statements", get(servers::statements::<S>))
        .route("/repmgr", get(servers::repmgr::<S>))
        .route("/checks", get(servers::checks::<S>))
        .route("/backups", get(servers::backups::<S>))
        .route("/swarm", get(look::swarm::<S>))
        .route("/orders", post(act::give::<S>).get(act::all::<S>))
        .route("/orders/{id}", get(act::one::<S>))
        .route("/live", get(live::open::<S>))
        .route("/openapi.json", get(openapi::document))
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(DefaultBodyLimit::max(LONGEST))
        .layer(map_response(fresh))
        .with_state(Arc::clone(manager));
    Router::new().nest("/api/v1", api).layer(map_response(page::safe))
}

/// What is true now may not be so a moment later.
async fn fresh(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a request about a server is refused that is not there.
fn no_server(node: u32) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("There is no server {node}: see /api/v1/herd."))
}

async fn nothing() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "There is no such path: see /api/v1/openapi.json.")
}

async fn other_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "This path takes another method: see /api/v1/openapi.json.")
}
