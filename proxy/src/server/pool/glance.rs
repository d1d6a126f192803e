//! What is to be seen of a pool.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::Pool;
use crate::cancel::CancelPoint;
use crate::server::connection::ServerConnection;

/// A connection that is open, whoever has it.
#[derive(Debug)]
pub(super) struct Member {
    /// Gone with the connection.
    point: Weak<CancelPoint>,
    local: Option<SocketAddr>,
    opened_at: Instant,
}

/// What a pool holds at one moment.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    /// Its connections.
    pub(crate) connections: Vec<Seen>,
    /// Connections that are being opened.
    pub(crate) opening: usize,
}

/// One connection of a pool.
#[derive(Debug)]
pub(crate) struct Seen {
    /// It, as sessions know it that hold it.
    pub(crate) point: Arc<CancelPoint>,
    /// The address that it was opened from.
    pub(crate) local: Option<SocketAddr>,
    /// When it was opened.
    pub(crate) opened_at: Instant,
    /// Since when nobody has it.
    pub(crate) idle_since: Option<Instant>,
    /// It is closed when it comes back.
    pub(crate) is_to_close: bool,
}

impl Pool {
    /// A connection was opened for this pool.
    pub(in crate::server) fn register(&self, connection: &ServerConnection) {
        let member = Member {
            point: Arc::downgrade(&connection.cancel),
            local: connection.stream.socket().local_addr().ok(),
            opened_at: connection.opened_at,
        };
        let mut inner = self.inner.lock();
        if inner.members.len() == inner.members.capacity() {
            inner.members.retain(|member| member.point.strong_count() > 0);
        }
        inner.members.push(member);
    }

    /// Connections that are open or being opened.
    pub(crate) fn connections(&self) -> usize {
        let inner = self.inner.lock();
        inner.regular + inner.pinned
    }

    /// Connections that are to be closed when they come back, because of [`Pool::renew`].
    pub(crate) fn stale(&self) -> usize {
        let inner = self.inner.lock();
        let is_stale = |member: &&Member| {
            inner.renewed_at.is_some_and(|at| member.opened_at <= at) && member.point.strong_count() > 0
        };
        inner.members.iter().filter(is_stale).count()
    }

    /// What it holds now.
    pub(crate) fn glance(&self) -> Glance {
        let inner = self.inner.lock();
        let open = inner.members.iter().filter_map(|member| {
            let point = member.point.upgrade()?;
            let idle = inner.idle.iter().flatten().find(|idle| Arc::ptr_eq(&idle.cancel, &point));
            Some(Seen {
                local: member.local,
                opened_at: member.opened_at,
                idle_since: idle.map(|idle| idle.idle_since),
                is_to_close: inner.paused || inner.renewed_at.is_some_and(|at| member.opened_at <= at),
                point,
            })
        });
        let connections: Vec<_> = open.collect();
        let opening = (inner.regular + inner.pinned).saturating_sub(connections.len());
        Glance { connections, opening }
    }
}
