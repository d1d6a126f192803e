//! The first packets of a connection.

use std::io;
use std::sync::Arc;

use pgherd_protocol::error::{ClientError, write_old_style};
use pgherd_protocol::startup::{CancelKey, Startup, StartupError, StartupPacket, parse_startup, startup_len};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{Peer, PeerAddress};
use crate::shared::Shared;
use crate::stream::Stream;
use crate::tls::{ALPN, Acceptor};

/// The first byte of a TLS handshake. Of a startup packet's length it would be 350 MB.
const HANDSHAKE: u8 = 0x16;

/// What a connection is for.
pub(super) enum Opening {
    /// A session.
    Startup(Startup),
    /// A cancel request.
    Cancel(CancelKey),
    /// Nothing that pgherd could do: the client gets this message, and the connection is closed.
    Refused(Vec<u8>),
    /// It was closed, or PostgreSQL would close it without a word.
    Closed,
}

/// Reads packets until one says what the connection is for. TLS begins where a client wants it and there is an acceptor, as
/// in PostgreSQL not over a Unix socket; other encryption is declined: the client goes on without, or leaves.
pub(super) async fn receive(stream: &mut Stream, peer: &mut Peer, shared: &Shared) -> io::Result<Opening> {
    let acceptor = shared.tls.acceptor().filter(|_| matches!(peer.address, PeerAddress::Tcp(_)));
    let (mut tls_done, mut gss_done, mut first) = (false, false, true);
    loop {
        let Some(word) = read_word(stream).await? else { return Ok(Opening::Closed) };
        if std::mem::take(&mut first) && word.starts_with(&[HANDSHAKE]) {
            let Some(acceptor) = &acceptor else { return Ok(Opening::Closed) };
            let shaken = begin_tls(stream, peer, (acceptor, shared), &word).await?;
            if !shaken || !has_named_protocol(stream, peer, shared) {
                return Ok(Opening::Closed);
            }
            (tls_done, gss_done) = (true, true);
            continue;
        }
        let Some(packet) = read_packet(stream, word).await? else { return Ok(Opening::Closed) };
        let accepted = match parse_startup(&packet) {
            Ok(StartupPacket::SslRequest) if !tls_done => {
                tls_done = true;
                acceptor.as_deref()
            }
            Ok(StartupPacket::GssEncRequest) if !gss_done => {
                gss_done = true;
                None
            }
            // Asked twice, it is no version of the protocol either.
            Ok(StartupPacket::SslRequest) => return Ok(unsupported(5679)),
            Ok(StartupPacket::GssEncRequest) => return Ok(unsupported(5680)),
            Ok(StartupPacket::Cancel(key)) => return Ok(Opening::Cancel(key)),
            Ok(StartupPacket::Startup(startup)) => {
                return Ok(admit(startup, peer, (acceptor.as_deref(), shared)));
            }
            Err(error) if error.sqlstate().is_none() => return Ok(Opening::Closed),
            Err(error) => return Ok(Opening::Refused(refusal(&error))),
        };
        // Whoever sends something behind the request sends it unprotected, or somebody else does in its name (CVE-2021-23222).
        if stream.has_unread() {
            return Ok(unencrypted(&packet));
        }
        let Some(acceptor) = accepted else {
            stream.write_all(b"N").await?;
            continue;
        };
        stream.write_all(b"S").await?;
        if !begin_tls(stream, peer, (acceptor, shared), &[]).await? {
            return Ok(Opening::Closed);
        }
        gss_done = true;
    }
}

/// Shakes hands; false if that has failed: the client was told so by TLS itself.
async fn begin_tls(
    stream: &mut Stream,
    peer: &mut Peer,
    (acceptor, shared): (&Acceptor, &Shared),
    first: &[u8],
) -> io::Result<bool> {
    let connection = acceptor.accept().map_err(io::Error::other)?;
    if let Err(error) = stream.secure(connection, first).await {
        if shared.strangers.may_be_told_of(&peer.address) {
            tracing::info!(%peer, %error, "a TLS handshake failed");
        }
        return Ok(false);
    }
    peer.tls = stream.tls().map(|connection| Arc::new(acceptor.facts(connection)));
    Ok(true)
}

/// Who begins with TLS must name the protocol: else a request for another one could be passed on to here.
fn has_named_protocol(stream: &Stream, peer: &Peer, shared: &Shared) -> bool {
    let named = stream.tls().and_then(|connection| connection.alpn_protocol()) == Some(ALPN);
    if !named && shared.strangers.may_be_told_of(&peer.address) {
        tracing::info!(%peer, "a TLS connection without SSLRequest does not name the protocol (ALPN)");
    }
    named
}

/// A client on the network has to use TLS where that is required. A cancel request has not: libpq sent none with TLS before
/// PostgreSQL 17.
fn admit(startup: Startup, peer: &Peer, (acceptor, shared): (Option<&Acceptor>, &Shared)) -> Opening {
    if peer.tls.is_some() || !acceptor.is_some_and(Acceptor::is_required) {
        return Opening::Startup(startup);
    }
    let Startup { user, database, .. } = startup;
    let PeerAddress::Tcp(address) = &peer.address else { return Opening::Closed };
    let host = address.ip();
    let what = format!(
        "TLS is required for host \"{host}\", user \"{user}\", database \"{database}\", no encryption"
    );
    if shared.strangers.may_be_told_of(&peer.address) {
        tracing::info!(%peer, user, database, "a client that does not use TLS was refused");
    }
    refused(&ClientError::new("28000", what).hint("Connect with sslmode=require, or with a stricter one."))
}

fn unencrypted(request: &[u8]) -> Opening {
    let what = if request.ends_with(&5680_u16.to_be_bytes()) { "GSSAPI encryption" } else { "SSL" };
    let error = ClientError::new("08P01", format!("received unencrypted data after {what} request")).detail(
        "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
    );
    refused(&error)
}

fn unsupported(minor: u16) -> Opening {
    Opening::Refused(refusal(&StartupError::UnsupportedVersion(1234, minor)))
}

fn refused(error: &ClientError) -> Opening {
    Opening::Refused(error.last_words())
}

/// A client is answered in the form that it may understand.
fn refusal(error: &StartupError) -> Vec<u8> {
    match error {
        StartupError::UnsupportedVersion(..=2, _) => {
            let mut out = Vec::new();
            write_old_style(&mut out, &error.to_string());
            out
        }
        _ => ClientError::new(error.sqlstate().unwrap_or("08P01"), error.to_string()).last_words(),
    }
}

/// Reads the first four bytes of a packet; none at the end of the stream.
async fn read_word(stream: &mut Stream) -> io::Result<Option<[u8; 4]>> {
    let mut word = [0; 4];
    match stream.read_exact(&mut word).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|_| Some(word)),
    }
}

/// Reads the rest of a packet exactly; none for an impossible length.
async fn read_packet(stream: &mut Stream, word: [u8; 4]) -> io::Result<Option<Vec<u8>>> {
    let Ok(Some(len)) = startup_len(&word) else { return Ok(None) };
    let mut packet = word.to_vec();
    packet.resize(len, 0);
    stream.read_exact(packet.get_mut(word.len()..).unwrap_or_default()).await?;
    Ok(Some(packet))
}
