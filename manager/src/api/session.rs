//! Logging in at the page.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::access::{Peer, Refusal, SESSION, Visitor, is_from_here, session_cookie};
use crate::{Manager, Source};

/// Who is logged in.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Session {
    /// Its name; none for who is not.
    user: Option<String>,
    /// `operator` or `viewer`; none for who has to log in first.
    role: Option<&'static str>,
    /// What has to come as `X-CSRF-Token` with whatever changes something.
    csrf: Option<String>,
    /// `viewer` where who is not logged in may look.
    anonymous: Option<&'static str>,
    /// pgherd's version.
    version: &'static str,
    /// The cluster's system identifier; only for who may look.
    cluster: Option<String>,
}

/// User and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The name of a role of PostgreSQL, or of `auth.userlist_file`.
    user: String,
    /// Its password.
    #[schema(value_type = String)]
    password: Zeroizing<String>,
}

#[utoipa::path(get, path = "/session", tag = "session", responses((status = 200, body = Session)))]
/// Who is logged in. A browser whose user an authenticating proxy names begins a session here.
pub(super) async fn show<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    visitor: Option<Visitor>,
) -> Response {
    let Some(visitor) = visitor else { return Json(manager.session(None)).into_response() };
    let has_proxy = manager.access.proxy.is_some();
    match &visitor.user {
        Some(user) if visitor.session.is_none() && has_proxy && !visitor.by_password => {
            manager.begin(user, true, &visitor)
        }
        _ => Json(manager.session(Some(&visitor))).into_response(),
    }
}

#[utoipa::path(post, path = "/session", tag = "session", request_body = Login, responses((status = 200, body = Session),
    (status = 401, description = "wrong"), (status = 429, description = "too many failures"), (status = 503, description = "no server can be asked")))]
/// Logs in.
pub(super) async fn begin<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    login: Result<Json<Login>, JsonRejection>,
) -> Result<Response, Refusal> {
    is_from_here(&headers)?;
    let Json(Login { user, password }) =
        login.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    let role = manager.source.log_in(peer.map(|peer| peer.0.0), &user, &password).await?;
    if let Some(old) = session_cookie(&headers) {
        manager.logins.end(old);
    }
    let visitor = Visitor { user: Some(user.clone()), role, session: None, by_password: false };
    tracing::info!(user, role = role.name(), "somebody has logged in at the manager");
    Ok(manager.begin(&user, false, &visitor))
}

#[utoipa::path(delete, path = "/session", tag = "session", responses((status = 204, description = "logged out")))]
/// Logs out.
pub(super) async fn end<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    is_from_here(&headers)?;
    if let Some(cookie) = session_cookie(&headers) {
        manager.logins.end(cookie);
    }
    let gone = format!("{SESSION}=; {}; Max-Age=0", manager.attributes());
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, gone)]).into_response())
}

impl<S: Source> Manager<S> {
    fn begin(&self, user: &str, by_proxy: bool, visitor: &Visitor) -> Response {
        let begun = self.logins.begin(user, by_proxy, Instant::now());
        let cookie = format!("{SESSION}={}; {}", begun.cookie.reveal(), self.attributes());
        let session = Session { csrf: Some(begun.csrf.reveal().to_owned()), ..self.session(Some(visitor)) };
        ([(SET_COOKIE, cookie)], Json(session)).into_response()
    }

    fn attributes(&self) -> &'static str {
        if self.access.is_secure {
            "Path=/; HttpOnly; SameSite=Strict; Secure"
        } else {
            "Path=/; HttpOnly; SameSite=Strict"
        }
    }

    fn session(&self, visitor: Option<&Visitor>) -> Session {
        Session {
            user: visitor.and_then(|it| it.user.clone()),
            role: visitor.map(|it| it.role.name()),
            csrf: visitor.and_then(|it| it.session.as_ref()).map(|it| it.csrf.reveal().to_owned()),
            anonymous: self.access.anonymous.then_some("viewer"),
            version: env!("CARGO_PKG_VERSION"),
            cluster: visitor.and_then(|_| self.source.herd().cluster.system_identifier),
        }
    }
}
