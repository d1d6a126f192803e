//! The first packets of a connection.

use std::io;

use pgherd_protocol::error::{ClientError, Severity, write_old_style};
use pgherd_protocol::startup::{CancelKey, Startup, StartupError, StartupPacket, parse_startup, startup_len};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stream::Stream;

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

/// Reads packets until one says what the connection is for. Encryption is declined: the client goes on without, or leaves.
pub(super) async fn receive(stream: &mut Stream) -> io::Result<Opening> {
    let (mut tls_declined, mut gss_declined) = (false, false);
    loop {
        let Some(packet) = read_packet(stream).await? else { return Ok(Opening::Closed) };
        match parse_startup(&packet) {
            Ok(StartupPacket::SslRequest) if !tls_declined => tls_declined = true,
            Ok(StartupPacket::GssEncRequest) if !gss_declined => gss_declined = true,
            // Asked twice, it is no version of the protocol either.
            Ok(StartupPacket::SslRequest) => {
                return Ok(Opening::Refused(refusal(&StartupError::UnsupportedVersion(1234, 5679))));
            }
            Ok(StartupPacket::GssEncRequest) => {
                return Ok(Opening::Refused(refusal(&StartupError::UnsupportedVersion(1234, 5680))));
            }
            Ok(StartupPacket::Cancel(key)) => return Ok(Opening::Cancel(key)),
            Ok(StartupPacket::Startup(startup)) => return Ok(Opening::Startup(startup)),
            Err(error) if error.sqlstate().is_none() => return Ok(Opening::Closed),
            Err(error) => return Ok(Opening::Refused(refusal(&error))),
        }
        stream.write_all(b"N").await?;
    }
}

/// A client is answered in the form that it may understand.
fn refusal(error: &StartupError) -> Vec<u8> {
    let mut out = Vec::new();
    match error {
        StartupError::UnsupportedVersion(..=2, _) => write_old_style(&mut out, &error.to_string()),
        _ => ClientError::new(error.sqlstate().unwrap_or("08P01"), error.to_string())
            .write(&mut out, Severity::Fatal),
    }
    out
}

/// Reads one packet exactly; none at the end of the stream or for an impossible length.
async fn read_packet(stream: &mut Stream) -> io::Result<Option<Vec<u8>>> {
    let mut word = [0; 4];
    match stream.read_exact(&mut word).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let Ok(Some(len)) = startup_len(&word) else { return Ok(None) };
    let mut packet = word.to_vec();
    packet.resize(len, 0);
    stream.read_exact(packet.get_mut(word.len()..).unwrap_or_default()).await?;
    Ok(Some(packet))
}
