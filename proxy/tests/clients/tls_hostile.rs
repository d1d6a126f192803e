//! What a client, or somebody in its name, may try before and around a TLS handshake.

use std::sync::Arc;

use pgherd_testkit::client::{RawClient, startup_packet};
use pgherd_testkit::{Result, ensure};
use tokio::io::AsyncWriteExt as _;

use crate::front::{Front, PATIENCE};
use crate::tls::{Pki, SSL_REQUEST, front, secured};

/// GSSENCRequest.
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// A client that begins with TLS, without a request, and names these protocols.
async fn direct(front: &Front, pki: &Pki, protocols: &[&[u8]]) -> Result<RawClient> {
    let mut config = pki.authority.trusting(None)?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    RawClient::connect(front.pgherd.address()).await?.secure(config, "localhost").await
}

#[tokio::test]
async fn tls_without_a_request_is_for_those_who_name_the_protocol() -> Result<()> {
    let (front, pki) = front(|pgherd| pgherd).await?;
    let mut client = direct(&front, &pki, &[b"http/1.1", b"postgresql"]).await?;
    client.start("app", "app", front.password("app")).await?;
    ensure!(client.query("SELECT 1").await?.rows() == [[Some("1".into())]]);
    // Who names none is sent away without a word, and who names another by TLS itself.
    let mut client = direct(&front, &pki, &[]).await?;
    client.send(&startup_packet("app", "app")?).await.ok();
    let said = client.read_frame().await;
    ensure!(!matches!(said, Ok(Some(_))), "{said:?}");
    front.pgherd.wait_log("does not name the protocol", PATIENCE).await?;
    let refused = format!(
        "{:#}",
        direct(&front, &pki, &[b"http/1.1"]).await.err().unwrap_or_else(|| pgherd_testkit::anyhow!("in"))
    );
    ensure!(refused.contains("NoApplicationProtocol"), "{refused}");
    // After a request it is for the client to name one, but none may be another.
    let mut client = RawClient::connect(front.pgherd.address()).await?;
    client.send(&SSL_REQUEST).await?;
    client.read_byte().await?;
    let mut config = pki.authority.trusting(None)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    ensure!(client.secure(config, "localhost").await.is_err());
    Ok(())
}

#[tokio::test]
async fn what_stands_behind_a_request_in_the_clear_is_not_taken_for_the_clients() -> Result<()> {
    let (front, _) = front(|pgherd| pgherd).await?;
    let startup = startup_packet("app", "app")?;
    for (request, what) in [(SSL_REQUEST, "SSL"), (GSS_REQUEST, "GSSAPI encryption")] {
        for behind in [&startup[..], b"x", &[0x16, 3, 1, 0, 5]] {
            let mut client = RawClient::connect(front.pgherd.address()).await?;
            client.send(&[&request[..], behind].concat()).await?;
            let said = client.read_to_end().await?;
            let error = said.first().and_then(|frame| frame.error_fields());
            let expected = format!("FATAL 08P01: received unencrypted data after {what} request");
            ensure!(error.as_ref().is_some_and(|it| it.to_string() == expected), "{said:?}");
        }
    }
    // The end of the stream is nothing to be afraid of.
    let mut client = RawClient::connect(front.pgherd.address()).await?;
    client.send(&SSL_REQUEST).await?;
    client.finish().await?;
    ensure!(client.read_byte().await? == Some(b'S'));
    Ok(())
}

#[tokio::test]
async fn requests_for_encryption_within_tls_are_no_startup_packets() -> Result<()> {
    let (front, pki) = front(|pgherd| pgherd).await?;
    for (request, number) in [(SSL_REQUEST, 5679), (GSS_REQUEST, 5680)] {
        let mut client = secured(&front, &pki).await?;
        client.send(&request).await?;
        let said = client.read_to_end().await?;
        let error = said.first().and_then(|frame| frame.error_fields());
        let expected = format!("unsupported frontend protocol 1234.{number}");
        ensure!(error.is_some_and(|it| it.message().starts_with(&expected)), "{said:?}");
    }
    // Declined first, TLS may still be asked for.
    let mut client = RawClient::connect(front.pgherd.address()).await?;
    client.send(&GSS_REQUEST).await?;
    ensure!(client.read_byte().await? == Some(b'N'));
    client.send(&SSL_REQUEST).await?;
    ensure!(client.read_byte().await? == Some(b'S'));
    let mut client = client.secure(pki.authority.trusting(None)?, "localhost").await?;
    client.start("app", "app", front.password("app")).await?;
    Ok(())
}

