//! Accepting connections and handing them to workers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::worker::{Accepted, WorkerHandle};

/// Connections that the kernel holds before they are accepted.
const BACKLOG: i32 = 4096;
/// Pause after an accept that failed for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Binds the listener.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `stop`; each connection goes to the worker that has the fewest. At most `limit` connections are
/// open at once, logged in or not.
pub(crate) async fn accept(
    listener: TcpListener,
    workers: &[WorkerHandle],
    limit: usize,
    stop: CancellationToken,
) {
    let mut next = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        if workers.iter().map(WorkerHandle::load).sum::<usize>() >= limit {
            tracing::warn!(%peer, limit, "too many connections: one was closed");
            continue;
        }
        next += 1;
        let least = workers.iter().enumerate().min_by_key(|(index, worker)| {
            // Among equals in turn.
            (worker.load(), (index + next) % workers.len())
        });
        let (Some((_, worker)), Ok(stream)) = (least, stream.into_std()) else { continue };
        worker.serve(Accepted { stream, peer }).await;
    }
}
