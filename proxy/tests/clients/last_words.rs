//! What a server says last, behind its answer to something of pgherd's own.

use std::io;
use std::net::SocketAddr;

use pgherd_testkit::client::RawClient;
use pgherd_testkit::{Cluster, Pgherd, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::front::PATIENCE;

/// A part of what pgherd asks when a session may have left something.
const QUESTION: &[u8] = b"pg_listening_channels";
const READY: &[u8] = b"Z\0\0\0\x05I";

/// What PostgreSQL says when it is stopped.
fn last_words() -> Vec<u8> {
    let fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0";
    let len = u32::try_from(fields.len() + 4).unwrap_or_default();
    [b"E", &len.to_be_bytes()[..], fields].concat()
}

/// Stands before a server; as long as `opens` says so, it takes connections, and keeps those that it has.
async fn stand_before(server: SocketAddr, at: SocketAddr, opens: watch::Sender<bool>) -> io::Result<()> {
    let mut open = opens.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let _ = open.wait_for(|open| *open).await;
        let listener = TcpListener::bind(at).await?;
        loop {
            tokio::select! {
                accepted = listener.accept() => drop(connections.spawn(pass(accepted?.0, (server, at), opens.clone()))),
                () = async { drop(open.wait_for(|open| !*open).await) } => break,
            }
        }
    }
}

/// Passes on what both sides say. Behind the answer to the first question, in one piece with it, it says what a server says that is stopped, when
/// nobody can connect any more.
async fn pass(
    mut client: TcpStream,
    (server, at): (SocketAddr, SocketAddr),
    opens: watch::Sender<bool>,
) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    let (mut is_asked, mut answer) = (false, Vec::new());
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let said = up.get(..read?).unwrap_or_default();
                if said.is_empty() {
                    return Ok(());
                }
                is_asked |= said.windows(QUESTION.len()).any(|part| part == QUESTION);
                server.write_all(said).await?;
            }
            read = server.read(&mut down) => {
                let said = down.get(..read?).unwrap_or_default();
                answer.extend_from_slice(said);
                let ends = is_asked && answer.ends_with(READY);
                if ends {
                    opens.send_replace(false);
                    while TcpStream::connect(at).await.is_ok() {
                        tokio::task::yield_now().await;
                    }
                    answer.extend(last_words());
                }
                if ends || !is_asked {
                    client.write_all(&answer).await?;
                    answer.clear();
                }
                if ends || said.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}

#[tokio::test]
async fn what_a_server_says_behind_an_answer_to_pgherd_is_not_taken_for_the_next_ones_words() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.server(1)?;
    let port = TcpListener::bind((server.address(), 0)).await?.local_addr()?.port();
    let at = SocketAddr::from((server.address(), port));
    let opens = watch::Sender::new(true);
    let relay =
        tokio::spawn(stand_before(SocketAddr::from((server.address(), server.port())), at, opens.clone()));
    let pgherd = Pgherd::builder(&cluster)
        .set("backends.nodes", vec![format!("0:{}:{port}", server.address())])
        .set("log.level", "debug")
        .start()
        .await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    let password = cluster.credentials().password("app");
    let mut client = RawClient::login(pgherd.address(), "app", "app", password).await?;
    // It leaves nothing; but that is for the server to tell.
    let answer = client.query("SELECT pg_advisory_lock(1), pg_advisory_unlock(1)").await?;
    ensure!(answer.error().is_none(), "{answer:?}");
    pgherd.wait_log("a server connection was lost in use", PATIENCE).await?;
    pgherd.wait_log("node 0 refuses connections", PATIENCE).await?;
    opens.send_replace(true);
    let answer = client.query("SELECT 'mine'").await?;
    ensure!(answer.rows() == [[Some("mine".into())]], "{answer:?}");
    relay.abort();
    Ok(())
}
