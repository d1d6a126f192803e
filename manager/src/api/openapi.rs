//! The description of the interface, for programs that make clients of it.

use axum::Json;
use axum::response::IntoResponse;
use utoipa::OpenApi;

use super::{act, look, servers, session};

#[derive(OpenApi)]
#[openapi(
    info(title = "pgherd", description = "What a herd of PostgreSQL servers does, and how to steer it. Scripts log in with HTTP Basic authentication; the page has a session. \
        GET /api/v1/live is a WebSocket, which pushes {herd}, {events}, {failovers}, {point} and {order} as they change."),
    servers((url = "/api/v1")),
    paths(
        session::show, session::begin, session::end,
        look::herd, look::events, look::failovers, look::history, look::settings, look::views, look::show, look::swarm,
        servers::replication, servers::activity, servers::statements, servers::repmgr, servers::checks, servers::backups,
        act::give, act::all, act::one,
    )
)]
struct Description;

pub(super) async fn document() -> impl IntoResponse {
    Json(Description::openapi())
}
