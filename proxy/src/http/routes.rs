//! What can be asked, and the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::header::SERVER;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};

use super::NAME;
use super::patroni::Question;
use super::{metrics, patroni};
use crate::server::table::Target;
use crate::shared::Shared;

/// Every path that is answered.
pub(super) fn all(shared: Arc<Shared>, draining: Arc<AtomicBool>) -> Router {
    let asked = Asked { shared, draining };
    let mut router = Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(measured));
    for (path, question) in patroni::PATHS {
        // HEAD is GET without its body.
        let methods = MethodFilter::GET.or(MethodFilter::OPTIONS);
        let check = |state, method, uri, headers| checked(state, *question, (method, uri), headers);
        router = router.route(path, on(methods, check));
    }
    router.layer(map_response(signed)).with_state(asked)
}

/// By this `pgherd health` knows that it has asked no other program.
async fn signed(mut response: Response) -> Response {
    response.headers_mut().insert(SERVER, HeaderValue::from_static(NAME));
    response
}

/// What the answers are made of.
#[derive(Clone)]
struct Asked {
    shared: Arc<Shared>,
    /// Nobody is let in any more.
    draining: Arc<AtomicBool>,
}

/// That it answers, and that all threads turn: who does not hear so may start the process again.
async fn alive(State(Asked { shared, .. }): State<Asked>) -> Response {
    match shared.vitals.stuck().first() {
        Some(stuck) => unavailable(&stuck.to_string()),
        None => "ok\n".into_response(),
    }
}

/// Whether clients are let in. That there is no primary for a while is no reason to send them elsewhere: they wait here.
async fn ready(State(Asked { shared, draining }): State<Asked>) -> Response {
    if draining.load(Ordering::Relaxed) || shared.ending.is_near() {
        return unavailable("pgherd is ending: nobody is let in any more");
    }
    let table = shared.backends.load();
    match &table.writes {
        Target::Held { reason, .. } if table.servers().next().is_none() => unavailable(reason),
        Target::Held { reason, .. } => format!("ok, but writes wait: {reason}\n").into_response(),
        Target::Open(_) => "ok\n".into_response(),
    }
}

fn unavailable(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

/// One of Patroni's health checks.
async fn checked(
    State(Asked { shared, draining }): State<Asked>,
    question: Question,
    (method, uri): (Method, Uri),
    headers: HeaderMap,
) -> Response {
    if uri.path() == "/" && pgherd_manager::HAS_PAGE && is_browser(&headers) {
        return pgherd_manager::page(uri, headers).await;
    }
    let draining = draining.load(Ordering::Relaxed) || shared.ending.is_near();
    patroni::answer(&shared, draining, question, (&method, &uri))
}

/// Balancers ask the same path, and do not want a page.
fn is_browser(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).is_some_and(|it| it.contains("text/html"))
}

async fn measured(State(Asked { shared, .. }): State<Asked>) -> Response {
    match metrics::text(shared) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {error}\n"))
                .into_response()
        }
    }
}
