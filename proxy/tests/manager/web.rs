//! A browser, or a script, as far as the manager can tell.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgherd_testkit::{Context, Result, anyhow, ensure, eventually};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Where the interface is.
pub(crate) const API: &str = "/api/v1";

/// A connection, encrypted or not.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Somebody who asks, with what is sent each time. Paths are relative to [`API`] unless they begin with a slash.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    source: Option<Ipv4Addr>,
    tls: Option<Arc<ClientConfig>>,
    headers: Vec<(String, String)>,
}

/// What was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Web {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, source: None, tls: None, headers: Vec::new() }
    }

    /// From this address.
    pub(crate) fn from(mut self, source: Ipv4Addr) -> Self {
        self.source = Some(source);
        self
    }

    /// Over TLS.
    pub(crate) fn encrypted(mut self, config: ClientConfig) -> Self {
        self.tls = Some(Arc::new(config));
        self
    }

    /// With one more header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(it, _)| !it.eq_ignore_ascii_case(name));
        self
    }

    /// With HTTP Basic authentication.
    pub(crate) fn basic(self, user: &str, password: &str) -> Self {
        self.with("Authorization", &format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    /// The headers as text.
    pub(crate) fn head(&self) -> String {
        self.headers.iter().fold(String::new(), |mut head, (name, value)| {
            let _ = write!(head, "{name}: {value}\r\n");
            head
        })
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Wire>> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let stream: TcpStream = stream;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
        Ok(Box::new(connector.connect(ServerName::try_from("localhost")?, stream).await?))
    }

    /// Asks with any method and any body.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("{API}/{path}") };
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{}", self.address, self.head());
        if !body.is_empty() {
            let _ = write!(request, "Content-Length: {}\r\n", body.len());
        }
        request.push_str("Connection: close\r\n\r\n");
        let asked = async {
            let mut wire = self.connect().await?;
            // It may be that not all of it is read.
            let _ = wire.write_all(&[request.as_bytes(), body].concat()).await;
            wire.flush().await?;
            read(&mut wire).await
        };
        let answer = timeout(PATIENCE, asked).await.map_err(|_| anyhow!("{method} {path}: no answer"))?;
        answer.with_context(|| format!("{method} {path}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.ask("GET", path, b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Json) -> Result<Answer> {
        let web = self.clone().with("Content-Type", "application/json");
        web.ask("POST", path, body.to_string().as_bytes()).await
    }

    /// The JSON at a path.
    pub(crate) async fn see(&self, path: &str) -> Result<Json> {
        self.get(path).await?.expect(200)?.json()
    }

    pub(crate) async fn try_log_in(&self, user: &str, password: &str) -> Result<Answer> {
        self.post("session", &json!({ "user": user, "password": password })).await
    }

    /// The same with a session at the page.
    pub(crate) async fn log_in(&self, user: &str, password: &str) -> Result<Self> {
        self.try_log_in(user, password).await?.expect(200)?.session(self)
    }

    /// What an action would do.
    pub(crate) async fn rehearse(&self, mut action: Json) -> Result<Json> {
        action.as_object_mut().context("an action")?.insert("dry_run".into(), true.into());
        self.post("orders", &action).await?.expect(200)?.json()
    }

    /// Orders something, and gives the order as it is taken.
    pub(crate) async fn give(&self, action: Json) -> Result<Json> {
        self.post("orders", &action).await?.expect(202)?.json()
    }

    /// Waits until an order has ended.
    pub(crate) async fn ended(&self, order: &Json) -> Result<Json> {
        let path = format!("orders/{}", order["id"]);
        eventually(format!("an end of {order}"), PATIENCE, || async {
            let order = self.see(&path).await?;
            Ok((order["state"] != "running").then_some(order))
        })
        .await
    }

    /// Orders something, and waits until it was done; gives what it came to.
    pub(crate) async fn order(&self, action: Json) -> Result<Json> {
        let order = self.ended(&self.give(action).await?).await?;
        ensure!(order["state"] == "done", "{order:#}");
        Ok(order)
    }

    /// Orders something that is not done; gives why.
    pub(crate) async fn fails(&self, action: Json) -> Result<String> {
        let order = self.ended(&self.give(action).await?).await?;
        ensure!(order["state"] == "failed", "{order:#}");
        Ok(text(&order["result"]))
    }
}

/// Reads an answer, up to the end of its body or of the connection.
pub(crate) async fn read(wire: &mut (impl AsyncRead + Unpin)) -> Result<Answer> {
    let mut bytes = Vec::new();
    // Whoever did not read all that was sent may cut the connection after its answer.
    let ended = wire.read_to_end(&mut bytes).await;
    let answer = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        ended?;
        return Err(anyhow!("no answer: {answer:?}"));
    };
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

impl Answer {
    pub(crate) fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "{status} was expected: {self:?}");
        Ok(self)
    }

    pub(crate) fn json(&self) -> Result<Json> {
        serde_json::from_str(&self.body).with_context(|| format!("{self:?}"))
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// What is wrong, in a sentence.
    pub(crate) fn error(&self) -> Result<String> {
        let error = text(&self.json()?["error"]);
        ensure!(error.len() > 10, "no sentence: {self:?}");
        Ok(error)
    }

    /// Whoever asked, with the session that was begun by this.
    pub(crate) fn session(&self, web: &Web) -> Result<Web> {
        let cookie = self.header("set-cookie").and_then(|it| it.split(';').next()).context("no cookie")?;
        let csrf = text(&self.json()?["csrf"]);
        ensure!(csrf.len() > 20 && cookie.len() > 40, "{self:?}");
        let web = web.clone().without("Cookie").without("X-CSRF-Token");
        Ok(web.with("Cookie", cookie).with("X-CSRF-Token", &csrf))
    }
}

pub(crate) fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

/// The elements of a list.
pub(crate) fn all(json: &Json) -> &[Json] {
    json.as_array().map(Vec::as_slice).unwrap_or_default()
}
