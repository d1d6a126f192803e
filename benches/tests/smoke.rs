//! The whole way on a real PostgreSQL: direct and through the relay, for a few seconds.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn the_relay_carries_pgbench_and_its_figures_are_plausible() {
    let out = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_pgherd-bench");
    let output = Command::new(program)
        .args([
            "--peers",
            "direct,relay",
            "--rounds",
            "1",
            "--seconds",
            "1",
            "--clients",
            "4",
            "--scale",
            "1",
        ])
        .args([
            "--only",
            "select,rows,copy,start,idle",
            "--modes",
            "prepared",
            "--idle-clients",
            "10",
            "--out",
        ])
        .arg(out.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("## select-only, prepared, 4 clients"), "{report}");
    assert!(report.contains("## rows of 100 kB, simple, 8 clients"), "{report}");

    let mut files = std::fs::read_dir(out.path()).unwrap().map(|file| file.unwrap().path());
    let file = files.find(|file| file.extension().is_some_and(|it| it == "json")).unwrap();
    let plot = std::fs::read_to_string(file.with_extension("svg")).unwrap();
    assert!(plot.contains("relay") && !plot.contains("NaN"), "{plot}");
    let results: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let loads = results["loads"].as_array().unwrap();
    let peers: BTreeSet<&str> = loads.iter().filter_map(|load| load["peer"].as_str()).collect();
    assert_eq!(peers, BTreeSet::from(["direct", "relay"]));
    for load in loads {
        let figure = |name: &str| load[name].as_f64();
        let (tps, latency) = (figure("tps").unwrap(), figure("latency_ms").unwrap());
        assert!(tps > 50.0, "{load}");
        // Clients that always wait for an answer: TPS times latency is their number, give or take what pgbench does itself.
        let clients = figure("clients").unwrap();
        assert!((clients / 4.0..=clients + 0.5).contains(&(tps * latency / 1e3)), "{load}");
        assert!(figure("p50_ms") <= figure("p99_ms") && figure("p50_ms") > Some(0.0), "{load}");
        assert!((1.0..5000.0).contains(&figure("postgres_cpu_us").unwrap()), "{load}");
        match load["peer"].as_str() {
            Some("direct") => assert_eq!(figure("peer_cpu_us"), None),
            _ => assert!((0.5..1000.0).contains(&figure("peer_cpu_us").unwrap()), "{load}"),
        }
    }
    let transfers = results["transfers"].as_array().unwrap();
    assert_eq!(transfers.len(), 6);
    assert!(transfers.iter().all(|transfer| transfer["bytes"].as_u64() > Some(1 << 23)), "{transfers:?}");
    let starts = results["starts"].as_array().unwrap();
    assert!(starts.iter().all(|start| start["first_answer_ms"].as_f64() > Some(0.5)), "{starts:?}");
    let idle = results["idle"].as_array().unwrap();
    let grew = |idle: &Value| idle["after"]["rss"].as_u64() > idle["before"]["rss"].as_u64();
    assert!(idle.iter().filter(|idle| idle["peer"] == "direct").all(grew), "{idle:?}");
    assert_eq!(idle.len(), 2);
}

/// With a pgherd that was built beside.
#[test]
fn pgherd_is_measured_in_what_no_relay_takes() {
    let out = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_pgherd-bench"));
    assert!(program.with_file_name("pgherd").is_file(), "pgherd was not built: cargo build --workspace");
    let output = Command::new(program)
        .args(["--peers", "pgherd,pgherd-reads", "--only", "tls,reload,reads,crowd,idle", "--rounds", "1"])
        .args(["--seconds", "1", "--scale", "1", "--crowd", "20", "--idle-clients", "20", "--out"])
        .arg(out.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = String::from_utf8(output.stdout).unwrap();
    for said in ["select-only, TLS, prepared, 32 clients", "200 clients beside 20 idle ones", "pgherd, TLS"] {
        assert!(report.contains(said), "{report}");
    }
    let reads = report.split("## ").find(|part| part.starts_with("select-only, two standbys")).unwrap();
    assert!(reads.contains("| pgherd |") && reads.contains("| pgherd-reads |"), "{reads}");
}

/// What is counted in the session machine alone is not all: there are sockets, pools and the event loop.
#[test]
fn a_transaction_allocates_nothing_in_the_whole_of_pgherd() {
    let program = Path::new(env!("CARGO_BIN_EXE_pgherd-bench"));
    assert!(program.with_file_name("pgherd").is_file(), "pgherd was not built: cargo build --workspace");
    let output = Command::new(program).arg("count").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(["simple", "extended", "prepared"].iter().all(|protocol| said.contains(protocol)), "{said}");
}

#[test]
fn an_interrupt_ends_everything_that_was_started() {
    let out = tempfile::tempdir().unwrap();
    // PostgreSQL, which runs as another user, keeps its files in it.
    std::fs::set_permissions(out.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgherd-bench"))
        .args(["--peers", "relay", "--rounds", "1", "--seconds", "60", "--clients", "2", "--scale", "1"])
        .args(["--only", "select", "--modes", "simple", "--out"])
        .arg(out.path())
        .env("TMPDIR", out.path())
        .spawn()
        .unwrap();
    let running = || running_in(out.path());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !["--builtin=select-only", "--listen"]
        .iter()
        .all(|what| running().iter().any(|line| line.contains(what)))
    {
        assert!(std::time::Instant::now() < deadline, "pgbench was not started: {:?}", running());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(running(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "the scratch directory is left");
}

/// The command lines of the processes that work in `directory` or were told of it, without the benchmark itself.
fn running_in(directory: &Path) -> Vec<String> {
    let directory = directory.to_string_lossy();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        let works_in = std::fs::read_link(process.path().join("cwd")).unwrap_or_default();
        let ours = command.contains(&*directory) || works_in.to_string_lossy().contains(&*directory);
        if ours && !command.contains("--out") {
            found.push(command);
        }
    }
    found
}
