//! An old primary that cannot be rewound.

use std::io::Write;
use std::process::{Command, Stdio};

use pgherd_testkit::{Cluster, Context, Result, Server, ensure};

use crate::herd::{Herd, PATIENCE};

/// Writes as a server does that runs alone, goes on to another WAL file, and loses those before it.
fn diverge_and_lose_wal(server: &Server, programs: &std::path::Path) -> Result<()> {
    let data = server.data_directory();
    let as_postgres = |program: &str| {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(programs.join(program)).env("LC_ALL", "C");
        command
    };
    let mut alone = as_postgres("postgres")
        .args(["--single", "-D"])
        .arg(&data)
        .arg("postgres")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let statements =
        "CREATE TABLE lost (n int)\nSELECT pg_switch_wal()\nCREATE TABLE lost_too (n int)\nCHECKPOINT\n";
    alone.stdin.take().context("no input")?.write_all(statements.as_bytes())?;
    ensure!(alone.wait()?.success(), "the server did not run alone");
    let control = as_postgres("pg_controldata").arg("-D").arg(&data).output()?;
    let control = String::from_utf8(control.stdout)?;
    let line = control.lines().find(|line| line.contains("REDO WAL file:")).context("no WAL file")?;
    let last = line.rsplit(' ').next().unwrap_or_default();
    for entry in std::fs::read_dir(data.join("pg_wal"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() == last.len() && *name < *last {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_old_primary_that_cannot_be_rewound_is_cloned_where_that_is_allowed() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let programs = cluster.repmgr_program()?.parent().context("a directory")?.to_owned();
    let herd = Herd::of(cluster, |pgherd| {
        pgherd.set("failover.reclone", true).set("failover.max_data_loss", "1GiB")
    })
    .await?;
    let old = herd.cluster.server(1)?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    old.kill9_all().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    let new = herd.cluster.primary().await?;
    diverge_and_lose_wal(&old, &programs)?;
    old.start().await?;
    herd.pgherd.wait_log("server cannot be rewound", PATIENCE).await?;
    herd.wait_all_led_by(&new).await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    ensure!(old.scalar("SELECT to_regclass('lost') IS NULL").await? == "t", "it is a copy");
    Ok(())
}
