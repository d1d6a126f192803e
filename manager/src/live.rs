//! The WebSocket: what has changed is pushed to whoever looks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::access::{Refusal, Visitor, is_from_here, session_cookie};
use crate::feed::PAUSE;
use crate::{Manager, Source};

/// Pages at a time.
const MOST: usize = 512;
/// How long a page may take to read one frame.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks at whether a page is still there, and still allowed to be.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Longest message that is taken from a page, which has nothing to say.
const LONGEST: usize = 1024;
/// Close code for a session that is over.
const OVER: u16 = 4401;

/// The places that pages take.
#[derive(Debug)]
pub(crate) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Places {
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// Begins to push.
pub(crate) async fn open<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    visitor: Visitor,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    is_from_here(&headers)?;
    let upgrade = upgrade.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    let place = manager.places.take().ok_or_else(|| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{MOST} pages are open already: close some."))
    })?;
    let cookie = session_cookie(&headers).map(str::to_owned);
    let page = Page { manager, visitor, cookie, _place: place };
    let upgrade = upgrade.max_message_size(LONGEST).max_frame_size(LONGEST);
    // Of the defaults, 128 KiB each, a page needs nothing: it is sent whole frames, and says none.
    let upgrade = upgrade.read_buffer_size(LONGEST).write_buffer_size(0);
    Ok(upgrade.on_upgrade(move |socket| page.serve(socket)))
}

/// One page that is open.
struct Page<S> {
    manager: Arc<Manager<S>>,
    visitor: Visitor,
    cookie: Option<String>,
    _place: OwnedSemaphorePermit,
}

impl<S: Source> Page<S> {
    async fn serve(self, mut socket: WebSocket) {
        // However it ends, the page opens another if it is still there.
        let _ = self.push(&mut socket).await;
    }

    /// Pushes until the page is gone. None where it does not read.
    async fn push(&self, socket: &mut WebSocket) -> Option<()> {
        let feed = &self.manager.feed;
        let mut feeds =
            [&feed.herd, &feed.events, &feed.failovers, &feed.point].map(watch::Sender::subscribe);
        for feed in &mut feeds {
            feed.mark_unchanged();
        }
        let mut orders = self.manager.orders.watch();
        let mut seen = *orders.borrow_and_update();
        let herd = self.manager.herd();
        let first = [
            json!({ "herd": herd }),
            json!({ "events": self.manager.events(&herd) }),
            json!({ "failovers": self.manager.feed.failovers() }),
        ];
        for frame in first {
            self.send(socket, frame.to_string()).await?;
        }
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset();
        let [herd, events, failovers, point] = &mut feeds;
        loop {
            let frame = tokio::select! {
                _ = herd.changed() => latest(herd),
                _ = events.changed() => latest(events),
                _ = failovers.changed() => latest(failovers),
                _ = point.changed() => latest(point),
                _ = orders.changed() => {
                    let (change, changed) = self.manager.orders.since(seen);
                    seen = change;
                    for order in changed {
                        self.send(socket, json!({ "order": *order }).to_string()).await?;
                    }
                    // What tells much is sent whole, and not for each of its lines.
                    sleep(PAUSE).await;
                    continue;
                }
                said = socket.next() => match said {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Some(()),
                    Some(Ok(_)) => continue,
                },
                _ = looks.tick() => {
                    self.deliver(socket, Message::Ping(Vec::new().into())).await?;
                    continue;
                }
            };
            self.send(socket, frame).await?;
        }
    }

    async fn send(&self, socket: &mut WebSocket, frame: String) -> Option<()> {
        self.deliver(socket, Message::Text(frame.into())).await
    }

    /// None if the page does not read it, or may not.
    async fn deliver(&self, socket: &mut WebSocket, message: Message) -> Option<()> {
        if !self.is_allowed() {
            let over = CloseFrame { code: OVER, reason: "the session is over".into() };
            // It is over in any case.
            let _ = timeout(READ_WITHIN, socket.send(Message::Close(Some(over)))).await;
            return None;
        }
        timeout(READ_WITHIN, socket.send(message)).await.ok()?.ok()
    }

    /// True if whoever looks still may.
    fn is_allowed(&self) -> bool {
        let Some(user) = &self.visitor.user else { return self.manager.access.anonymous };
        let session = || self.manager.logins.peek(self.cookie.as_deref()?, Instant::now());
        let has_session = self.visitor.session.is_none() || session().is_some_and(|it| it.user == *user);
        has_session && self.manager.source.role_of(user).is_some()
    }
}

fn latest(feed: &mut watch::Receiver<Arc<str>>) -> String {
    feed.borrow_and_update().as_ref().to_owned()
}
