//! Sessions go from thread to thread as their load needs it, and nobody notices.

use std::time::Duration;

use pgherd_testkit::client::{RawClient, frontend};
use pgherd_testkit::{Result, ensure};
use tokio::task::JoinSet;

use crate::front::{Front, bind, extended, messages};

/// More than one thread is given before it has said how busy it is.
const CLIENTS: usize = 100;

#[tokio::test]
async fn sessions_that_go_to_another_thread_go_on_where_they_were() -> Result<()> {
    let front =
        Front::with(|pgherd| pgherd.set("runtime.workers", 2).set("pool.size", 8).set("log.level", "debug"))
            .await?;
    let address = front.pgherd.address();
    let mut sockets = Vec::new();
    for _ in 0..CLIENTS {
        sockets.push(RawClient::connect(address).await?);
    }
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
        let again = messages(|out| {
            bind("s", &[&asked], out)?;
            frontend::execute("", 0, out)?;
            frontend::sync(out);
            Ok(())
        })?;
        client.send(&[&extended("", "SELECT $1::int", &[&asked])?[..], &again].concat()).await?;
        let (first, second) = (client.read_answer().await?.rows(), client.read_answer().await?.rows());
        ensure!(first == [[Some(asked.into())]], "{number}: {first:?}");
        ensure!(second == [[Some((number + round).to_string().into())]], "{number}: {second:?}");
    }
    Ok(())
}
