//! Where servers stand: as repmgr's rows say it, and as far away as they are.

use std::net::SocketAddr;
use std::time::Duration;

use pgherd_testkit::client::Session;
use pgherd_testkit::{Cluster, Pgherd, Result, Server, ensure, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::herd::{Herd, PATIENCE};

/// How far away the server behind [`far_away`] is, each way.
const FAR: Duration = Duration::from_millis(15);

/// Where the read runs.
const WHERE: &str = "/* pgherd: standby */ SELECT host(inet_server_addr())";

#[tokio::test]
async fn what_is_near_is_read_by_its_location_and_by_its_distance_and_another_when_it_is_lost() -> Result<()>
{
    let cluster = Cluster::builder().start().await?;
    what_is_far_is_hardly_read(&cluster).await?;
    let at_home = "UPDATE repmgr.nodes SET location = 'near' WHERE node_id = 2";
    cluster.server(1)?.query_in("repmgr", at_home).await?;
    let herd =
        Herd::of(cluster, |pgherd| pgherd.set("routing.reads", "standbys").set("routing.location", "near"))
            .await?;
    herd.wait_readable("1, 2").await?;
    let session = herd.connect().await?;
    for (id, lost) in [(2, None), (3, Some(2))] {
        if let Some(lost) = lost {
            herd.cluster.server(lost)?.kill9_all().await?;
        }
        let expected = herd.cluster.server(id)?.address().to_string();
        // Not before the database's catalogue was read, and the rows.
        eventually(format!("it reads from {expected}"), PATIENCE, || async {
            for _ in 0..20 {
                let found: Option<String> = session.query_typed_one(WHERE, &[]).await?.get(0);
                ensure!(found.as_ref() == Some(&expected), "{found:?}");
            }
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// The third server is found in `repmgr.nodes` at an address that is far away, for as long as this takes.
async fn what_is_far_is_hardly_read(cluster: &Cluster) -> Result<()> {
    let (primary, far) = (cluster.server(1)?, cluster.server(3)?);
    let port = far.port();
    let address = far_away(&far).await?;
    let moves = |from: u16, to: u16| {
        format!(
            "UPDATE repmgr.nodes SET conninfo = replace(conninfo, 'port={from}', 'port={to}') WHERE node_id = 3"
        )
    };
    primary.query_in("repmgr", &moves(port, address.port())).await?;
    let pgherd = Pgherd::builder(cluster)
        .set("backends.nodes", cluster.backend_nodes().into_iter().take(2).collect::<Vec<_>>())
        .set("backends.discover", "on")
        .start()
        .await?;
    pgherd.wait_log("readable=[1, 3]", PATIENCE).await?;
    let session = Session::connect(&pgherd.connection_string("app", "app")).await?;
    let near = cluster.server(2)?.address().to_string();
    // Not before the database's catalogue was read, and some probes have ended.
    eventually("it hardly reads there", PATIENCE, || async {
        let mut reads = 0;
        for _ in 0..100 {
            let host: Option<String> = session.query_typed_one(WHERE, &[]).await?.get(0);
            reads += usize::from(host.as_deref() == Some(&near));
        }
        Ok((reads > 96).then_some(()))
    })
    .await?;
    drop(pgherd);
    primary.query_in("repmgr", &moves(address.port(), port)).await?;
    Ok(())
}

/// Another address of the server's, which is far away.
async fn far_away(server: &Server) -> Result<SocketAddr> {
    let (listener, server) =
        (TcpListener::bind((server.address(), 0)).await?, (server.address(), server.port()));
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(far) = TcpStream::connect(server).await {
                    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                    tokio::join!(carry(from_near, to_far), carry(from_far, to_near));
                }
            });
        }
    });
    Ok(address)
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut bytes = [0; 16384];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        tokio::time::sleep(FAR).await;
        if to.write_all(bytes.get(..count).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}