#[tokio::test]
async fn handshakes_that_are_garbage_or_never_end_hold_nothing_up() -> Result<()> {
    let (front, pki) = front(|pgherd| pgherd.set("pool.client_login_timeout", "6s")).await?;
    let hello = client_hello(&pki)?;
    let mut waiting = Vec::new();
    // Cut anywhere, and then silence.
    for cut in [1, 4, 5, 6, 20, hello.len() / 2, hello.len() - 1] {
        let mut client = RawClient::connect(front.pgherd.address()).await?;
        client.send(&SSL_REQUEST).await?;
        ensure!(client.read_byte().await? == Some(b'S'));
        client.send(&hello[..cut]).await?;
        waiting.push(client);
        let mut client = RawClient::connect(front.pgherd.address()).await?;
        client.send(&hello[..cut]).await?;
        waiting.push(client);
    }
    // Records that promise more than there is, of a kind that is none, or of a message that never ends.
    let endless = [&[0x16, 3, 1, 0x40, 0][..], &[1, 0xff, 0xff, 0xff], &[0; 0x3ffc]].concat();
    for garbage in
        [&[0x16, 3, 1, 0xff, 0xff, 1, 2, 3][..], &[0xff; 64], &[0; 64], b"GET / HTTP/1.1\r\n\r\n", &endless]
    {
        let mut client = RawClient::connect(front.pgherd.address()).await?;
        client.send(&SSL_REQUEST).await?;
        ensure!(client.read_byte().await? == Some(b'S'));
        // It may be closed before all is sent.
        let _ = client.send(garbage).await;
        waiting.push(client);
    }
    // Meanwhile others come in.
    let mut client = secured(&front, &pki).await?;
    client.start("app", "app", front.password("app")).await?;
    for mut client in waiting {
        let said = client.read_bytes_to_end().await?;
        ensure!(said.len() < 1000, "no answer but an alert: {said:?}");
    }
    ensure!(client.query("SELECT 1").await?.error().is_none());
    // Bytes that are no record end a session, as if it were broken.
    drop(client);
    front.wait_all_idle(1).await
}

/// The first message of a handshake.
fn client_hello(pki: &Pki) -> Result<Vec<u8>> {
    let mut config = pki.authority.trusting(None)?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let mut connection = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into()?)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes)?;
    Ok(bytes)
}

#[tokio::test]
async fn a_client_that_vanishes_or_says_goodbye_leaves_nothing_behind() -> Result<()> {
    let (front, pki) = front(|pgherd| pgherd.set("pool.size", 1)).await?;
    let mut holder = secured(&front, &pki).await?;
    holder.start("app", "app", front.password("app")).await?;
    ensure!(holder.query("BEGIN").await?.error().is_none());
    // Who waits for the only connection and closes its own, by TLS's own word or without, waits no more.
    for polite in [true, false] {
        let mut waiter = secured(&front, &pki).await?;
        waiter.start("app", "app", front.password("app")).await?;
        waiter
            .send(&crate::front::messages(|out| pgherd_testkit::client::frontend::query("SELECT 1", out))?)
            .await?;
        if polite {
            waiter.finish().await?;
        }
        drop(waiter);
    }
    // Who runs a query and closes has it cancelled.
    ensure!(holder.query("COMMIT").await?.error().is_none());
    let mut runner = secured(&front, &pki).await?;
    runner.start("app", "app", front.password("app")).await?;
    let sleep =
        crate::front::messages(|out| pgherd_testkit::client::frontend::query("SELECT pg_sleep(600)", out))?;
    runner.send(&sleep).await?;
    runner.finish().await?;
    front.wait_all_idle(1).await?;
    ensure!(holder.query("SELECT 1").await?.error().is_none());
    Ok(())
}

#[tokio::test]
async fn the_last_words_come_through_and_the_end_is_said() -> Result<()> {
    let (front, pki) = front(|pgherd| pgherd).await?;
    let mut config = pki.authority.trusting(None)?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let stream = tokio::net::TcpStream::connect(front.pgherd.address()).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect("localhost".try_into()?, stream).await?;
    stream.write_all(&startup_packet("nobody", "app")?).await?;
    // A wrong password, in the end: reading is an error if the stream ends without TLS's own word.
    let mut client = RawClient::over(stream);
    let refused = client.authenticate("nobody", "wrong").await;
    ensure!(refused.is_err());
    ensure!(client.read_frame().await?.is_none(), "the end of the stream is said");
    Ok(())
}
