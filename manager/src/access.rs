//! Who asks, and what it may do.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde_json::json;
use zeroize::Zeroizing;

use crate::logins::Known;
use crate::{Denial, Manager, Role, Source};

/// The cookie of a session.
pub(crate) const SESSION: &str = "pgherd_session";
/// The header that says that a request comes from the page.
const CSRF: &str = "x-csrf-token";
/// How long whoever was turned away for too many failures is to wait.
const WAIT: &str = "60";

/// Whom the manager lets in.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Who is not logged in may look.
    pub anonymous: bool,
    /// Connections are encrypted: cookies are for such only.
    pub is_secure: bool,
    /// A proxy that has users log in, and says who they are.
    pub proxy: Option<TrustedProxy>,
}

/// An authenticating proxy.
#[derive(Clone, Debug)]
pub struct TrustedProxy {
    /// The header with the user's name, in small letters.
    pub header: String,
    /// Where it is believed from.
    pub addresses: Vec<IpNet>,
}

impl TrustedProxy {
    fn user<'a>(&self, peer: Option<IpAddr>, headers: &'a HeaderMap) -> Option<&'a str> {
        let peer = peer?.to_canonical();
        let mut names = headers.get_all(HeaderName::try_from(&self.header).ok()?).iter();
        let name = names.next()?.to_str().ok().filter(|name| !name.is_empty())?;
        // Two names are none: who added the second?
        (names.next().is_none() && self.addresses.iter().any(|net| net.contains(&peer))).then_some(name)
    }
}

/// Where a request comes from: put beside it by whoever accepts connections.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// A request that is refused.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

impl Refusal {
    pub(crate) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self(status, why.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.1 }));
        if self.0 == StatusCode::TOO_MANY_REQUESTS {
            return (self.0, [(RETRY_AFTER, WAIT)], body).into_response();
        }
        (self.0, body).into_response()
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Wrong => Self::new(
                StatusCode::UNAUTHORIZED,
                "The password is wrong, or the user is in neither admin.users nor admin.stats_users of pgherd.",
            ),
            Denial::TooMany => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many logins have failed from your address: wait a minute (auth.max_failures of pgherd).",
            ),
            Denial::Unavailable(why) => Self::new(StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }
}

/// Somebody who may look.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// Its name; none for who is not logged in.
    pub(crate) user: Option<String>,
    /// What it may do.
    pub(crate) role: Role,
    /// Its session at the page, if it has one.
    pub(crate) session: Option<Known>,
    /// It has given its password with the request, which no other site's page can.
    pub(crate) by_password: bool,
}

/// Somebody who may order something, and has meant to.
pub(crate) struct Operator(pub(crate) String);

impl<S: Source> FromRequestParts<Arc<Manager<S>>> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, manager: &Arc<Manager<S>>) -> Result<Self, Refusal> {
        find(parts, manager).await?.ok_or_else(|| {
            Refusal::new(StatusCode::UNAUTHORIZED, "Log in: at the page, or with HTTP Basic authentication.")
        })
    }
}

impl<S: Source> OptionalFromRequestParts<Arc<Manager<S>>> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        manager: &Arc<Manager<S>>,
    ) -> Result<Option<Self>, Refusal> {
        find(parts, manager).await
    }
}

impl<S: Source> FromRequestParts<Arc<Manager<S>>> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, manager: &Arc<Manager<S>>) -> Result<Self, Refusal> {
        is_from_here(&parts.headers)?;
        let visitor = find(parts, manager).await?;
        let Some(Visitor { user: Some(user), role, session, by_password }) = visitor else {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "Log in as one of admin.users to order something.",
            ));
        };
        if role < Role::Operator {
            let why =
                format!("User \"{user}\" may only look: users of admin.users of pgherd may order something.");
            return Err(Refusal::new(StatusCode::FORBIDDEN, why));
        }
        let token = parts.headers.get(CSRF).map(|token| token.as_bytes()).unwrap_or_default();
        let is_meant = session.map_or(by_password, |it| it.is_from_page(token));
        if !is_meant {
            let why = "The request does not carry the session's token: send X-CSRF-Token as GET /api/v1/session gives it.";
            return Err(Refusal::new(StatusCode::FORBIDDEN, why));
        }
        Ok(Self(user))
    }
}

/// Who asks: by a password with the request, by the word of a proxy, by a session; else nobody, who may look where that is allowed.
async fn find<S: Source>(parts: &mut Parts, manager: &Arc<Manager<S>>) -> Result<Option<Visitor>, Refusal> {
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
    let sent = manager.access.proxy.as_ref().and_then(|proxy| proxy.user(peer, &parts.headers));
    // A proxy that has asked for a password itself may pass that on, and it is none of ours.
    let given = if sent.is_none() { basic(&parts.headers)? } else { None };
    if let Some((user, password)) = given {
        let role = manager.source.log_in(peer, &user, &password).await?;
        return Ok(Some(Visitor { user: Some(user), role, session: None, by_password: true }));
    }
    let session = session_cookie(&parts.headers).and_then(|it| manager.logins.find(it, Instant::now()));
    // It may have logged out at the proxy since, or another user of the same browser may have logged in.
    let is_kept = |it: &Known| {
        if it.by_proxy { sent == Some(&*it.user) } else { sent.is_none_or(|sent| sent == it.user) }
    };
    let session = session.filter(is_kept);
    let user = sent.map(str::to_owned).or_else(|| session.as_ref().map(|it| it.user.clone()));
    // Asked again each time: who is taken out of admin.users is out at once.
    let known = user.and_then(|user| Some((manager.source.role_of(&user)?, user)));
    Ok(match known {
        Some((role, user)) => Some(Visitor { user: Some(user), role, session, by_password: false }),
        None if manager.access.anonymous => {
            Some(Visitor { user: None, role: Role::Viewer, session: None, by_password: false })
        }
        None => None,
    })
}

/// Refuses what a browser sends for a page of another site.
pub(crate) fn is_from_here(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
    if site.is_some() && site == host {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::FORBIDDEN, "The request comes from a page of another site."))
}

/// The cookie of a session.
pub(crate) fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SESSION).map(|(_, value)| value)
}

/// User and password of HTTP Basic authentication.
fn basic(headers: &HeaderMap) -> Result<Option<(String, Zeroizing<String>)>, Refusal> {
    let Some(header) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let malformed = || {
        Refusal::new(StatusCode::UNAUTHORIZED, "The header Authorization is not `Basic`, as it has to be.")
    };
    let text = header.to_str().map_err(|_| malformed())?;
    let (scheme, encoded) = text.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).map_err(|_| malformed())?);
    let decoded = std::str::from_utf8(&decoded).map_err(|_| malformed())?;
    let (user, password) = decoded.split_once(':').ok_or_else(malformed)?;
    Ok(Some((user.to_owned(), Zeroizing::new(password.to_owned()))))
}
