use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use pgherd_testkit::Authority;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::reactor::Executor;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Runs a main future on an event loop of this thread.
fn run<T: 'static, O>(main: impl AsyncFnOnce(&Executor<T>) -> O) -> O {
    let executor = Executor::new(std::time::Instant::now()).unwrap();
    executor.block_on(main(&executor)).unwrap()
}

/// A connection before the handshake, and the two sides' parts in it.
fn pair() -> (Stream, ServerConnection, Client) {
    let authority = Authority::new("authority").unwrap();
    let server = authority.server(&["localhost"]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from_pem_slice(server.key_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from_pem_slice(server.pem().as_bytes()).unwrap()], key)
        .unwrap();
    let near = ServerConnection::new(Arc::new(config)).unwrap();
    let trusting = Arc::new(authority.trusting(None).unwrap());
    let far = ClientConnection::new(trusting, "localhost".try_into().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (Stream::new(Socket::new(accepted).unwrap()), near, StreamOwned::new(far, client))
}

/// A connection with TLS; what the client does goes on in a thread of its own.
async fn secured(act: impl FnOnce(Client) + Send + 'static) -> Stream {
    let (mut stream, near, far) = pair();
    std::thread::spawn(move || act(far));
    stream.secure(near, &[]).await.unwrap();
    stream
}

/// Waits until something is so.
async fn until<T: 'static>(executor: &Executor<T>, mut is: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "it does not come to be so");
        executor.sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn bytes_go_both_ways_at_once_however_many_there_are() {
    run(async |executor| {
        executor.spawn(async {
            let bytes: Vec<u8> = (0..10_000_000_u32).map(|at| (at % 251) as u8).collect();
            let expected = bytes.clone();
            let (all_is_read, stays) = std::sync::mpsc::channel::<()>();
            let mut stream = secured(move |mut far| {
                let mut seen = vec![0; expected.len()];
                // Reads little by little, so that there is no room again and again.
                for (place, part) in seen.chunks_mut(50_000).enumerate() {
                    far.read_exact(part).unwrap();
                    far.write_all(&expected[place * 50_000..][..part.len()]).unwrap();
                    if place.is_multiple_of(20) {
                        // New keys in the middle of everything, in both directions.
                        far.conn.refresh_traffic_keys().unwrap();
                    }
                }
                assert!(seen == expected);
                // Not gone before the other side has read all: it may have an answer to new keys to write still.
                let _ = stays.recv();
            })
            .await;
            let (mut sent, mut seen) = (0, vec![0; bytes.len()]);
            let mut read = 0;
            std::future::poll_fn(|_| {
                while let Poll::Ready(done) = stream.poll_send(&bytes[sent..]) {
                    sent += done.unwrap();
                    if sent == bytes.len() {
                        break;
                    }
                }
                while read < seen.len() {
                    match stream.poll_recv(&mut seen[read..]) {
                        Poll::Ready(got) => read += got.unwrap(),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Poll::Ready(())
            })
            .await;
            assert!(seen == bytes);
            drop(all_is_read);
        });
        assert_eq!(executor.next_ended().await, Some(Ok(())));
    });
}

#[test]
fn what_is_decrypted_and_not_read_is_seen_by_all_who_look() {
    run::<(), _>(async |executor| {
        let (mut stream, near, mut far) = pair();
        let client = std::thread::spawn(move || {
            far.write_all(b"first and second").unwrap();
            far
        });
        stream.secure(near, &[]).await.unwrap();
        let far = client.join().unwrap();
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"first");
        // The socket has nothing more to say, and there are bytes all the same.
        assert!(stream.socket.is_quiet() && !stream.is_quiet() && stream.has_unread());
        assert!(stream.poll_closed().is_pending(), "one that has sent something is there");
        let mut rest = [0; 64];
        assert_eq!(stream.read(&mut rest).await.unwrap(), 11);
        assert!(stream.is_quiet() && stream.poll_closed().is_pending());
        drop(far);
        until(executor, || stream.poll_closed().is_ready()).await;
        assert!(!stream.is_quiet());
        assert_eq!(stream.read(&mut rest).await.unwrap(), 0);
        assert_eq!(stream.read(&mut rest).await.unwrap(), 0, "and again");
    });
}

#[test]
fn an_end_that_is_said_and_one_that_is_not_are_ends() {
    run::<(), _>(async |executor| {
        for says_so in [true, false] {
            let mut stream = secured(move |mut far| {
                far.write_all(b"last words").unwrap();
                if says_so {
                    far.conn.send_close_notify();
                    far.flush().unwrap();
                    // It has said so, and stays connected.
                    std::thread::sleep(PATIENCE);
                } else {
                    far.sock.shutdown(Shutdown::Both).unwrap();
                }
            })
            .await;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"last words");
            until(executor, || stream.poll_closed().is_ready()).await;
        }
    });
}

#[test]
fn a_stream_goes_on_in_another_loop_with_what_it_holds() {
    let (mut stream, mut far) = run::<(), _>(async |_| {
        let (mut stream, near, mut far) = pair();
        let client = std::thread::spawn(move || {
            far.write_all(b"one two ").unwrap();
            far
        });
        stream.secure(near, &[]).await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        (stream, client.join().unwrap())
    });
    run::<(), _>(async |_| {
        stream.move_here().unwrap();
        far.write_all(b"three").unwrap();
        let mut bytes = [0; 9];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"two three");
        stream.write_all(b"four").await.unwrap();
        drop(stream);
        let mut rest = Vec::new();
        // An end that was not said would be an error.
        far.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"four");
    });
}

#[test]
fn a_first_message_that_was_read_in_part_is_part_of_the_handshake() {
    run::<(), _>(async |_| {
        let (mut stream, near, mut far) = pair();
        let client = std::thread::spawn(move || far.write_all(b"in").map(|()| far));
        let mut first = [0; 4];
        stream.read_exact(&mut first).await.unwrap();
        stream.secure(near, &first).await.unwrap();
        let mut bytes = [0; 2];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"in");
        client.join().unwrap().unwrap();
    });
}

#[test]
fn what_is_no_record_ends_the_connection() {
    run::<(), _>(async |_| {
        for garbage in [
            &b"GET / HTTP/1.1\r\n"[..],
            &[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
        ] {
            let mut stream = secured(move |mut far| {
                // Not before hands are shaken, which it would spoil.
                far.read_exact(&mut [0]).unwrap();
                far.sock.write_all(garbage).unwrap();
                // The alert that says so.
                let _ = far.read(&mut [0; 16]);
            })
            .await;
            stream.write_all(b"x").await.unwrap();
            let error = stream.read(&mut [0; 16]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(stream.poll_closed().is_ready(), "it stays so");
        }
        let (mut stream, near, mut far) = pair();
        far.sock.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").unwrap();
        assert!(stream.secure(near, &[]).await.is_err(), "a startup packet is no handshake");
    });
}
