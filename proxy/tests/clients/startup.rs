//! The first bytes of a connection.

use pgherd_testkit::client::{RawClient, startup_packet};
use pgherd_testkit::{Result, ensure};

use crate::front::{Front, comparable};

/// A packet of this protocol version.
fn packet(major: u16, minor: u16, parameters: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + parameters.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &major.to_be_bytes(), &minor.to_be_bytes(), parameters].concat()
}

/// The fields of an ErrorResponse without PostgreSQL's file, line and routine; other bytes as they are.
fn without_place(bytes: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match bytes {
        [b'E', 0, _, _, _, fields @ ..] => {
            let fields = fields.split(|byte| *byte == 0).map(text);
            fields.filter(|field| !field.starts_with(['F', 'L', 'R'])).collect::<Vec<_>>().join(" ")
        }
        _ => text(bytes),
    }
}

#[tokio::test]
async fn a_startup_packet_in_single_bytes_logs_in() -> Result<()> {
    let front = Front::start().await?;
    let welcome = async |address| {
        let mut client = RawClient::connect(address).await?;
        client.send_bytewise(&startup_packet("app", "app")?).await?;
        let frames = client.authenticate("app", front.password("app")).await?;
        let mut seen = comparable(&frames);
        // PostgreSQL tells the parameters in no particular order.
        seen.sort();
        Ok(seen)
    };
    let seen = front.same("login", welcome).await?;
    ensure!(seen.iter().any(|line| line.starts_with("S ") && line.contains("server_version")), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_startup_packet_is_answered_as_postgresql_does() -> Result<()> {
    let front = Front::start().await?;
    let user = b"user\0app\0database\0app\0\0";
    let cases: [(&str, Vec<u8>); 13] = [
        ("protocol 2.0", packet(2, 0, user)),
        ("protocol 4.0", packet(4, 0, user)),
        ("protocol 1234.5678 too long", packet(1234, 5678, b"123456789")),
        ("protocol 1234.5681", packet(1234, 5681, b"")),
        ("no user", packet(3, 0, b"database\0app\0\0")),
        ("empty user", packet(3, 0, b"user\0\0\0")),
        ("no terminator", packet(3, 0, b"user\0app\0")),
        ("a name without a value", packet(3, 0, b"user\0app\0database\0")),
        ("bytes behind the terminator", packet(3, 0, b"user\0app\0\0x\0")),
        ("length 0", 0_u32.to_be_bytes().to_vec()),
        ("length 7", 7_u32.to_be_bytes().to_vec()),
        ("length 10005", [&10_005_u32.to_be_bytes()[..], &[0; 64]].concat()),
        ("a request of HTTP", b"GET / HTTP/1.1\r\nHost: pgherd\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in cases {
        let answer = front
            .same(what, async |address| {
                let mut client = RawClient::connect(address).await?;
                client.send(&bytes).await?;
                // What was not read is a reset of the connection.
                Ok(without_place(&client.read_bytes_to_end().await?))
            })
            .await?;
        eprintln!("{what}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_newer_minor_version_and_unknown_extensions_are_negotiated() -> Result<()> {
    let front = Front::start().await?;
    for (minor, parameters) in
        [(2, &b"user\0app\0database\0app\0\0"[..]), (0, b"user\0app\0database\0app\0_pq_.colour\0blue\0\0")]
    {
        let first = front
            .same("NegotiateProtocolVersion", async |address| {
                let mut client = RawClient::connect(address).await?;
                client.send(&packet(3, minor, parameters)).await?;
                Ok(comparable(&[client.expect_frame().await?]))
            })
            .await?;
        ensure!(first.first().is_some_and(|frame| frame.starts_with('v')), "{first:?}");
    }
    Ok(())
}

#[tokio::test]
async fn encryption_is_declined_with_one_byte_and_the_login_goes_on() -> Result<()> {
    let front = Front::start().await?;
    for requests in [&[5679_u16][..], &[5680], &[5679, 5680], &[5680, 5679]] {
        let mut client = RawClient::connect(front.pgherd.address()).await?;
        for code in requests {
            client.send(&packet(1234, *code, b"")).await?;
            ensure!(client.read_byte().await? == Some(b'N'), "{code}");
        }
        client.start("app", "app", front.password("app")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_is_closed_after_the_login_timeout() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.client_login_timeout", "500ms")).await?;
    for said in [&b""[..], &startup_packet("app", "app")?[..10], &startup_packet("app", "app")?] {
        let mut client = RawClient::connect(front.pgherd.address()).await?;
        client.send(said).await?;
        let frames = client.read_to_end().await?;
        ensure!(frames.iter().all(|frame| frame.tag == b'R'), "{frames:?}");
    }
    Ok(())
}
