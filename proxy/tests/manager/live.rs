//! What pages are pushed.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use pgherd_testkit::{Context, Result, anyhow, bail};
use serde_json::Value as Json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::web::{API, PATIENCE, Web, Wire};

/// A page that is open.
pub(crate) struct Live(pub(crate) WebSocketStream<Box<dyn Wire>>);

impl Live {
    /// Opens a page, or is refused with a status.
    pub(crate) async fn open(web: &Web) -> Result<Result<Self, u16>> {
        let mut request = format!("ws://{}{API}/live", web.address).into_client_request()?;
        for line in web.head().lines() {
            let (name, value) = line.split_once(": ").context("a header")?;
            let name = tokio_tungstenite::tungstenite::http::HeaderName::try_from(name)?;
            request.headers_mut().insert(name, value.try_into()?);
        }
        match client_async(request, web.connect().await?).await {
            Ok((socket, _)) => Ok(Ok(Self(socket))),
            Err(Error::Http(answer)) => Ok(Err(answer.status().as_u16())),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a page.
    pub(crate) async fn of(web: &Web) -> Result<Self> {
        Self::open(web).await?.map_err(|status| anyhow!("no page: {status}"))
    }

    /// The next frame: its name and what it says. None where the page was closed, with the code if there is one.
    async fn frame(&mut self) -> Result<Result<(String, Json), Option<u16>>> {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.context("no frame")?;
            match message {
                Some(Ok(Message::Text(frame))) => {
                    let frame: Json = serde_json::from_str(&frame)?;
                    let fields = frame.as_object().filter(|it| it.len() == 1).context("one field")?;
                    let (name, said) = fields.iter().next().context("a field")?;
                    return Ok(Ok((name.clone(), said.clone())));
                }
                Some(Ok(Message::Close(frame))) => return Ok(Err(frame.map(|it| it.code.into()))),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(Err(None)),
            }
        }
    }

    /// The next frame of this name.
    pub(crate) async fn next(&mut self, name: &str) -> Result<Json> {
        loop {
            match self.frame().await? {
                Ok((found, said)) if found == name => return Ok(said),
                Ok(_) => {}
                Err(code) => bail!("closed with {code:?}"),
            }
        }
    }

    /// Waits until the page is closed, and gives the code.
    pub(crate) async fn closed(&mut self) -> Result<Option<u16>> {
        let ends = async {
            loop {
                if let Err(code) = self.frame().await? {
                    return Ok(code);
                }
            }
        };
        timeout(Duration::from_secs(30), ends).await.context("it is not closed")?
    }

    /// Says something.
    pub(crate) async fn say(&mut self, message: Message) -> Result<()> {
        Ok(self.0.send(message).await?)
    }
}
