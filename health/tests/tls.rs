//! Servers that answer a request for TLS in other ways than PostgreSQL does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgherd_health::{ConnectFailure, Login};
use pgherd_tls::{Mode, ServerTls, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers the first packet of each connection with these bytes and closes it; with the count of connections.
async fn answering(answer: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut first = [0; 8];
            if stream.read_exact(&mut first).await.is_ok() {
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
                // What the client says to that is not to be answered with a reset.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    (address, connections)
}

/// Why a login there fails, and in how many connections.
async fn failed(mode: Mode, answer: &'static [u8]) -> (ConnectFailure, usize) {
    let (address, connections) = answering(answer).await;
    let tls = ServerTls::load(Settings { mode, ..Settings::default() }).unwrap();
    let login = Login {
        user: "repmgr",
        password: None,
        database: "repmgr",
        application_name: "test",
        options: "",
        tls: &tls,
        notice: None,
    };
    let failure = login.at(&address.ip().to_string(), address.port()).await.err().unwrap();
    (failure, connections.load(Ordering::SeqCst))
}

fn rejects(failure: &ConnectFailure, part: &str) -> bool {
    matches!(failure, ConnectFailure::Rejected { message, .. } if message.contains(part))
}

#[tokio::test]
async fn a_server_that_is_there_and_fails_at_tls_is_not_taken_for_dead() {
    let (failure, _) = failed(Mode::Require, b"N").await;
    assert!(rejects(&failure, "the server has no TLS"), "{failure:?}");
    let (failure, connections) = failed(Mode::Prefer, b"E\0\0\0\x10out of memory\0").await;
    assert!(rejects(&failure, "answered the request for TLS with an error"), "{failure:?}");
    assert_eq!(connections, 1, "nothing is sent in the clear because of an error that anybody may have sent");
    let (failure, _) = failed(Mode::Require, b"SHTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert!(rejects(&failure, "TLS handshake failed"), "{failure:?}");
}

#[tokio::test]
async fn a_server_that_goes_away_before_or_within_the_handshake_is_lost() {
    for answer in [&b""[..], b"S"] {
        let (failure, connections) = failed(Mode::Require, answer).await;
        assert!(matches!(failure, ConnectFailure::Lost(_)), "{answer:?}: {failure:?}");
        assert_eq!(connections, 1);
    }
}

#[tokio::test]
async fn a_handshake_that_fails_is_followed_by_a_connection_without_tls_where_that_is_preferred() {
    for (mode, expected) in [(Mode::Prefer, 2), (Mode::Require, 1)] {
        let (_, connections) = failed(mode, b"SHTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert_eq!(connections, expected, "{mode:?}");
    }
}
