//! Where servers stand, as repmgr's rows say it.

use pgherd_testkit::{Cluster, Result, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

#[tokio::test]
async fn the_standby_at_the_same_location_is_read_and_another_when_it_is_lost() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    cluster
        .server(1)?
        .query_in("repmgr", "UPDATE repmgr.nodes SET location = 'near' WHERE node_id = 2")
        .await?;
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
                let read = "/* pgherd: standby */ SELECT host(inet_server_addr())";
                let found: Option<String> = session.query_typed_one(read, &[]).await?.get(0);
                ensure!(found.as_ref() == Some(&expected), "{found:?}");
            }
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}
