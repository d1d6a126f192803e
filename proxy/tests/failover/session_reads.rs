//! What a session asks for its own reads. The standby has stopped to replay: whoever reads there finds nothing.

use pgherd_testkit::client::{ErrorFields, RawClient};
use pgherd_testkit::{Cluster, PgherdBuilder, Result, Server, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

/// Two servers, of which the standby is read, and has replayed that there is a table, but not what is in it; and nobody has read it yet.
pub(crate) async fn paused(settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder) -> Result<(Herd, Server)> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let herd = Herd::of(cluster, |pgherd| settings(pgherd.set("routing.reads", "standbys"))).await?;
    herd.wait_readable("1").await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    herd.connect().await?.batch_execute("CREATE TABLE kept (n int)").await?;
    standby.wait_replayed(&primary.scalar("SELECT pg_current_wal_flush_lsn()").await?).await?;
    standby.query("SELECT pg_wal_replay_pause()").await?;
    primary.query_in("app", "INSERT INTO kept VALUES (1)").await?;
    // Not before the database's catalogue was read.
    let mut stranger = herd.raw().await?;
    eventually("a stranger reads from the standby", PATIENCE, || {
        let seen = sees(&mut stranger);
        async { Ok((seen.await? == 0).then_some(())) }
    })
    .await?;
    Ok((herd, standby))
}

/// How many rows it finds: none on the standby.
pub(crate) async fn sees(client: &mut RawClient) -> Result<usize> {
    Ok(client.query("SELECT n FROM kept").await?.rows().len())
}

/// Runs each of these; no error.
pub(crate) async fn run(client: &mut RawClient, statements: &[&str]) -> Result<()> {
    for statement in statements {
        let answer = client.query(statement).await?;
        ensure!(answer.error().is_none(), "{statement}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_says_itself_what_it_sees_and_goes_back_as_its_parameters_do() -> Result<()> {
    let strong = "[{ application = \"strong\", consistency = \"strong\" }]";
    let (herd, _) = paused(|pgherd| pgherd.env("PGHERD_ROUTING__OVERRIDE", strong)).await?;
    let mut wrong = Vec::new();
    for (statements, is_read_there) in [
        (&[][..], true),
        (&["INSERT INTO kept VALUES (1)"], false),
        (&["INSERT INTO kept VALUES (1)", "SET pgherd.consistency = 'eventual'"], true),
        (&["SET pgherd.consistency = 'strong'"], false),
        (&["SET pgherd.consistency = strong", "RESET pgherd.consistency"], true),
        (&["SET pgherd.consistency TO strong", "SET pgherd.consistency TO DEFAULT"], true),
        (&["SET pgherd.consistency = 'strong'", "DISCARD ALL"], true),
        (&["BEGIN", "SET pgherd.consistency = 'strong'", "ROLLBACK"], true),
        (&["BEGIN", "SET pgherd.consistency = 'strong'", "COMMIT"], false),
        (&["BEGIN", "SET LOCAL pgherd.consistency = 'strong'", "COMMIT"], true),
        (&["BEGIN", "SAVEPOINT a", "SET pgherd.consistency = 'strong'", "ROLLBACK TO a", "COMMIT"], true),
        (&["SELECT set_config('pgherd.consistency', 'Strong', false)"], false),
        (&["SELECT set_config('pgherd.consistency', 'strong', true)"], true),
        (&["DO $$ BEGIN SET pgherd.consistency = 'strong'; END $$"], false),
        (&["SET pgherd.reads = 'primary'"], false),
        (&["SET pgherd.reads = 'primary'", "SET pgherd.reads = 'standbys'"], true),
        (&["SET application_name = 'strong'"], false),
        (&["SET application_name = 'strong'", "SET pgherd.consistency = 'session'"], true),
    ] {
        let mut client = herd.raw().await?;
        run(&mut client, statements).await?;
        let seen = sees(&mut client).await?;
        if (seen == 0) != is_read_there {
            wrong.push(format!("{statements:?}: {seen}"));
        }
    }
    for (option, is_read_there) in [
        ("-c pgherd.consistency=strong", false),
        ("-c pgherd.reads=primary -c pgherd.consistency=session", false),
    ] {
        let mut client = herd.raw_with(&[("options", option)]).await?;
        if (sees(&mut client).await? == 0) != is_read_there {
            wrong.push(option.to_owned());
        }
        run(&mut client, &["SET pgherd.consistency = session", "SET pgherd.reads = any"]).await?;
        if sees(&mut client).await? != 0 {
            wrong.push(format!("{option}, then others"));
        }
        run(&mut client, &["RESET ALL"]).await?;
        if (sees(&mut client).await? == 0) != is_read_there {
            wrong.push(format!("{option}, then RESET ALL"));
        }
    }
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), herd.log());
    Ok(())
}

#[tokio::test]
async fn a_word_that_means_nothing_is_the_strictest_and_the_client_is_told() -> Result<()> {
    let (herd, _) = paused(|pgherd| pgherd).await?;
    let mut client = herd.raw().await?;
    run(&mut client, &["SET pgherd.consistency = 'eventually'"]).await?;
    // It comes behind the answer, which the server has given.
    let answer = client.query("SELECT n FROM kept").await?;
    let notice = answer.notice();
    ensure!(answer.rows().len() == 1, "{answer:?}");
    ensure!(
        notice
            .as_ref()
            .is_some_and(|notice| notice.code() == "22023" && notice.message().contains("eventually")),
        "{answer:?}"
    );
    let answer = client.query("SELECT n FROM kept").await?;
    ensure!(answer.rows().len() == 1 && answer.notice().is_none(), "told once: {answer:?}");
    run(&mut client, &["SET pgherd.consistency = 'eventual'"]).await?;
    ensure!(sees(&mut client).await? == 0);
    for option in ["-c pgherd.consistency=eventually", "-c pgherd.reads=standby"] {
        let refused = herd.raw_with(&[("options", option)]).await.err();
        let refused = refused.as_ref().and_then(|error| error.downcast_ref::<ErrorFields>());
        ensure!(
            refused.is_some_and(|error| error.code() == "22023" && error.severity() == "FATAL"),
            "{option}: {refused:?}"
        );
    }
    Ok(())
}
