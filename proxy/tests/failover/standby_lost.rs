//! A standby is lost and comes back.

use std::os::unix::fs::PermissionsExt;

use pgherd_testkit::{Cluster, Pgherd, Result, ensure};
use toml::Value;

use crate::herd::{Herd, PATIENCE};

#[tokio::test]
async fn a_standby_that_was_stopped_is_back_in_rotation_by_itself() -> Result<()> {
    let herd = Herd::start().await?;
    herd.pgherd.wait_log("readable=[1, 2]", PATIENCE).await?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    let standby = herd.cluster.server(3)?;
    standby.stop_clean().await?;
    herd.wait_readable("1").await?;
    standby.start().await?;
    herd.wait_readable("1, 2").await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0 && report.missing.is_empty() && report.refused == 0, "{report}");
    ensure!(report.sqlstates.is_empty(), "no writer noticed: {report}");
    ensure!(herd.cluster.primary().await?.id() == 1);
    Ok(())
}

#[tokio::test]
async fn no_client_notices_that_a_standby_is_killed() -> Result<()> {
    let herd = Herd::start().await?;
    herd.wait_readable("1, 2").await?;
    let workload = herd.workload().await?.audited(4);
    workload.create_table().await?;
    let running = workload.start().await?;
    running.wait_acknowledged(100, PATIENCE).await?;
    for (id, left) in [(3, "1"), (2, "")] {
        herd.cluster.server(id)?.kill9_all().await?;
        herd.wait_readable(left).await?;
        running.wait_acknowledged(100, PATIENCE).await?;
    }
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0 && report.is_sound() && report.reads > 0, "{report}");
    ensure!(report.sqlstates.is_empty() && report.reads_refused.is_empty(), "{report}");
    let wrong = workload.audit(&herd.cluster.primary().await?).await?;
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

/// pgherd has a hosts file of its own, as it has a name server's answers elsewhere.
#[tokio::test]
async fn a_standby_that_comes_back_with_another_address_under_its_name_is_found_there() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let standby = cluster.server(3)?;
    let [a, b, c, _] = standby.address().octets();
    let (names, hosts) = (["one.herd", "two.herd", "three.herd"], cluster.directory().join("hosts"));
    let name = |last: u8| {
        let addresses = [1, 2, last].map(|host| format!("{a}.{b}.{c}.{host}"));
        let lines = addresses.iter().zip(names).map(|(address, name)| format!("{address} {name}\n"));
        // The same file: it is mounted.
        std::fs::write(&hosts, lines.collect::<String>())
    };
    name(3)?;
    let wrapper = cluster.directory().join("pgherd-with-hosts");
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {} /etc/hosts && exec \"$0\" \"$@\"' {} \"$@\"\n",
        hosts.display(),
        Pgherd::program()?.display()
    );
    std::fs::write(&wrapper, script)?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    let nodes: Vec<Value> =
        names.iter().enumerate().map(|(id, name)| format!("{id}:{name}:5432").into()).collect();
    let herd = Herd::of(cluster, |pgherd| pgherd.binary(&wrapper).set("backends.nodes", nodes)).await?;
    herd.wait_readable("1, 2").await?;

    standby.stop_clean().await?;
    herd.wait_readable("1").await?;
    standby.set("listen_addresses", &format!("{a}.{b}.{c}.33"))?;
    name(33)?;
    standby.launch().await?;
    herd.wait_readable("1, 2").await?;
    herd.wait_writable().await?;
    ensure!(herd.cluster.primary().await?.id() == 1, "nobody was promoted");
    Ok(())
}

#[tokio::test]
async fn commits_that_wait_for_a_standby_that_is_gone_are_told_of_with_its_name() -> Result<()> {
    let cluster = Cluster::builder().synchronous(2).start().await?;
    let herd = Herd::of(cluster, |pgherd| pgherd).await?;
    let standby = herd.cluster.server(3)?;
    standby.stop_clean().await?;
    let warning =
        "commits on node 0 wait: synchronous_standby_names asks for 2 standbys and has 1; missing: pg03";
    herd.pgherd.wait_log(warning, PATIENCE).await?;
    standby.start().await?;
    herd.pgherd.wait_log(&format!("no longer: {warning}"), PATIENCE).await?;
    herd.wait_writable().await
}
