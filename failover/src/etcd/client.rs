//! Requests to etcd over its JSON gateway, which every etcd since 3.4 has under `/v3/`.
//!
//! The crate `etcd-client` speaks gRPC, for which it compiles etcd's definitions at build time with `protoc`, a program in
//! C++. The gateway takes the same messages as JSON, and what a lease needs is five of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Endpoint, EtcdSettings};

/// An answer is a few hundred bytes; more is not etcd's.
const LONGEST_ANSWER: usize = 1 << 16;

/// So much is told of what is not etcd's, or not pgherd's.
pub(super) const SHOWN: usize = 100;

/// Why there is no answer to a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The request may or may not have reached etcd.
    #[error("{0}")]
    Unreachable(String),
    /// etcd has refused it.
    #[error("etcd says: {0}")]
    Refused(String),
}

/// What asks etcd, one request at a time, over one kept connection.
#[derive(Debug)]
pub(super) struct Client {
    settings: Arc<EtcdSettings>,
    /// The endpoint that is asked first: the last that has answered.
    first: usize,
    kept: Option<Connection>,
    token: Option<String>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    /// Reads and writes for it; ends with it.
    _driver: JoinSet<()>,
}

impl Client {
    pub(super) const fn new(settings: Arc<EtcdSettings>) -> Self {
        Self { settings, first: 0, kept: None, token: None }
    }

    /// The answer to one request. Every endpoint is tried; each has its share of the time.
    pub(super) async fn call(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        if self.token.is_none() {
            self.log_in().await?;
        }
        match self.ask(path, body).await {
            Err(Failure::Refused(why)) if self.token.is_some() && why.contains("auth token") => {
                // Tokens end with time, and with an etcd that was started again.
                self.log_in().await?;
                self.ask(path, body).await
            }
            answer => answer,
        }
    }

    async fn log_in(&mut self) -> Result<(), Failure> {
        self.token = None;
        let Some((user, password)) = self.settings.login.clone() else { return Ok(()) };
        let answer = self
            .ask("/v3/auth/authenticate", &json!({ "name": user, "password": password.reveal() }))
            .await?;
        self.token = answer.get("token").and_then(Value::as_str).map(str::to_owned);
        Ok(())
    }

    async fn ask(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        let mut failure = Failure::Unreachable("no endpoint is configured".to_owned());
        // A kept connection may have ended unseen: that says nothing of the endpoint.
        let tries = self.settings.endpoints.len() + usize::from(self.kept.is_some());
        for step in 0..tries {
            let at = (self.first + step) % self.settings.endpoints.len();
            let Some(endpoint) = self.settings.endpoints.get(at).cloned() else { continue };
            if step > 0 {
                self.kept = None;
            }
            let unreachable = |why: String| Failure::Unreachable(format!("{}: {why}", endpoint.authority()));
            match timeout(self.settings.share(), self.ask_at(&endpoint, path, body)).await {
                Ok(Ok(answer)) => {
                    self.first = at;
                    return Ok(answer);
                }
                // It is there, and so are the others: they would say the same.
                Ok(Err(refused @ Failure::Refused(_))) => return Err(refused),
                Ok(Err(Failure::Unreachable(why))) => failure = unreachable(why),
                Err(_) => failure = unreachable("no answer in time".to_owned()),
            }
            self.kept = None;
        }
        Err(failure)
    }

    async fn ask_at(&mut self, endpoint: &Endpoint, path: &str, body: &Value) -> Result<Value, Failure> {
        let is_open = |it: &Connection| !it.sender.is_closed() && it.authority == endpoint.authority();
        let mut connection = match self.kept.take().filter(is_open) {
            Some(kept) => kept,
            None => self.connect(endpoint).await?,
        };
        let answer = self.exchange(&mut connection, path, body).await?;
        self.kept = Some(connection);
        let (status, bytes) = answer;
        // The answer to a stream is a line for each message.
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let value: Value = serde_json::from_slice(first).map_err(|_| {
            let shown: String = String::from_utf8_lossy(first).chars().take(SHOWN).collect();
            Failure::Unreachable(format!("{status}: {shown}"))
        })?;
        let error = value.get("error").filter(|error| !error.is_null());
        if status.is_success() && error.is_none() {
            return Ok(value);
        }
        let message = value.get("message").or_else(|| error?.get("message")).or(error);
        let why = message.and_then(Value::as_str).map_or_else(|| status.to_string(), str::to_owned);
        // No leader, too slow, about to end: another endpoint may do better.
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT | StatusCode::BAD_GATEWAY => {
                Err(Failure::Unreachable(why))
            }
            _ => Err(Failure::Refused(why)),
        }
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let broken = |error: hyper::Error| Failure::Unreachable(error.to_string());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, &connection.authority)
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        connection.sender.ready().await.map_err(broken)?;
        let answer = connection.sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let read = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        let bytes = read.map_err(|error| Failure::Unreachable(error.to_string()))?.to_bytes();
        Ok((status, bytes))
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Failure> {
        let unreachable = |error: std::io::Error| Failure::Unreachable(error.to_string());
        let stream =
            TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(unreachable)?;
        let address = stream.peer_addr().map_err(unreachable)?.ip();
        let authority = endpoint.authority();
        let Some(tls) = self.settings.tls.as_ref().filter(|_| endpoint.tls) else {
            return speak(stream, authority).await;
        };
        let (config, name) = tls
            .handshake(&endpoint.host, address)
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        let mut config = (*config).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(unreachable)?;
        speak(stream, authority).await
    }
}

async fn speak<S>(stream: S, authority: String) -> Result<Connection, Failure>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (sender, driver) = shaken.map_err(|error| Failure::Unreachable(error.to_string()))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // Whoever waits for an answer is told of the error.
        let _ = driver.await;
    });
    Ok(Connection { sender, authority, _driver: tasks })
}

impl EtcdSettings {
    /// How long all endpoints together may take: a turn that is later than that has missed its sense.
    pub(super) fn patience(&self) -> Duration {
        self.ttl / 3
    }

    fn share(&self) -> Duration {
        self.patience() / u32::try_from(self.endpoints.len().max(1)).unwrap_or(u32::MAX)
    }
}
