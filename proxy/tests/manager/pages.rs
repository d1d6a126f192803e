//! Many pages, pages that do not read, and pages that are none.

use std::time::{Duration, Instant};

use pgherd_testkit::{Context, Result, bail, ensure, eventually};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::herd::Herd;
use crate::live::Live;
use crate::schema::Schema;
use crate::web::{API, PATIENCE, Web, all, read};

/// Pages that may be open, and the memory that they may take, in KiB.
const MOST: usize = 512;
const MEMORY: u64 = 20_000;
/// Pages that do not read.
const SILENT: usize = 50;

#[tokio::test]
async fn a_page_is_told_all_at_once_and_then_what_changes() -> Result<()> {
    let herd = Herd::start(1).await?;
    let operator = herd.operator().await?;
    let schema = Schema(operator.see("openapi.json").await?);
    let mut page = Live::of(&operator).await?;
    schema.is_a("Herd", &page.next("herd").await?)?;
    for event in all(&page.next("events").await?) {
        schema.is_a("Event", event)?;
    }
    for failover in all(&page.next("failovers").await?) {
        schema.is_a("Failover", failover)?;
    }
    schema.is_a("Point", &page.next("point").await?)?;
    // What the page says is not listened to.
    page.say(Message::text("{\"action\":\"reload\"}")).await?;
    page.say(Message::binary(vec![0, 159, 146, 150])).await?;
    page.say(Message::Ping(vec![1].into())).await?;
    operator.order(json!({ "action": "detach", "node": 0 })).await.err().context("it is the primary")?;
    schema.is_a("Order", &page.next("order").await?)?;
    let ended = loop {
        let events = page.next("events").await?;
        if events[0]["details"] != "under way" {
            break events[0].clone();
        }
    };
    ensure!(ended["event"] == "operator_detach" && ended["successful"] == false, "{ended:#}");
    page.say(Message::Close(None)).await?;
    ensure!(page.closed().await?.is_none_or(|code| code == 1005 || code == 1000));
    garbage(&herd, &operator).await?;
    crowd(&herd, &operator).await?;
    herd.ensure_sound()
}

/// What an upgrade is, with the headers of whoever asks.
fn upgrade(web: &Web) -> String {
    format!(
        "GET {API}/live HTTP/1.1\r\nHost: {}\r\n{}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        web.address,
        web.head()
    )
}

