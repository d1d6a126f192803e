//! What people look at and do on servers.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pgherd_failover::{
    Backup, BackupKind, Disk, ExecutorSettings, Job, Means, NodeCheck, Outcome, Program, RepmgrSettings,
    Step, Stored, Tool,
};
use pgherd_testkit::{Cluster, Server, eventually};
use tokio::sync::mpsc;

use crate::herd::{Herd, PATIENCE, executor, id, settings, streams_to};

fn job(server: &Server, tool: Tool) -> Job {
    Job { node: id(server), tool, primary: None, only_as_standby: None, was_standby: false }
}

/// How it ended, and what it said.
async fn used(herd: &Herd, job: Job) -> (Result<(), String>, Vec<String>) {
    let (sender, mut receiver) = mpsc::channel(1);
    let take = async {
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(line);
        }
        lines
    };
    let run = async {
        // It ends with the look.
        let sender = sender;
        herd.executor.tool(&job, &herd.rows, &sender).await
    };
    let (ended, lines) = tokio::join!(run, take);
    eprintln!("{} on {}: {ended:?}, {} lines, {:?}", job.tool, job.node, lines.len(), lines.first());
    (ended, lines)
}

async fn done(herd: &Herd, job: Job) -> Result<Vec<String>> {
    let (ended, lines) = used(herd, job).await;
    ended.map_err(anyhow::Error::msg)?;
    Ok(lines)
}

async fn refused(herd: &Herd, job: Job, words: &str) -> Result<()> {
    let (ended, _) = used(herd, job).await;
    ensure!(ended.as_ref().is_err_and(|why| why.contains(words) && !why.contains('\n')), "{ended:?}");
    Ok(())
}

/// A herd whose sessions find these programs before all others.
async fn with_programs(servers: u8, programs: &[(&str, &str)]) -> Result<Herd> {
    let cluster = Cluster::builder().servers(servers).start().await?;
    let programs: Vec<(&str, String)> =
        programs.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    let kit = kit(&cluster, &programs)?;
    herd_with_kit(cluster, kit)
}

fn herd_with_kit(cluster: Cluster, kit: PathBuf) -> Result<Herd> {
    let right = settings(&cluster)?;
    let repmgr = RepmgrSettings { pg_bindir: Some(kit.display().to_string()), ..right.repmgr.clone() };
    Herd::with(cluster, ExecutorSettings { repmgr, ..right })
}

/// A directory with these and PostgreSQL's programs.
fn kit(cluster: &Cluster, programs: &[(&str, String)]) -> Result<PathBuf> {
    let kit = cluster.directory().join("kit");
    std::fs::create_dir(&kit)?;
    for entry in std::fs::read_dir(cluster.repmgr_program()?.parent().context("a directory")?)? {
        let entry = entry?;
        symlink(entry.path(), kit.join(entry.file_name()))?;
    }
    for (name, text) in programs {
        std::fs::write(kit.join(name), text)?;
        std::fs::set_permissions(kit.join(name), Permissions::from_mode(0o755))?;
    }
    // PostgreSQL's user writes beside them.
    std::fs::set_permissions(&kit, Permissions::from_mode(0o777))?;
    Ok(kit)
}

#[tokio::test]
async fn looks_show_what_is_there_and_say_what_is_not() -> Result<()> {
    let herd = Herd::of(2).await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let disks = Disk::all(&done(&herd, job(&primary, Tool::Disks)).await?);
    let [disk] = disks.as_slice() else { bail!("{disks:?}") };
    ensure!(disk.what == Stored::Data && disk.path == primary.data_directory().display().to_string());
    ensure!(disk.used > 0 && disk.used + disk.available <= disk.size && disk.percent() > 0, "{disk:?}");

    let checks = NodeCheck::all(&done(&herd, job(&standby, Tool::RepmgrChecks)).await?);
    ensure!(checks.len() >= 8 && checks.iter().all(|it| it.ok && !it.detail.is_empty()), "{checks:?}");
    let role = checks.iter().find(|it| it.check == "Server role").context("no role")?;
    ensure!(role.detail == "node is standby", "{role:?}");
    standby.stop_clean().await?;
    let checks = NodeCheck::all(&done(&herd, job(&primary, Tool::RepmgrChecks)).await?);
    let bad: Vec<&str> = checks.iter().filter(|it| !it.ok).map(|it| it.check.as_str()).collect();
    ensure!(bad == ["Downstream servers"], "{checks:?}");
    refused(&herd, job(&standby, Tool::RepmgrChecks), "connection to database failed").await?;

    let programs = done(&herd, job(&primary, Tool::Programs)).await?;
    ensure!(Program::all(&programs).is_empty(), "{programs:?}");
    ensure!(programs.iter().any(|line| line.starts_with("no supervisord there")), "{programs:?}");
    refused(&herd, job(&primary, Tool::Backups), "there is no program backup there").await?;
    refused(&herd, job(&primary, Tool::BackUpBase), "there is no program backup there").await?;
    Ok(())
}

