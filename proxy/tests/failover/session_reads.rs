//! What a session asks for its own reads. The standby has stopped to replay: whoever reads there finds nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use pgherd_testkit::client::{ErrorFields, RawClient};
use pgherd_testkit::{Cluster, Context, PgherdBuilder, Result, Server, anyhow, ensure, eventually};

use crate::herd::{Herd, PATIENCE};

/// Two servers, of which the standby is read, and has replayed that there is a table, but not what is in it; and nobody has read it yet.
pub(crate) async fn paused(settings: impl FnOnce(PgherdBuilder) -> PgherdBuilder) -> Result<(Herd, Server)> {
    let cluster = Cluster::builder().servers(2).start().await?;
    let herd = Herd::of(cluster, |pgherd| settings(pgherd.set("routing.reads", "standbys"))).await?;
    herd.wait_readable("1").await?;
    let (primary, standby) = (herd.cluster.server(1)?, herd.cluster.server(2)?);
    herd.connect().await?.batch_execute("CREATE TABLE kept (n int)").await?;
    herd.wait_replayed().await?;
    standby.query("SELECT pg_wal_replay_pause()").await?;
    primary.query_in("app", "INSERT INTO kept VALUES (1)").await?;
    // Not before the database's catalogue was read.
    let stranger = herd.connect().await?;
    eventually("a stranger reads from the standby", PATIENCE, || async {
        Ok(stranger.query_typed("SELECT n FROM kept", &[]).await?.is_empty().then_some(()))
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

/// Fails unless it reads from the standby, at once or in a moment: as soon as the connection there is known to be to this run of it.
async fn reads_there(client: &mut RawClient) -> Result<()> {
    let client = tokio::sync::Mutex::new(client);
    eventually("it reads from the standby", PATIENCE, || async {
        Ok((sees(*client.lock().await).await? == 0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_session_says_itself_what_it_sees_and_goes_back_as_its_parameters_do() -> Result<()> {
    let strong = "[{ application = \"strong\", consistency = \"strong\" }]";
    let (herd, _) = paused(|pgherd| pgherd.env("PGHERD_ROUTING__OVERRIDE", strong)).await?;
    let mut wrong = Vec::new();
    for (statements, is_read_there) in [
        (&[][..], false),
        (&["SET pgherd.consistency = 'eventual'"], true),
        (&["SET pgherd.consistency = 'strong'"], false),
        (&["SET pgherd.consistency = Eventual", "RESET pgherd.consistency"], false),
        (&["SET pgherd.consistency TO eventual", "SET pgherd.consistency TO DEFAULT"], false),
        (&["SET pgherd.consistency = 'eventual'", "DISCARD ALL"], false),
        (&["BEGIN", "SET pgherd.consistency = 'eventual'", "ROLLBACK"], false),
        (&["BEGIN", "SET pgherd.consistency = 'eventual'", "COMMIT"], true),
        (&["BEGIN", "SET LOCAL pgherd.consistency = 'eventual'", "COMMIT"], false),
        (&["BEGIN", "SAVEPOINT a", "SET pgherd.consistency = 'eventual'", "ROLLBACK TO a", "COMMIT"], false),
        (&["SELECT set_config('pgherd.consistency', 'eventual', false)"], true),
        (&["SELECT set_config('pgherd.consistency', 'eventual', true)"], false),
        (&["SET pgherd.consistency = 'eventual'", "SET pgherd.reads = 'primary'"], false),
        (
            &[
                "SET pgherd.consistency = eventual",
                "SET pgherd.reads = 'primary'",
                "SET pgherd.reads = standbys",
            ],
            true,
        ),
        (&["SET application_name = 'strong'", "SET pgherd.consistency = 'eventual'"], true),
    ] {
        let mut client = herd.raw().await?;
        run(&mut client, &["INSERT INTO kept VALUES (1)"]).await?;
        run(&mut client, statements).await?;
        if is_read_there {
            reads_there(&mut client).await.with_context(|| format!("{statements:?}\n{}", herd.log()))?;
        } else if sees(&mut client).await? == 0 {
            wrong.push(format!("{statements:?}"));
        }
    }
    let mut client = herd.raw().await?;
    reads_there(&mut client).await?;
    run(&mut client, &["SET application_name = 'strong'"]).await?;
    ensure!(sees(&mut client).await? > 0, "what is configured for it");
    for (option, is_read_there) in [
        ("-c pgherd.consistency=eventual", true),
        ("-c pgherd.reads=primary -c pgherd.consistency=eventual", false),
    ] {
        let mut client = herd.raw_with(&[("options", option)]).await?;
        for statements in
            [&["INSERT INTO kept VALUES (1)"][..], &["SET pgherd.consistency = session", "RESET ALL"]]
        {
            run(&mut client, statements).await?;
            if is_read_there {
                reads_there(&mut client).await.with_context(|| format!("{option}\n{}", herd.log()))?;
            } else if sees(&mut client).await? == 0 {
                wrong.push(format!("{option}, {statements:?}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), herd.log());
    Ok(())
}

#[tokio::test]
async fn what_a_role_or_database_is_given_holds_where_the_session_says_nothing() -> Result<()> {
    let (herd, _) = paused(|pgherd| pgherd).await?;
    let primary = herd.cluster.server(1)?;
    for (setting, is_read_there) in [
        ("ALTER DATABASE app SET pgherd.consistency = 'eventual'", true),
        ("ALTER ROLE app SET pgherd.consistency = 'strong'", false),
        ("ALTER ROLE app IN DATABASE postgres SET pgherd.consistency = 'eventual'", false),
        ("ALTER ROLE app IN DATABASE app SET pgherd.consistency = 'eventual'", true),
        ("ALTER ROLE ALL SET pgherd.reads = 'primary'", false),
    ] {
        primary.query(setting).await?;
        // The standby, which has stopped to replay, is asked for the role where the primary takes long to answer.
        let mut client = eventually(setting, PATIENCE, || async {
            let mut client = herd.raw().await?;
            run(&mut client, &["INSERT INTO kept VALUES (1)"]).await?;
            Ok(((sees(&mut client).await? == 0) == is_read_there).then_some(client))
        })
        .await
        .with_context(|| herd.log())?;
        run(&mut client, &["SET pgherd.consistency = 'eventual'", "SET pgherd.reads = 'any'"]).await?;
        reads_there(&mut client).await?;
    }
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
    reads_there(&mut client).await?;
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

/// Where the log of the primary is, which the client asks it for.
async fn token(client: &mut RawClient) -> Result<String> {
    client.query("SELECT pg_current_wal_insert_lsn()").await?.value().context("no position")
}

/// Waits until it reads from a standby, and finds rows each time before and then.
async fn reads_there_in_the_end(client: &mut RawClient, log: impl Fn() -> String) -> Result<()> {
    let client = tokio::sync::Mutex::new(client);
    eventually("it reads from a standby", PATIENCE, || async {
        let mut client = client.lock().await;
        let answer = client.query("/* pgherd: standby */ SELECT pg_is_in_recovery(), n FROM kept").await?;
        Ok(match answer.rows().first() {
            Some(row) => (row.first() == Some(&Some("t".into()))).then_some(Ok(())),
            None => Some(Err(anyhow!("it misses a row: {answer:?}\n{}", log()))),
        })
    })
    .await?
}

#[tokio::test]
async fn a_later_session_sees_what_an_earlier_one_has_written_where_it_names_the_position() -> Result<()> {
    let (herd, standby) = paused(|pgherd| pgherd).await?;
    let mut before = herd.raw().await?;
    let old = token(&mut before).await?;
    run(&mut before, &["INSERT INTO kept VALUES (2)"]).await?;
    let token = token(&mut before).await?;
    drop(before);
    let mut pointed = Vec::new();
    for (after, is_behind) in
        [("0/1", false), ("", false), (&token, true), ("now", true), ("FFFFFFFF/0", true)]
    {
        let at_login = herd.raw_with(&[("options", &format!("-c pgherd.after={after}"))]).await?;
        let mut later = herd.raw().await?;
        run(&mut later, &[&format!("SET pgherd.after = '{after}'")]).await?;
        for mut client in [at_login, later] {
            if is_behind {
                let seen = sees(&mut client).await?;
                ensure!(seen == 2, "{after}: {seen}\n{}", herd.log());
                pointed.push(client);
            } else {
                reads_there(&mut client).await.with_context(|| format!("{after}\n{}", herd.log()))?;
            }
        }
    }
    let mut wrong = herd.raw().await?;
    run(&mut wrong, &["SET pgherd.after = 'yesterday'"]).await?;
    let answer = wrong.query("SELECT n FROM kept").await?;
    ensure!(answer.notice().is_some_and(|notice| notice.code() == "22023"), "{answer:?}");
    ensure!(answer.rows().len() == 2, "{answer:?}");
    pointed.push(wrong);
    let refused = herd.raw_with(&[("options", "-c pgherd.after=yesterday")]).await.err();
    let refused = refused.as_ref().and_then(|error| error.downcast_ref::<ErrorFields>());
    ensure!(refused.is_some_and(|error| error.code() == "22023"), "{refused:?}");
    // One that forgets what it sees beside others' positions would be pointed back.
    run(&mut pointed[0], &[&format!("SET pgherd.after = '{old}'")]).await?;
    ensure!(sees(&mut pointed[0]).await? == 2);
    standby.query("SELECT pg_wal_replay_resume()").await?;
    for client in &mut pointed {
        reads_there_in_the_end(client, || herd.log()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_position_holds_after_a_failover_also_where_the_new_primary_is_not_there_yet() -> Result<()> {
    let herd =
        Herd::of(Cluster::builder().start().await?, |pgherd| pgherd.set("routing.reads", "standbys")).await?;
    herd.wait_readable("1, 2").await?;
    let mut before = herd.raw().await?;
    run(&mut before, &["CREATE TABLE kept AS SELECT 1 AS n"]).await?;
    let token = token(&mut before).await?;
    let primary = herd.cluster.server(1)?;
    herd.wait_replayed().await?;
    primary.kill9_all().await?;
    herd.wait_writable().await?;
    for after in [&token, "FFFFFFFF/0", "now"] {
        let mut client = herd.raw_with(&[("options", &format!("-c pgherd.after={after}"))]).await?;
        reads_there_in_the_end(&mut client, || herd.log()).await?;
    }
    Ok(())
}

/// How many queries of user `app` ran for each reason.
pub(crate) async fn reasons(herd: &Herd) -> Result<BTreeMap<String, i64>> {
    let answer = herd.console().await?.query("SHOW ROUTING").await?;
    let mut reasons = BTreeMap::new();
    for row in answer.rows() {
        let [_, user, _, reason, queries, ..] = row.as_slice() else { continue };
        let text = |value: &Option<Bytes>| {
            value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        if text(user) == "app" {
            reasons.insert(text(reason), text(queries).parse()?);
        }
    }
    Ok(reasons)
}

#[tokio::test]
async fn it_is_counted_why_queries_run_where_they_do() -> Result<()> {
    let (herd, standby) = paused(|pgherd| pgherd).await?;
    let before = reasons(&herd).await?;
    let mut client = herd.raw().await?;
    let read = "SELECT n FROM kept";
    let mut wanted = BTreeMap::<String, i64>::new();
    for (statements, expected) in [
        (&[read, read][..], &[("read", 2)][..]),
        (&["INSERT INTO kept VALUES (2)", read], &[("writes", 1), ("own_writes", 1)]),
        (&["BEGIN", read, read, "COMMIT"], &[("transaction", 4)]),
        (&["SET pgherd.reads = 'primary'", read, read], &[("session", 1), ("setting", 2)]),
        (
            &["SET pgherd.reads = 'any'", "SET pgherd.consistency = 'strong'"],
            &[("setting", 1), ("session", 1)],
        ),
        (&[read, "RESET ALL", "SELECT pg_current_wal_lsn()"], &[("strong", 2), ("function", 1)]),
        (&["/*NO LOAD BALANCE*/ SELECT 1", "SELECT FROM pg_stat_activity"], &[("hint", 1), ("server", 1)]),
        (&["CREATE TEMPORARY TABLE mine (n int)", read, read], &[("writes", 1), ("pinned", 2)]),
    ] {
        run(&mut client, statements).await?;
        for (reason, queries) in expected {
            *wanted.entry((*reason).to_owned()).or_default() += queries;
        }
    }
    let differ = async || -> Result<BTreeMap<String, i64>> {
        let mut after = reasons(&herd).await?;
        after.iter_mut().for_each(|(reason, queries)| *queries -= before.get(reason).unwrap_or(&0));
        after.retain(|_, queries| *queries > 0);
        Ok(after)
    };
    // The last are counted once their session is at rest.
    eventually("all are counted", PATIENCE, || async {
        let mut found = differ().await?;
        // The stranger may have been told what it read last before that was counted.
        found.entry("read".to_owned()).and_modify(|reads| *reads = (*reads).min(2));
        ensure!(found == wanted, "{found:?} and not {wanted:?}");
        Ok(Some(()))
    })
    .await?;
    standby.stop_immediate().await?;
    herd.wait_readable("").await?;
    let mut other = herd.raw().await?;
    run(&mut other, &[read]).await?;
    eventually("there is no standby", PATIENCE, || async {
        Ok((differ().await?.get("no_standby") == Some(&1)).then_some(()))
    })
    .await
}
