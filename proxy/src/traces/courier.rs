//! Carries requests to the collector: HTTP/1.1 over a connection for each, since there is one a second at most. The crate's own client
//! would bring HTTP/2 along.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest answer that is read.
const LONGEST: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Courier {
    /// How long a request and its answer may take.
    pub(super) timeout: Duration,
}

#[async_trait]
impl HttpClient for Courier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        tokio::time::timeout(self.timeout, carry(request)).await.map_err(|_| "it does not answer in time")?
    }
}

async fn carry(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or("the URL names no host")?;
    let (host, port) = (authority.host().to_owned(), authority.port_u16().unwrap_or(80));
    parts.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    parts.uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    // Brackets of an IPv6 address are not part of it.
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Who waits for the answer is told of an error.
        let _ = connection.await;
    });
    let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
    let (parts, body) = answer.into_parts();
    Ok(Response::from_parts(parts, Limited::new(body, LONGEST).collect().await?.to_bytes()))
}
