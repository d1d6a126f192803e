//! What is ordered.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::no_server;
use crate::access::{Operator, Refusal, Visitor};
use crate::model::{Action, Herd, Order, Rehearsal, Request};
use crate::{Manager, Source, orders};

#[utoipa::path(post, path = "/orders", tag = "act", request_body = Request,
    responses((status = 202, body = Order), (status = 200, body = Rehearsal, description = "of a dry run"),
    (status = 400, description = "it is no action, or has to be confirmed"), (status = 403, description = "not for viewers"),
    (status = 409, description = "it would be refused"), (status = 429, description = "too many are under way")))]
/// Does something, or says what it would do. What is done goes on whether or not somebody waits for it.
pub(super) async fn give<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    Operator(user): Operator,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(body) = body.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    let Request { action, dry_run, confirm } = read(body)?;
    let herd = manager.source.herd();
    if let Some(node) = action.node().filter(|node| herd.node(*node).is_none()) {
        return Err(no_server(node));
    }
    if dry_run {
        return Ok(Json(manager.rehearse(&action, &herd).await).into_response());
    }
    if is_to_be_confirmed(&action, &herd) {
        let rehearsal = manager.rehearse(&action, &herd).await;
        if let Some(why) = rehearsal.refused {
            return Err(Refusal::new(StatusCode::CONFLICT, why));
        }
        if confirm.is_none() || confirm != rehearsal.confirm {
            let what = rehearsal.confirm.unwrap_or_default();
            let why =
                format!("That may cost data, or stop all writes: send \"confirm\": {what:?} if it is meant.");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, why));
        }
    }
    let order = orders::give(&manager, action, &user).ok_or_else(|| {
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "Too many orders are under way: wait for one of them.")
    })?;
    Ok((StatusCode::ACCEPTED, Json(&*order)).into_response())
}

#[utoipa::path(get, path = "/orders", tag = "act", responses((status = 200, body = Vec<Order>)))]
/// What was ordered here; the newest first.
pub(super) async fn all<S: Source>(State(manager): State<Arc<Manager<S>>>, _: Visitor) -> Response {
    let orders = manager.orders.all();
    Json(orders.iter().map(|order| &**order).collect::<Vec<_>>()).into_response()
}

#[utoipa::path(get, path = "/orders/{id}", tag = "act", params(("id" = u64, Path)), responses((status = 200, body = Order), (status = 404, description = "no such order")))]
/// One order and what it has told.
pub(super) async fn one<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    _: Visitor,
    id: Result<Path<u64>, PathRejection>,
) -> Result<Response, Refusal> {
    let Path(id) = id.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    let order = manager.orders.find(id);
    let order = order.ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("There is no order {id}: GET /api/v1/orders lists the last."),
        )
    })?;
    Ok(Json(&*order).into_response())
}

/// Takes a request apart. What it says beside the action is taken out first, so that whatever else is there is a mistake.
fn read(mut body: Map<String, Value>) -> Result<Request, Refusal> {
    let malformed = |why: String| Refusal::new(StatusCode::BAD_REQUEST, why);
    let dry_run = match body.remove("dry_run") {
        None => false,
        Some(Value::Bool(dry_run)) => dry_run,
        Some(other) => return Err(malformed(format!("\"dry_run\" is true or false, not {other}"))),
    };
    let confirm = match body.remove("confirm") {
        None | Some(Value::Null) => None,
        Some(Value::String(confirm)) => Some(confirm),
        Some(other) => return Err(malformed(format!("\"confirm\" is a text, not {other}"))),
    };
    let action: Action = serde_json::from_value(Value::Object(body))
        .map_err(|error| malformed(format!("That is no action: {error}. See /api/v1/openapi.json.")))?;
    Ok(Request { action, dry_run, confirm })
}

/// Data may be lost by it, or it stops the server that takes the writes.
fn is_to_be_confirmed(action: &Action, herd: &Herd) -> bool {
    let stops_writes = matches!(action, Action::Stop { node } if herd.writes.node == Some(*node));
    action.is_dangerous() || stops_writes
}

impl<S: Source> Manager<S> {
    async fn rehearse(&self, action: &Action, herd: &Herd) -> Rehearsal {
        let name = |id: u32| herd.node(id).map(|node| node.name.clone());
        let dangerous = is_to_be_confirmed(action, herd);
        // Where no server is named, what is to be done.
        let what = || action.node().and_then(name).unwrap_or_else(|| action.name().to_owned());
        Rehearsal { dangerous, confirm: dangerous.then(what), ..self.source.rehearse(action).await }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_json(body: Value) -> Result<Request, String> {
        read(body.as_object().unwrap().clone()).map_err(|refusal| refusal.1)
    }

    #[test]
    fn a_request_is_an_action_and_nothing_that_is_not_understood() {
        let request = read_json(json!({ "action": "rejoin", "node": 2, "dry_run": true })).unwrap();
        assert_eq!(request.action, Action::Rejoin { node: 2, allow_data_loss: false });
        assert!(request.dry_run && request.confirm.is_none());
        let request = read_json(json!({ "action": "reload", "confirm": "x" })).unwrap();
        assert_eq!((request.action, request.confirm.as_deref()), (Action::Reload {}, Some("x")));
        for (body, wrong) in [
            (json!({}), "missing field `action`"),
            (json!({ "action": "dance" }), "unknown variant `dance`"),
            (json!({ "action": "stop" }), "missing field `node`"),
            (json!({ "action": "stop", "node": -1 }), "u32"),
            (json!({ "action": "stop", "node": 1, "force": true }), "unknown field `force`"),
            (json!({ "action": "reload", "node": 1 }), "unknown field `node`"),
            (json!({ "action": "reload", "dry_run": 1 }), "dry_run"),
            (json!({ "action": "reload", "confirm": 1 }), "confirm"),
        ] {
            let told = read_json(body.clone()).unwrap_err();
            assert!(told.contains(wrong), "{body}: {told}");
        }
    }
}