#[tokio::test]
async fn a_server_is_stopped_for_good_and_started_again() -> Result<()> {
    let herd = Herd::of(2).await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    let lines = done(&herd, job(&standby, Tool::Stop)).await?;
    ensure!(lines.iter().any(|it| it == "it is down, and its state is: shut down in recovery"), "{lines:?}");
    ensure!(standby.postmaster_pid().is_none());
    refused(&herd, job(&standby, Tool::Stop), "no server runs in").await?;
    let beside = |tool| Job { primary: Some(id(&primary)), ..job(&standby, tool) };
    done(&herd, beside(Tool::Start)).await?;
    streams_to(&primary, &standby).await?;
    refused(&herd, beside(Tool::Start), "it runs already").await?;

    let mistaken = Job { was_standby: true, ..job(&primary, Tool::Stop) };
    refused(&herd, mistaken, "has been promoted since").await?;
    done(&herd, job(&primary, Tool::Stop)).await?;
    // A pgherd that had stopped it itself would bring it back.
    ensure!(herd.take(&primary, Step::Recall).await == Outcome::Done);
    let only_as_standby = Some("node 1 is the primary".to_owned());
    let second = Job { only_as_standby, ..job(&primary, Tool::Start) };
    refused(&herd, second, "node 1 is the primary").await?;
    ensure!(primary.postmaster_pid().is_none(), "it was not started");
    done(&herd, job(&primary, Tool::Start)).await?;
    ensure!(!primary.is_in_recovery().await?);
    streams_to(&primary, &standby).await
}

#[tokio::test]
async fn repmgr_forgets_a_server_that_is_gone() -> Result<()> {
    let mut herd = Herd::of(3).await?;
    let (old, new, other) = (herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?);
    let unregister = |server: &Server, primary: &Server| Job {
        primary: Some(id(primary)),
        ..job(server, Tool::Unregister)
    };
    other.stop_clean().await?;
    done(&herd, unregister(&other, &old)).await?;
    refused(&herd, unregister(&other, &old), "not found").await?;
    refused(&herd, job(&other, Tool::Unregister), "there is no primary").await?;
    done(&herd, job(&old, Tool::Stop)).await?;
    new.must_repmgr("standby promote").await?;
    // As it is registered, though it leads no more.
    done(&herd, unregister(&old, &new)).await?;
    let rows = new.query_in("repmgr", "SELECT node_id FROM repmgr.nodes").await?;
    let left: Vec<Option<&str>> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(left == [Some("2")], "{left:?}");
    herd.rows = std::sync::Arc::default();
    refused(&herd, unregister(&old, &new), "is not registered").await
}

/// The images' program, with the places of this cluster.
fn backup_program(cluster: &Cluster, server: &Server) -> Result<Vec<(&'static str, String)>> {
    let images = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../images/postgres");
    let (kit, socket) = (cluster.directory().join("kit"), server.directory().display().to_string());
    let common = std::fs::read_to_string(images.join("lib/common"))?;
    let common = common.replace("run=/run/pgherd", &format!("run={socket}; export PGPORT={}", server.port()));
    let backup = std::fs::read_to_string(images.join("bin/backup"))?;
    let backup = backup
        .replace("/usr/local/lib/pgherd/common", &kit.join("common").display().to_string())
        .replace("-h 127.0.0.1", &format!("-h {}", server.address()));
    let backup = backup.replacen(
        "set -euo pipefail",
        &format!(
            "set -euo pipefail\nexport PGDATA={} PGBACKUP={} PGDATABASE_NAME=postgres",
            server.data_directory().display(),
            kit.join("backups").display()
        ),
        1,
    );
    Ok(vec![("backup", backup), ("common", common)])
}

