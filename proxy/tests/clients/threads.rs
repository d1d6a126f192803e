//! Sessions go from thread to thread as their load needs it, and nobody notices.

use std::sync::Arc;
use std::time::Duration;

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Result, ensure};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::front::{Front, execute, extended, messages};
use crate::tls::{self, Pki};

/// Far more than one thread is given before it has said how busy it is.
const CLIENTS: usize = 200;

/// A front with two threads and clients on both of them: they connect while pgherd is stopped, so that it finds all of
/// them at once and hands them out before a thread can say how busy it is. One thread would do, and gets them all.
async fn on_two_threads() -> Result<(Front, Arc<Pki>, Vec<RawClient>)> {
    let (front, pki) =
        tls::front(|pgherd| pgherd.set("runtime.workers", 2).set("pool.size", 8).set("log.level", "debug"))
            .await?;
    front.pgherd.send(Signal::STOP)?;
    let mut sockets = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        sockets.push(RawClient::connect(front.pgherd.address()).await?);
    }
    front.pgherd.send(Signal::CONT)?;
    Ok((front, Arc::new(pki), sockets))
}

#[tokio::test]
async fn sessions_that_go_to_another_thread_go_on_where_they_were() -> Result<()> {
    let (front, _, sockets) = on_two_threads().await?;
    let mut sessions = JoinSet::new();
    for (number, client) in sockets.into_iter().enumerate() {
        sessions.spawn(ask(client, number, front.password("app").to_owned()));
    }
    while let Some(asked) = sessions.join_next().await {
        asked??;
    }
    front.pgherd.wait_log("goes to another thread", Duration::from_secs(1)).await?;
    Ok(())
}

async fn ask(mut client: RawClient, number: usize, password: String) -> Result<()> {
    client.start("app", "app", &password).await?;
    // A statement of its own, under a name that all use.
    client.send(&extended("s", &format!("SELECT {number} + $1::int"), &["0"])?).await?;
    client.read_answer().await?;
    for round in 0..30 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let asked = round.to_string();
        let again = execute("s", &[&asked])?;
        client.send(&[&extended("", "SELECT $1::int", &[&asked])?[..], &again].concat()).await?;
        let (first, second) = (client.read_answer().await?.rows(), client.read_answer().await?.rows());
        ensure!(first == [[Some(asked.into())]], "{number}: {first:?}");
        ensure!(second == [[Some((number + round).to_string().into())]], "{number}: {second:?}");
    }
    Ok(())
}

#[tokio::test]
async fn sessions_travel_with_what_was_not_read_and_can_be_cancelled_wherever_they_are() -> Result<()> {
    let (front, pki, sockets) = on_two_threads().await?;
    let address = front.pgherd.address();
    let mut sessions = JoinSet::new();
    for (number, client) in sockets.into_iter().enumerate() {
        let (password, pki) = (front.password("app").to_owned(), Arc::clone(&pki));
        sessions.spawn(async move {
            // TLS goes with them: what was read is decrypted on one thread, and what follows on another.
            let client = if number % 4 == 0 { tls::secure(client, &pki).await? } else { client };
            ask_in_halves(client, number, password, address).await
        });
    }
    while let Some(asked) = sessions.join_next().await {
        asked??;
    }
    front.pgherd.wait_log("goes to another thread", Duration::from_secs(1)).await?;
    Ok(())
}

async fn ask_in_halves(
    mut client: RawClient,
    number: usize,
    password: String,
    address: std::net::SocketAddr,
) -> Result<()> {
    let greeting = client.start("app", "app", &password).await?;
    let key = greeting.iter().find(|frame| frame.tag == b'K').map(|frame| frame.payload.clone());
    let key = key.unwrap_or_default();
    let query = |text: String| messages(|out| frontend::query(&text, out));
    let mut left: Vec<u8> = Vec::new();
    for round in 0..30 {
        let long = round % 5 == 0;
        let text = if long {
            format!("SELECT {number}, repeat('y', 100000), '{}'", "x".repeat(40_000))
        } else {
            format!("SELECT {number}, {round}")
        };
        let next = query(text)?;
        let cut = (number * 7 + round * 3) % next.len();
        let (now, later) = next.split_at(cut);
        left.extend_from_slice(now);
        client.send(&left).await?;
        if round > 0 {
            let rows = client.read_answer().await?.rows();
            let first = rows.first().and_then(|row| row.first()).cloned().flatten();
            ensure!(first == Some(number.to_string().into()), "{number}, {round}: {first:?}");
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
        left = later.to_vec();
    }
    client.send(&left).await?;
    client.read_answer().await?;
    if number.is_multiple_of(10) {
        client.send(&query("SELECT pg_sleep(20)".to_owned())?).await?;
        let request = [&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &key].concat();
        let mut answer = std::pin::pin!(client.read_answer());
        let answer = loop {
            // One that comes before the statement is for nothing.
            let Ok(answer) = tokio::time::timeout(Duration::from_millis(500), answer.as_mut()).await else {
                RawClient::connect(address).await?.send(&request).await?;
                continue;
            };
            break answer?;
        };
        ensure!(answer.error().is_some_and(|error| error.code() == "57014"), "{number}: {answer:?}");
    }
    Ok(())
}
