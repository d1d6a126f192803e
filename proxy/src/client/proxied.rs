//! Clients behind a load balancer that says for whom it connects: the PROXY protocol.

use std::io;

use pgherd_protocol::proxy_header::{ProxyHeader, ProxyHeaderError, parse_proxy_header};
use tokio::io::AsyncReadExt;

use crate::config::Live;
use crate::peer::{Peer, PeerAddress};
use crate::stream::Stream;

/// Puts the client's address in the place of the load balancer's, where that is one that is trusted to say it. Such a one
/// has to: if it need not, a client that comes around it could say what it likes.
///
/// # Errors
/// The loss of the connection; within, a header that is none.
pub(super) async fn find_client(
    stream: &mut Stream,
    peer: &mut Peer,
    config: &Live,
) -> io::Result<Result<(), ProxyHeaderError>> {
    let PeerAddress::Tcp(from) = peer.address else { return Ok(Ok(())) };
    if !config.load().listen.is_proxy(from.ip()) {
        return Ok(Ok(()));
    }
    let mut header = Vec::new();
    loop {
        match parse_proxy_header(&header) {
            Ok(ProxyHeader::More(more)) => {
                let read = header.len();
                header.resize(read + more, 0);
                stream.read_exact(header.get_mut(read..).unwrap_or_default()).await?;
            }
            Ok(ProxyHeader::Whole(client)) => {
                if let Some(client) = client {
                    tracing::debug!(%peer, %client, "a load balancer connects for a client");
                    peer.address = PeerAddress::Tcp(client);
                }
                return Ok(Ok(()));
            }
            Err(error) => return Ok(Err(error)),
        }
    }
}
