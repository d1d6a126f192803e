//! Requests to the manager: nothing is done but what an operator has asked for, and nothing breaks.

mod herd;

use std::cell::LazyCell;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use pgherd_manager::model::Action;
use pgherd_manager::{Access, Manager};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::bytes::Bytes;
use herd::{Done, Herd, PASSWORD, credentials};

const PATHS: &[&str] = &[
    "/api/v1/orders",
    "/api/v1/session",
    "/api/v1/orders/1",
    "/api/v1/herd",
    "/api/v1/replication",
    "/api/v1/activity?node=1",
    "/api/v1/settings",
    "/api/v1/show/pools",
    "/api/v1/openapi.json",
    "/api/v1/live",
    "/api/v1/backups?node=9",
    "/",
];

thread_local! {
    static RUNTIME: LazyCell<Runtime> =
        LazyCell::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

/// Who asks, what it asks for, and the body.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let method =
        bytes.one(&[Method::POST, Method::POST, Method::GET, Method::DELETE, Method::PUT].each_ref()).clone();
    let path = match bytes.byte() {
        255 => String::from_utf8_lossy(bytes.until(b' ')).into_owned(),
        choice => PATHS[usize::from(choice) % PATHS.len()].to_owned(),
    };
    let who = bytes.byte();
    let mut request = Request::builder().method(method).uri(&path);
    if let Some(credentials) = credentials(who) {
        request = request.header("authorization", credentials);
    }
    if who & 0x10 == 0 {
        request = request.header("content-type", "application/json");
    }
    if who & 0x20 != 0 {
        request = request.header("origin", "http://elsewhere").header("host", "here");
    }
    if who & 0x40 != 0 {
        request = request.header("cookie", bytes.until(b' ')).header("x-csrf-token", bytes.until(b' '));
    }
    let body = bytes.rest().to_vec();
    let Ok(request) = request.body(Body::from(body.clone())) else { return };
    let is_operator = who % 4 == 1 && who & 0x20 == 0;
    let (status, told, done) = RUNTIME.with(|runtime| runtime.block_on(answered(request)));
    judge(&path, status, &told);
    assert!(!told.contains(PASSWORD), "{told}");
    match done.as_slice() {
        [] => assert!(status != StatusCode::ACCEPTED, "{told}"),
        [action] => {
            assert!(is_operator && status == StatusCode::ACCEPTED, "{action:?} is done, {status}: {told}");
            meant(action, &body, &told);
        }
        more => panic!("{more:?}"),
    }
}

async fn answered(request: Request<Body>) -> (StatusCode, String, Vec<Action>) {
    let done = Done::default();
    let access = Access { anonymous: false, is_secure: false, proxy: None };
    let manager = Manager::new(Herd::new(Arc::clone(&done)), access);
    let service = TowerToHyperService::new(manager.routes());
    let response = service.call(request).await.expect("it cannot fail");
    let status = response.status();
    let told = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    // What was ordered is done by a task of its own.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let done = std::mem::take(&mut *done.lock().expect("nobody has panicked"));
    (status, String::from_utf8_lossy(&told).into_owned(), done)
}

fn judge(path: &str, status: StatusCode, told: &str) {
    assert!(!status.is_server_error(), "{status} {told}");
    if path.starts_with("/api/v1/") && !told.is_empty() {
        assert!(serde_json::from_str::<Value>(told).is_ok(), "{status} {told}");
    }
    if status.is_client_error() && path.starts_with("/api/v1/") && status != StatusCode::UPGRADE_REQUIRED {
        assert!(told.contains("error"), "{path} {status} {told}");
    }
}

/// What was done is what the body says, and what may cost data was confirmed.
fn meant(action: &Action, body: &[u8], told: &str) {
    let body: Value = serde_json::from_slice(body).expect("it was understood");
    let mut said = body.as_object().expect("an object").clone();
    let confirm = said.remove("confirm");
    assert!(said.remove("dry_run").is_none_or(|it| it == Value::Bool(false)), "{body}");
    let own: Action = serde_json::from_value(Value::Object(said)).expect("an action");
    assert_eq!(*action, own, "{body}");
    assert!(!action.is_dangerous() || confirm.is_some_and(|it| it.is_string()), "{body}");
    if let Action::Set { value: Some(value), key } = action
        && value.len() > 8
        && !key.contains(value.as_str())
    {
        assert!(!told.contains(value.as_str()), "a value that may be a password is shown: {told}");
    }
}
