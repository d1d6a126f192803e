//! One server is named, and the others are found in `repmgr.nodes`.

use pgherd_testkit::{Cluster, Result, Server, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

/// A cluster of three, and a pgherd that is told of one server only.
async fn told_of(id: i32) -> Result<Herd> {
    let cluster = Cluster::builder().start().await?;
    let index = usize::try_from(id - 1)?;
    let one = cluster.backend_nodes().into_iter().nth(index).unwrap_or_default();
    Herd::of(cluster, |pgherd| pgherd.set("backends.nodes", one)).await
}

/// What SHOW TOPOLOGY says of each server: its address, what the table sends there, and where it is named.
async fn shown(herd: &Herd) -> Result<Vec<[String; 3]>> {
    use pgherd_testkit::client::Session;
    let console = Session::connect(&herd.pgherd.connection_string("repmgr", "pgherd")).await?;
    let mut servers = Vec::new();
    for message in console.simple_query("SHOW TOPOLOGY").await? {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            let cell = |name: &str| row.get(name).unwrap_or_default().to_owned();
            servers.push([cell("host"), cell("in_table"), cell("named_in")]);
        }
    }
    servers.sort();
    Ok(servers)
}

/// Waits until SHOW TOPOLOGY has these servers, with what the table sends there and where they are named.
async fn wait_shown(herd: &Herd, wanted: &[(&Server, &str, &str)]) -> Result<()> {
    let mut wanted: Vec<[String; 3]> = wanted
        .iter()
        .map(|(server, use_of, named)| {
            [server.address().to_string(), (*use_of).to_owned(), (*named).to_owned()]
        })
        .collect();
    wanted.sort();
    eventually(format!("SHOW TOPOLOGY is {wanted:?}"), PATIENCE, || async {
        Ok((shown(herd).await? == wanted).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_pgherd_that_is_told_of_the_primary_alone_finds_its_standbys_and_promotes_one() -> Result<()> {
    let herd = told_of(1).await?;
    let [one, two, three] = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    let found = "repmgr.nodes";
    wait_shown(
        &herd,
        &[(&one, "writes", "backends.nodes"), (&two, "reads", found), (&three, "reads", found)],
    )
    .await?;
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    one.kill9_all().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    let report = herd.compare(&running.stop().await?).await?;
    ensure!(report.connections_lost == 0, "{report}");
    let new = herd.cluster.primary().await?;
    ensure!(new.id() != 1);
    // A server that was found is fenced, rewound and repaired like any other: by the data directory that it has named.
    one.start().await?;
    let other = if new.id() == 2 { &three } else { &two };
    herd.wait_led_by(&new, &[&one, other]).await?;
    running_again(&herd, &new).await
}

/// The second failover is that of a server that was found.
async fn running_again(herd: &Herd, primary: &Server) -> Result<()> {
    let running = herd.workload().await?.start().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    primary.freeze().await?;
    running.wait_acknowledged(50, PATIENCE).await?;
    running.stop().await?;
    let new = eventually("another primary", PATIENCE, || async {
        let new = herd.cluster.primary().await?;
        Ok((new.id() != primary.id()).then_some(new))
    })
    .await?;
    // It could only be stopped by its own directory.
    let rest: Vec<Server> =
        herd.cluster.servers().iter().filter(|server| server.id() != new.id()).cloned().collect();
    herd.wait_led_by(&new, &rest.iter().collect::<Vec<_>>()).await
}

#[tokio::test]
async fn a_pgherd_that_is_told_of_a_standby_finds_the_primary_and_who_is_registered_comes_and_goes()
-> Result<()> {
    let herd = told_of(3).await?;
    let [one, two, three] = [herd.cluster.server(1)?, herd.cluster.server(2)?, herd.cluster.server(3)?];
    let (told, found) = ("backends.nodes", "repmgr.nodes");
    wait_shown(&herd, &[(&one, "writes", found), (&two, "reads", found), (&three, "reads", told)]).await?;

    two.must_repmgr("standby unregister").await?;
    wait_shown(&herd, &[(&one, "writes", found), (&three, "reads", told)]).await?;
    // One that is configured stays, whatever is registered.
    three.must_repmgr("standby unregister").await?;
    wait_shown(&herd, &[(&one, "writes", found), (&three, "reads", told)]).await?;

    two.must_repmgr("standby register --upstream-node-id=1").await?;
    three.must_repmgr("standby register --upstream-node-id=1").await?;
    wait_shown(&herd, &[(&one, "writes", found), (&two, "reads", found), (&three, "reads", told)]).await?;

    // A server that is only registered is down, and still one of the herd.
    two.stop_clean().await?;
    wait_shown(&herd, &[(&one, "writes", found), (&two, "no", found), (&three, "reads", told)]).await?;
    two.start().await?;
    wait_shown(&herd, &[(&one, "writes", found), (&two, "reads", found), (&three, "reads", told)]).await
}

#[tokio::test]
async fn a_server_that_is_given_by_another_name_is_not_taken_for_two() -> Result<()> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let one = cluster.server(1)?;
    let by_address = cluster.backend_nodes().into_iter().next().unwrap_or_default();
    // repmgr has it by its address; this is another way to write the same one.
    let [a, b, c, d] = one.address().octets();
    let short = format!("{a}.{b}.{}", u16::from_be_bytes([c, d]));
    let by_other_name = by_address.replace(&one.address().to_string(), &short);
    let herd = Herd::of(cluster, |pgherd| pgherd.set("backends.nodes", by_other_name)).await?;
    herd.pgherd.wait_log("one server by two addresses", PATIENCE).await?;
    eventually("two servers", PATIENCE, || async {
        let servers = shown(&herd).await?;
        let uses: Vec<&str> = servers.iter().map(|[_, use_of, _]| use_of.as_str()).collect();
        Ok((uses == ["reads", "writes"] || uses == ["writes", "reads"]).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_pgherd_whose_only_named_server_is_down_at_its_start_says_what_is_to_be_done() -> Result<()> {
    let mut herd = told_of(1).await?;
    let one = herd.cluster.server(1)?;
    herd.pgherd.kill9().await?;
    one.kill9_all().await?;
    herd.pgherd.set("failover.cold_grace", "1s")?;
    herd.pgherd.start().await?;
    herd.pgherd.wait_log("name more of them in backends.nodes", PATIENCE).await?;
    // Once it is there, so are the others.
    one.start().await?;
    herd.wait_writable().await?;
    wait_shown(
        &herd,
        &[
            (&one, "writes", "backends.nodes"),
            (&herd.cluster.server(2)?, "reads", "repmgr.nodes"),
            (&herd.cluster.server(3)?, "reads", "repmgr.nodes"),
        ],
    )
    .await
}
