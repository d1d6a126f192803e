//! The WebSocket: what has changed is pushed to whoever looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::access::{Refusal, Visitor, is_from_here, session_cookie};
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

static PAGES: AtomicUsize = AtomicUsize::new(0);

/// One page's place.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let room = |there: usize| (there < MOST).then_some(there + 1);
        PAGES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PAGES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Begins to push.
pub(crate) async fn open<S: Source>(
    State(manager): State<Arc<Manager<S>>>,
    visitor: Visitor,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    is_from_here(&headers)?;
    let place = Place::take().ok_or_else(|| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{MOST} pages are open already: close some."))
    })?;
    let cookie = session_cookie(&headers).map(str::to_owned);
    let page = Page { manager, visitor, cookie, _place: place };
    let upgrade = upgrade.max_message_size(LONGEST).max_frame_size(LONGEST);
    Ok(upgrade.on_upgrade(move |socket| page.serve(socket)))
}

/// One page that is open.
struct Page<S> {
    manager: Arc<Manager<S>>,
    visitor: Visitor,
    cookie: Option<String>,
    _place: Place,
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
        let first = [
            json!({ "herd": self.manager.herd() }),
            json!({ "events": self.manager.events() }),
            json!({ "failovers": self.manager.feed.failovers() }),
        ];
        for frame in first {
            send(socket, frame.to_string()).await?;
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
                    orders.mark_unchanged();
                    for order in changed {
                        send(socket, json!({ "order": *order }).to_string()).await?;
                    }
                    continue;
                }
                said = socket.next() => match said {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Some(()),
                    Some(Ok(_)) => continue,
                },
                _ = looks.tick() => {
                    if !self.is_allowed() {
                        let over = CloseFrame { code: OVER, reason: "the session is over".into() };
                        return deliver(socket, Message::Close(Some(over))).await;
                    }
                    deliver(socket, Message::Ping(Vec::new().into())).await?;
                    continue;
                }
            };
            send(socket, frame).await?;
        }
    }

    /// True if whoever looks still may.
    fn is_allowed(&self) -> bool {
        let Some(user) = &self.visitor.user else { return self.manager.access.anonymous };
        let session = || self.manager.logins.find(self.cookie.as_deref()?, Instant::now());
        let has_session = self.visitor.session.is_none() || session().is_some_and(|it| it.user == *user);
        has_session && self.manager.source.role_of(user).is_some()
    }
}

fn latest(feed: &mut watch::Receiver<Arc<str>>) -> String {
    feed.borrow_and_update().as_ref().to_owned()
}

async fn send(socket: &mut WebSocket, frame: String) -> Option<()> {
    deliver(socket, Message::Text(frame.into())).await
}

/// None if the page does not read it.
async fn deliver(socket: &mut WebSocket, message: Message) -> Option<()> {
    timeout(READ_WITHIN, socket.send(message)).await.ok()?.ok()
}