/// Whatever comes in place of frames ends that page and no other.
async fn garbage(herd: &Herd, operator: &Web) -> Result<()> {
    let mut other = Live::of(operator).await?;
    let mut huge = Live::of(operator).await?;
    // It may be that not all of it is read.
    let _ = huge.say(Message::text("x".repeat(1 << 20))).await;
    ensure!(huge.closed().await?.is_none_or(|code| code != 4401));
    let before = herd.resident()?;
    let long = [0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    for bytes in [
        &[0xff; 64][..],
        &long,
        &[0x81, 0x05, b'h', b'e', b'l', b'l', b'o'],
        &[0x03, 0x80, 0, 0, 0, 0],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut wire = operator.connect().await?;
        wire.write_all(upgrade(operator).as_bytes()).await?;
        wire.write_all(bytes).await?;
        let mut said = Vec::new();
        let ended = timeout(Duration::from_secs(20), wire.read_to_end(&mut said)).await;
        ensure!(
            ended.is_ok() && said.starts_with(b"HTTP/1.1 101"),
            "{bytes:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }
    // Half an upgrade, and one that nobody waits for.
    let mut half = Vec::new();
    for number in 0..100 {
        let mut wire = operator.connect().await?;
        let text = upgrade(operator);
        let sent = if number % 2 == 0 { text.len() / 2 } else { text.len() };
        wire.write_all(text.as_bytes().get(..sent).unwrap_or_default()).await?;
        if number % 4 < 2 {
            half.push(wire);
        }
    }
    for line in [
        "Upgrade: websocket\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        let mut wire = operator.connect().await?;
        let text =
            upgrade(operator).replace(line, "").replace("Connection: Upgrade", "Connection: Upgrade, close");
        wire.write_all(text.as_bytes()).await?;
        let answer = read(&mut wire).await?;
        ensure!((400..500).contains(&answer.status), "{answer:?}");
        answer.error()?;
    }
    other.next("herd").await?;
    let grown = herd.resident()?.saturating_sub(before);
    ensure!(grown < 50_000, "{grown} KiB more");
    Ok(())
}

/// So many pages are served, and all others are told why not; when some are closed others can be opened.
async fn crowd(herd: &Herd, operator: &Web) -> Result<()> {
    let before = herd.resident()?;
    let opened = async || {
        let mut pages = Vec::new();
        let mut refused = 0;
        for _ in 0..600 / 20 {
            let opened = futures_util::future::try_join_all((0..20).map(|_| Live::open(operator))).await?;
            for page in opened {
                match page {
                    Ok(page) => pages.push(page),
                    Err(503) => refused += 1,
                    Err(status) => bail!("{status}"),
                }
            }
        }
        Ok::<_, pgherd_testkit::Error>((pages, refused))
    };
    let (mut pages, refused) = eventually("all places are taken", PATIENCE, || async {
        // Those of before may not be gone yet.
        let (pages, refused) = opened().await?;
        Ok((pages.len() == MOST).then_some((pages, refused)))
    })
    .await?;
    ensure!(refused == 600 - MOST, "{refused}");
    let why = operator.clone().with("Connection", "Upgrade").with("Upgrade", "websocket");
    let why = why.with("Sec-WebSocket-Version", "13").with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut wire = operator.connect().await?;
    wire.write_all(
        format!("GET {API}/live HTTP/1.1\r\nHost: {}\r\n{}\r\n", why.address, why.head()).as_bytes(),
    )
    .await?;
    let mut said = vec![0; 4096];
    let count = wire.read(&mut said).await?;
    let said = String::from_utf8_lossy(said.get(..count).unwrap_or_default()).into_owned();
    ensure!(said.starts_with("HTTP/1.1 503") && said.contains("pages are open already"), "{said}");
    let (first, last) = (&mut pages[0], MOST - 1);
    first.next("herd").await?;
    pages[last].next("failovers").await?;
    let grown = herd.resident()?.saturating_sub(before);
    eprintln!("{MOST} pages: {grown} KiB");
    ensure!(grown < MEMORY, "{grown} KiB");
    ensure!(operator.get("/healthz").await?.status == 200);
    pages.truncate(100);
    eventually("there is room again", PATIENCE, || async { Ok(Live::open(operator).await?.ok()) }).await?;
    Ok(())
}

#[tokio::test]
async fn a_page_that_does_not_read_is_given_up_and_holds_nobody_up() -> Result<()> {
    let herd = Herd::start(1).await?;
    let operator = herd.operator().await?;
    // Frames that are long.
    let unknown = json!({ "action": "set", "key": "k".repeat(5_000) });
    for _ in 0..50 {
        let why = operator.fails(unknown.clone()).await?;
        ensure!(why.len() == 2_000, "what is told is cut: {why}");
    }
    let mut reads = Live::of(&operator).await?;
    let before = herd.resident()?;
    let descriptors = herd.descriptors()?;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        let mut stream = socket.connect(operator.address).await?;
        stream.write_all(upgrade(&operator).as_bytes()).await?;
        silent.push(stream);
    }
    eventually("they are open", PATIENCE, || async {
        Ok((herd.descriptors()? >= descriptors + SILENT).then_some(()))
    })
    .await?;
    let began = Instant::now();
    let mut most = 0;
    // Each order is an event for all pages: more and more of them, until the sockets are full.
    while herd.descriptors()? >= descriptors + SILENT {
        ensure!(began.elapsed() < PATIENCE, "they are there still");
        operator.order(json!({ "action": "reload" })).await?;
        let told = timeout(Duration::from_secs(2), reads.next("events")).await;
        told.context("who reads is told at once")??;
        most = most.max(herd.resident()?.saturating_sub(before));
    }
    eprintln!("{SILENT} pages that do not read: {most} KiB, given up after {:?}", began.elapsed());
    ensure!(most < 30_000, "{most} KiB");
    herd.ensure_sound()
}
