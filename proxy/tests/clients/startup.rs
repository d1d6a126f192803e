//! The first bytes of a connection.

use pgherd_testkit::client::{RawClient, frontend, startup_packet};
use pgherd_testkit::{Context, Result, ensure, eventually};

use crate::front::{Front, PATIENCE, comparable, messages};

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
                let answer = without_place(&client.read_bytes_to_end().await?);
                // Which minor versions there are is the one thing that differs between PostgreSQL's own versions.
                Ok(answer.replace("3.0 to 3.0", "3.0 to 3.2"))
            })
            .await?;
        eprintln!("{what}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn unknown_extensions_are_told_of_as_postgresql_does() -> Result<()> {
    let front = Front::start().await?;
    let first = front
        .same("NegotiateProtocolVersion", async |address| {
            let mut client = RawClient::connect(address).await?;
            client.send(&packet(3, 0, b"user\0app\0database\0app\0_pq_.colour\0blue\0\0")).await?;
            Ok(comparable(&[client.expect_frame().await?]))
        })
        .await?;
    ensure!(first.first().is_some_and(|frame| frame.starts_with('v')), "{first:?}");
    Ok(())
}

/// A client, the version that was negotiated, if any was, and the cancel key.
type Versed = (RawClient, Negotiated, Vec<u8>);

type Negotiated = Option<[u8; 4]>;

/// Logs in with this minor version.
async fn log_in(front: &Front, minor: u16, more: &[u8]) -> Result<Versed> {
    let mut client = RawClient::connect(front.pgherd.address()).await?;
    let parameters = [&b"user\0app\0database\0app\0"[..], more, b"\0"].concat();
    client.send(&packet(3, minor, &parameters)).await?;
    let frames = client.authenticate("app", front.password("app")).await?;
    let negotiated =
        frames.iter().find(|frame| frame.tag == b'v').and_then(|frame| frame.payload.first_chunk());
    let key = frames.iter().find(|frame| frame.tag == b'K').context("no BackendKeyData")?;
    Ok((client, negotiated.copied(), key.payload.to_vec()))
}

#[tokio::test]
async fn protocol_3_2_is_spoken_with_those_who_ask_for_it_and_its_long_keys_cancel() -> Result<()> {
    let front = Front::start().await?;
    // As PostgreSQL 18 does, which the tests need not have: what is newer is brought down to 3.2, 3.1 has never been released.
    let grease = b"_pq_.test_protocol_negotiation\0\0";
    let cases: [(u16, &[u8], Negotiated, usize); 6] = [
        (0, b"", None, 4),
        (1, b"", None, 4),
        (2, b"", None, 32),
        (9999, grease, Some([0, 3, 0, 2]), 32),
        (2, grease, Some([0, 3, 0, 2]), 32),
        (0, grease, Some([0, 3, 0, 0]), 4),
    ];
    for (minor, more, negotiated, secret) in cases {
        let (mut client, seen, key) = log_in(&front, minor, more).await?;
        ensure!((seen, key.len()) == (negotiated, 4 + secret), "3.{minor}: {seen:?}, {} bytes", key.len());
        // Another length is another key.
        for wrong in [&key[..key.len() - 1], &[&key[..], &[0]].concat(), &[&key[..], &[0; 300]].concat()] {
            let mut request = RawClient::connect(front.pgherd.address()).await?;
            request.send(&packet(1234, 5678, wrong)).await?;
            ensure!(request.read_to_end().await?.is_empty());
        }
        ensure!(client.query("SELECT 1").await?.error().is_none());
        client.send(&messages(|out| frontend::query("SELECT pg_sleep(60)", out))?).await?;
        eventually("the query runs", PATIENCE, || async {
            let sql =
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'";
            Ok((front.server()?.scalar(sql).await? == "1").then_some(()))
        })
        .await?;
        let mut request = RawClient::connect(front.pgherd.address()).await?;
        request.send(&packet(1234, 5678, &key)).await?;
        let answer = client.read_answer().await?;
        ensure!(answer.error().is_some_and(|error| error.code() == "57014"), "{answer:?}");
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
