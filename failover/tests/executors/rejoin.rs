//! A rejoin that goes on where an earlier one was interrupted.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, bail, ensure};
use pgherd_failover::{Outcome, Step};
use pgherd_testkit::{Server, eventually};

use crate::herd::{Herd, PATIENCE, id, rejoin, streams_to};

/// Another server is promoted, and the old primary shut down after it has written something of its own.
async fn forked() -> Result<(Herd, Server, Server)> {
    let herd = Herd::of(2).await?;
    let (old, new) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    herd.freeze(&new).await?;
    new.query("SELECT pg_promote()").await?;
    new.query_in("repmgr", "UPDATE repmgr.nodes SET active = node_id = 2, type = 'primary'").await?;
    ensure!(herd.take(&new, Step::VerifyWrite).await == Outcome::Done);
    ensure!(herd.take(&new, Step::Checkpoint).await == Outcome::Done);
    old.query("CREATE TABLE lost AS SELECT generate_series(1, 1000)").await?;
    old.stop_clean().await?;
    Ok((herd, old, new))
}

/// As repmgr has it done in a rejoin; whether it came to its end.
async fn rewind(herd: &Herd, old: &Server, new: &Server) -> Result<bool> {
    let programs = herd.cluster.repmgr_program()?;
    let programs = programs.parent().context("a directory")?;
    let command = format!(
        "{}/pg_rewind -D {} --source-server='host={} port={} user=repmgr dbname=repmgr'",
        programs.display(),
        old.data_directory().display(),
        new.address(),
        new.port()
    );
    let output = old.ssh(&command).await?;
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.status.success())
}

#[tokio::test]
async fn a_rejoin_that_was_interrupted_behind_the_rewind_goes_on_there() -> Result<()> {
    let (herd, old, new) = forked().await?;
    let signal = old.data_directory().join("standby.signal");
    ensure!(rewind(&herd, &old, &new).await? && !signal.exists());
    ensure!(herd.take(&old, rejoin(&new)).await == Outcome::Done);
    streams_to(&new, &old).await?;
    ensure!(old.scalar("SELECT to_regclass('lost') IS NULL").await? == "t", "it was rewound");
    // The next ones are interrupted when the server has been started.
    for cleanly in [false, true] {
        new.query("CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t SELECT generate_series(1, 1000)")
            .await?;
        if cleanly {
            old.stop_clean().await?;
        } else {
            old.kill9_all().await?;
        }
        ensure!(signal.exists());
        ensure!(herd.take(&old, rejoin(&new)).await == Outcome::Done);
        streams_to(&new, &old).await?;
    }
    ensure!(old.is_in_recovery().await? && new.timeline().await? == 2);
    Ok(())
}

/// True if repmgr is at it there.
fn is_being_rejoined(herd: &Herd, server: &Server) -> Result<bool> {
    let configuration = herd.cluster.repmgr_conf_pattern().replace("{host}", &server.address().to_string());
    for process in std::fs::read_dir("/proc")? {
        let line = std::fs::read(process?.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        if words.contains(&configuration.as_bytes()) && words.contains(&b"rejoin".as_slice()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test]
async fn a_rejoin_that_nobody_waits_for_any_more_comes_to_its_end() -> Result<()> {
    let (herd, old, new) = forked().await?;
    let rejoin = rejoin(&new);
    tokio::select! {
        outcome = herd.take(&old, rejoin) => bail!("{outcome:?}"),
        begun = eventually("repmgr is at it", PATIENCE, || async { Ok(is_being_rejoined(&herd, &old)?.then_some(())) }) => begun?,
    }
    let Herd { cluster: _cluster, executor, .. } = herd;
    drop(executor);
    streams_to(&new, &old).await?;
    ensure!(old.scalar("SELECT to_regclass('lost') IS NULL").await? == "t", "it was rewound");
    Ok(())
}

#[tokio::test]
async fn a_server_in_which_a_rewind_was_interrupted_is_not_rewound_again_but_cloned() -> Result<()> {
    let (herd, old, new) = forked().await?;
    // One of the last files that a rewind copies; PostgreSQL's own is written by its user alone.
    let last = old.data_directory().join("pg_xact/0000");
    std::fs::set_permissions(&last, Permissions::from_mode(0o400))?;
    ensure!(!rewind(&herd, &old, &new).await?);
    std::fs::set_permissions(&last, Permissions::from_mode(0o600))?;
    let upstream = id(&new);
    let outcome = herd.take(&old, rejoin(&new)).await;
    let told = |why: &str| why.contains("as by a rewind that was interrupted");
    ensure!(matches!(&outcome, Outcome::NotRewindable(why) if told(why)), "{outcome:?}");
    ensure!(herd.take(&old, Step::Clone { upstream }).await == Outcome::Done);
    streams_to(&new, &old).await?;
    ensure!(old.scalar("SELECT to_regclass('lost') IS NULL").await? == "t", "it is a copy");
    Ok(())
}

#[tokio::test]
async fn a_server_that_cannot_be_recovered_says_first_what_its_state_is() -> Result<()> {
    let (herd, old, new) = forked().await?;
    old.start().await?;
    old.kill9_all().await?;
    let configuration = old.data_directory().join("postgresql.auto.conf");
    let before = std::fs::read_to_string(&configuration)?;
    std::fs::write(&configuration, format!("{before}shared_buffers = 'nonsense'\n"))?;
    let outcome = herd.take(&old, rejoin(&new)).await;
    let told = |why: &str| {
        why.starts_with("exit status 4: it could not be recovered, its state is in production: ")
            && why.contains("shared_buffers")
    };
    ensure!(matches!(&outcome, Outcome::Unknown(why) if told(why)), "{outcome:?}");
    Ok(())
}
