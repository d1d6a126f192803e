//! File descriptors: clients must never use up those that pgherd needs to see and rule the servers.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for probes, ssh and reading passwords: so many, and so many for each server.
const RESERVE: u64 = 16;
const RESERVE_PER_SERVER: u64 = 8;
/// Event loops, logs and listeners, before any client comes.
const OWN: u64 = 32;
/// So few clients are hardly meant.
const FEW: u64 = 32;
/// What a server connection takes: its socket, and the handle that cuts it.
const PER_SERVER_CONNECTION: u64 = 2;

/// The numbers below which the sockets of clients and of their server connections must stay. The kernel gives the lowest
/// number that is free, so one that is higher says that as many are in use.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// Of this process.
    limit: Option<u64>,
    clients: AtomicU64,
    servers: AtomicU64,
}

impl Bounds {
    /// Raises the limit as far as this process may, and shares it out.
    pub(crate) fn claim(servers: usize, server_connections: usize) -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let current = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => raised.current,
            Err(error) => {
                tracing::warn!(%error, limit = ?limit.current, "cannot raise the limit of open files");
                limit.current
            }
        };
        let bounds = Self { limit: current, clients: AtomicU64::new(0), servers: AtomicU64::new(0) };
        bounds.share_out(servers, server_connections);
        bounds
    }

    /// Shares the limit out anew, for so many servers and connections to them.
    pub(crate) fn share_out(&self, servers: usize, server_connections: usize) {
        let limit = self.limit.unwrap_or(u64::MAX);
        let (clients, servers) = share(limit, to_u64(servers), to_u64(server_connections));
        if clients < OWN + FEW {
            tracing::warn!(limit, "the limit of open files leaves room for few clients: raise it");
        }
        self.clients.store(clients, Ordering::Relaxed);
        self.servers.store(servers, Ordering::Relaxed);
    }

    /// True if this socket of a client leaves enough for everything else.
    pub(crate) fn has_room_for_client(&self, socket: &impl AsRawFd) -> bool {
        is_below(&self.clients, socket)
    }

    /// True if this socket of a server connection leaves enough for the control loop.
    pub(crate) fn has_room_for_server(&self, socket: &impl AsRawFd) -> bool {
        is_below(&self.servers, socket)
    }
}

/// The bounds of clients and of servers.
fn share(limit: u64, servers: u64, server_connections: u64) -> (u64, u64) {
    let reserve = RESERVE.saturating_add(servers.saturating_mul(RESERVE_PER_SERVER));
    let usable = limit.saturating_sub(reserve);
    let wanted = server_connections.saturating_mul(PER_SERVER_CONNECTION);
    (usable - wanted.min(usable.saturating_sub(OWN) / 2), usable)
}

fn is_below(bound: &AtomicU64, socket: &impl AsRawFd) -> bool {
    u64::try_from(socket.as_raw_fd()).is_ok_and(|number| number < bound.load(Ordering::Relaxed))
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_kept_room_for_and_the_control_loop_most_of_all() {
        assert_eq!(share(1_000_000, 3, 40), (999_880, 999_960));
        assert_eq!(share(100, 3, 40), (46, 60));
        assert_eq!(share(40, 3, 40), (0, 0));
    }
}
