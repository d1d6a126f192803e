//! A server whose WAL back to the fork is gone.

use anyhow::{Result, ensure};
use pgherd_failover::{Outcome, Step};
use pgherd_testkit::Server;

use crate::herd::{Herd, id, rejoin, streams_to};

/// Has it go on to another WAL file, and gives the name of the present one.
async fn next_wal_file(server: &Server, table: &str) -> Result<String> {
    server.query(&format!("CREATE TABLE {table} AS SELECT generate_series(1, 1000)")).await?;
    server.query("SELECT pg_switch_wal()").await?;
    server.query("CHECKPOINT").await?;
    server.scalar("SELECT pg_walfile_name(pg_current_wal_lsn())").await
}

fn remove_wal_before(server: &Server, file: &str) -> Result<()> {
    for entry in std::fs::read_dir(server.data_directory().join("pg_wal"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() == file.len() && *name < *file {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_cannot_be_rewound_says_so_and_is_cloned() -> Result<()> {
    let herd = Herd::of(2).await?;
    let (old, new) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    next_wal_file(&old, "kept").await?;
    streams_to(&old, &new).await?;
    herd.freeze(&new).await?;
    new.query("SELECT pg_promote()").await?;
    new.query_in("repmgr", "UPDATE repmgr.nodes SET active = node_id = 2, type = 'primary'").await?;
    ensure!(herd.take(&new, Step::VerifyWrite).await == Outcome::Done);
    ensure!(herd.take(&new, Step::Checkpoint).await == Outcome::Done);
    next_wal_file(&old, "lost").await?;
    let last = next_wal_file(&old, "lost_too").await?;
    ensure!(herd.take(&old, Step::Fence).await == Outcome::Fenced { stopped: true });
    remove_wal_before(&old, &last)?;
    let upstream = id(&new);
    let outcome = herd.take(&old, rejoin(&new)).await;
    let told = |why: &str| why.contains("could not find previous WAL record");
    ensure!(matches!(&outcome, Outcome::NotRewindable(why) if told(why)), "{outcome:?}");
    ensure!(herd.take(&old, Step::Clone { upstream }).await == Outcome::Done);
    streams_to(&new, &old).await?;
    ensure!(old.scalar("SELECT to_regclass('lost') IS NULL").await? == "t", "it is a copy");
    let row = "SELECT concat_ws(' ', type, active, upstream_node_id) FROM repmgr.nodes WHERE node_id = 1";
    let rows = new.query_in("repmgr", row).await?;
    ensure!(rows.first().and_then(|row| row.get(0)) == Some("standby t 2"), "{rows:?}");
    Ok(())
}
