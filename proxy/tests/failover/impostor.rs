//! An empty server of another cluster in the place of one that is known: its volume was lost, and a new one was made.

use pgherd_testkit::{Cluster, Result, Server, ensure};

use crate::herd::{Herd, PATIENCE};

/// A server of another cluster, with nothing in it.
async fn empty() -> Result<Cluster> {
    Cluster::builder().servers(1).template_cache(false).start().await
}

/// Nobody has made a table there.
async fn is_untouched(server: &Server) -> Result<bool> {
    let tables = server.query_in("app", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await?;
    Ok(tables.first().and_then(|row| row.get(0)) == Some("0"))
}

#[tokio::test]
async fn an_empty_server_in_the_place_of_a_standby_is_never_admitted() -> Result<()> {
    let herd = Herd::start().await?;
    let three = herd.cluster.server(3)?;
    let empty = empty().await?;
    three.stop_clean().await?;
    three.become_copy_of(&empty.server(1)?).await?;
    three.start().await?;
    herd.pgherd.wait_log("belongs to another cluster", PATIENCE).await?;
    herd.wait_readable("1").await?;
    herd.wait_writable().await?;
    ensure!(is_untouched(&three).await? && herd.cluster.server(1)?.timeline().await? == 1);
    Ok(())
}
