//! The manager: what operators and their scripts see of a herd, and how they steer it. REST, WebSocket and a web page.
//!
//! It knows pgherd by a [`Source`] only: snapshots come out of it, orders go in. Nothing of a request ever reaches a shell, or becomes SQL.

mod access;
mod api;
mod feed;
mod history;
mod live;
mod logins;
pub mod model;
mod orders;
mod page;
mod servers;
mod source;
mod story;

use std::sync::Arc;

use axum::Router;
use tokio_util::sync::CancellationToken;

pub use page::page;

pub use feed::show_time;

pub use access::{Access, Peer, TrustedProxy};
pub use source::{Counts, Decided, Denial, Distribution, Role, Source};

use feed::Feed;
use live::Places;
use logins::Logins;
use orders::Orders;

/// Whether this program has the web page in it.
pub const HAS_PAGE: bool = page::IS_THERE;

/// The manager of one herd.
#[derive(Debug)]
pub struct Manager<S> {
    source: S,
    access: Access,
    logins: Logins,
    feed: Feed,
    orders: Orders,
    places: Places,
}

impl<S: Source> Manager<S> {
    /// A manager that shows and steers what is behind `source`, and lets in whom `access` says.
    pub fn new(source: S, access: Access) -> Arc<Self> {
        Arc::new(Self {
            source,
            access,
            logins: Logins::default(),
            feed: Feed::default(),
            orders: Orders::default(),
            places: Places::default(),
        })
    }

    /// Keeps what is shown up to date, until `stop`. Whatever it is that looks, it is looked once for all.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(feed::keep(&self)).await;
    }

    /// All that is answered: `/api/v1/...`, and the page at every other path.
    pub fn routes(self: &Arc<Self>) -> Router {
        api::routes(self).merge(page::routes())
    }
}