#[tokio::test]
async fn backups_are_made_listed_restored_and_removed() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.server(1)?;
    let kit = kit(&cluster, &backup_program(&cluster, &server)?)?;
    let backups = kit.join("backups");
    std::fs::create_dir(&backups)?;
    std::fs::set_permissions(&backups, Permissions::from_mode(0o777))?;
    let herd = herd_with_kit(cluster, kit)?;
    let list = async || Ok::<_, anyhow::Error>(Backup::all(&done(&herd, job(&server, Tool::Backups)).await?));
    ensure!(list().await? == []);
    server.query("CREATE TABLE t AS SELECT 42 AS answer").await?;
    done(&herd, job(&server, Tool::BackUpBase)).await?;
    done(&herd, job(&server, Tool::BackUpDump { database: None })).await?;
    let listed = list().await?;
    let [base, dump] = listed.as_slice() else { bail!("{listed:?}") };
    ensure!((base.kind, dump.kind) == (BackupKind::Base, BackupKind::Dump), "{listed:?}");
    ensure!(dump.database.as_deref() == Some("postgres") && dump.at.elapsed()? < PATIENCE * 4, "{dump:?}");
    let restore = || Tool::RestoreDump { name: dump.name.clone(), database: "again".to_owned() };
    done(&herd, job(&server, restore())).await?;
    let rows = server.query_in("again", "SELECT answer FROM t").await?;
    ensure!(rows.first().and_then(|row| row.get(0)) == Some("42"), "{rows:?}");
    refused(&herd, job(&server, restore()), "restore into one that is not there").await?;
    let absent = Tool::BackUpDump { database: Some("absent".to_owned()) };
    refused(&herd, job(&server, absent), "absent could not be dumped").await?;
    done(&herd, job(&server, Tool::DeleteBackup { name: base.name.clone() })).await?;
    ensure!(list().await?.iter().eq([dump]), "the other is left");
    Ok(())
}

const ENDLESS: &str = "#!/bin/sh\nwhile :; do printf '%02000d ' 1; done\n";
const TALKS: &str = "#!/bin/sh\nexec yes 'some line or other'\n";
const HANGS: &str = "#!/bin/sh\necho begun\nexec sleep 1000\n";

#[tokio::test]
async fn a_look_that_does_not_end_is_bounded_and_delays_no_step() -> Result<()> {
    let programs = [("supervisorctl", TALKS), ("backup", ENDLESS)];
    let herd = with_programs(1, &programs).await?;
    let server = herd.cluster.server(1)?;
    let ask = || herd.take(&server, Step::CanLogIn { target: id(&server) });
    ensure!(ask().await == Outcome::Done);
    let looks = async {
        let looks = [Tool::Programs, Tool::Backups, Tool::Programs];
        let [one, two, three] = looks.map(|tool| used(&herd, job(&server, tool)));
        let (one, two, three) = tokio::join!(one, two, three);
        [one, two, three]
    };
    let steps = async {
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            let began = Instant::now();
            ensure!(ask().await == Outcome::Done);
            longest = longest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(longest)
    };
    let began = Instant::now();
    let (looks, longest) = tokio::join!(looks, steps);
    let longest = longest?;
    ensure!(longest < Duration::from_secs(2), "{longest:?}");
    ensure!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    for (ended, lines) in &looks {
        let late = |why: &String| {
            why.contains("has not ended within 8 seconds") || why.contains("has not ended within 10s")
        };
        ensure!(ended.as_ref().is_err_and(late), "{ended:?}");
        ensure!(lines.iter().map(String::len).sum::<usize>() < 600_000);
        ensure!(lines.iter().all(|line| line.len() <= 4096));
    }
    Ok(())
}

#[tokio::test]
async fn a_look_ends_when_nobody_waits_for_it_and_a_backup_goes_on() -> Result<()> {
    let deed = "#!/bin/sh\necho begun\nsleep 2\necho more\necho more\n: >\"${0%/*}/made-$1\"\n";
    let mut herd = with_programs(1, &[("supervisorctl", HANGS), ("backup", deed)]).await?;
    let server = herd.cluster.server(1)?;
    let made = |what: &str| herd.cluster.directory().join("kit").join(format!("made-{what}"));
    let (base, dump) = (made("base"), made("dump"));
    let left = async |herd: &Herd, tool| {
        let (sender, mut receiver) = mpsc::channel(4);
        let job = job(&server, tool);
        let run = herd.executor.tool(&job, &herd.rows, &sender);
        let leave = async {
            let line = receiver.recv().await;
            drop(receiver);
            line
        };
        tokio::join!(run, leave)
    };
    let began = Instant::now();
    let (ended, line) = left(&herd, Tool::Programs).await;
    ensure!(line.as_deref() == Some("begun"), "what it says comes while it runs: {line:?}");
    ensure!(ended.as_ref().is_err_and(|why| why.contains("nobody waits")), "{ended:?}");
    ensure!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let (ended, line) = left(&herd, Tool::BackUpBase).await;
    ensure!(ended == Ok(()) && line.as_deref() == Some("begun"), "{ended:?}, {line:?}");
    ensure!(base.exists());
    let (sender, mut receiver) = mpsc::channel(4);
    let wanted = job(&server, Tool::BackUpDump { database: None });
    tokio::select! {
        ended = herd.executor.tool(&wanted, &herd.rows, &sender) => bail!("{ended:?}"),
        line = receiver.recv() => ensure!(line.as_deref() == Some("begun"), "{line:?}"),
    }
    // The whole pgherd is gone.
    herd.executor = executor(&herd.cluster, settings(&herd.cluster)?);
    ensure!(!dump.exists());
    eventually("the backup is made", PATIENCE, || async { Ok(dump.exists().then_some(())) }).await
}

#[tokio::test]
async fn names_are_data_for_the_servers_shell_too() -> Result<()> {
    let echo = "#!/bin/sh\nfor it in \"$@\"; do printf '<%s>' \"$it\" | tr '\\n' ' '; done\necho\n";
    let herd = with_programs(1, &[("backup", echo)]).await?;
    let server = herd.cluster.server(1)?;
    let trap = herd.cluster.directory().join("kit/trap");
    let touch = trap.display();
    for hostile in [
        format!("'; touch {touch}; '"),
        format!("$(touch {touch})"),
        format!("`touch {touch}`"),
        format!("a\ntouch {touch}\n"),
        format!("\"; touch {touch}; \""),
        format!("a; touch {touch} #"),
        "it's \\ * ?".to_owned(),
        "-rf".to_owned(),
    ] {
        // `Control` would not let it pass.
        let tool = Tool::DeleteBackup { name: hostile.clone() };
        ensure!(tool.check().is_err(), "{hostile}");
        let lines = done(&herd, job(&server, tool)).await?;
        ensure!(lines == [format!("<delete><{}>", hostile.replace('\n', " "))], "{lines:?}");
    }
    ensure!(!trap.exists());
    refused(&herd, job(&server, Tool::DeleteBackup { name: "a\0b".to_owned() }), "NUL").await
}

#[tokio::test]
async fn tools_need_ssh_and_say_so() -> Result<()> {
    let herd = Herd::of(1).await?;
    let server = herd.cluster.server(1)?;
    server.stop_sshd().await?;
    refused(&herd, job(&server, Tool::Disks), "ssh: ").await?;
    let settings = ExecutorSettings { means: Means::Sql, ..settings(&herd.cluster)? };
    let herd = Herd::with(herd.cluster, settings)?;
    refused(&herd, job(&server, Tool::Disks), "failover.executor = \"ssh\"").await
}
#[tokio::test]
async fn programs_are_those_of_a_supervisord_that_can_be_asked() -> Result<()> {
    let told =
        "#!/bin/sh\n[ \"$*\" = status ] || exit 2\ncat \"${0%/*}/said\"\nexit $(cat \"${0%/*}/status\")\n";
    let herd = with_programs(1, &[("supervisorctl", told)]).await?;
    let server = herd.cluster.server(1)?;
    let asked = async |said: &str, status: u8| {
        let kit = herd.cluster.directory().join("kit");
        std::fs::write(kit.join("said"), said)?;
        std::fs::write(kit.join("status"), status.to_string())?;
        done(&herd, job(&server, Tool::Programs)).await
    };
    let listed = "postgres                         RUNNING   pid 21, uptime 0:00:07\n\
                  sshd                             STOPPED   Not started\n";
    for (status, count) in [(0, 2), (3, 2)] {
        let programs = Program::all(&asked(listed, status).await?);
        ensure!(programs.len() == count, "{programs:?}");
    }
    for (said, status) in [
        ("unix:///run/supervisor.sock no such file\n", 4),
        ("error: <class 'PermissionError'>, [Errno 13] Permission denied: file: xmlrpc.py line: 557\n", 1),
    ] {
        let lines = asked(said, status).await?;
        ensure!(lines.last().is_some_and(|line| line.starts_with("no supervisord there")), "{lines:?}");
    }
    Ok(())
}
