//! Cancel requests that come while pgherd does something of its own on the session's connection: they are for what the client waits for.

use std::time::{Duration, Instant};

use pgherd_testkit::client::{RawClient, Session};
use pgherd_testkit::{Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

use crate::front::{Front, prepare, says};

/// Less than pgherd waits for an answer to a question of its own.
const SOON: Duration = Duration::from_secs(8);

/// A client whose leftovers are being asked for, which takes until the lock of a catalogue is given back by whoever is returned with it.
async fn asked_about(front: &Front) -> Result<(Session, RawClient)> {
    let [postgresql, _] = front.both()?;
    let session = front.connect().await?;
    let mut locker = RawClient::login(postgresql, "postgres", "app", front.password("postgres")).await?;
    for text in ["BEGIN", "LOCK pg_catalog.pg_depend IN ACCESS EXCLUSIVE MODE"] {
        says(&mut locker, text).await?;
    }
    // The server is to be asked whether there is a lock, and of whatever else may be there.
    session.simple_query("SELECT pg_advisory_lock(1)").await?;
    front.wait_running("pg_listening_channels").await?;
    Ok((session, locker))
}

/// Has the session cancelled, and waits until pgherd has acted on it: it closes the connection then, as PostgreSQL does.
async fn cancel(front: &Front, session: &Session) -> Result<()> {
    let stream = TcpStream::connect(front.pgherd.address()).await?.into_std()?;
    let mut answers = TcpStream::from_std(stream.try_clone()?)?;
    session.cancel_token().cancel_query_raw(TcpStream::from_std(stream)?, NoTls).await?;
    answers.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

#[tokio::test]
async fn a_statement_that_waits_behind_a_question_of_pgherds_own_can_be_cancelled() -> Result<()> {
    let front = Front::start().await?;
    let (session, mut locker) = asked_about(&front).await?;
    let token = session.cancel_token();
    let begun = Instant::now();
    let mut statement = std::pin::pin!(session.simple_query("SELECT 1"));
    let answer = loop {
        // The request may come before the statement: then it is for nothing.
        tokio::select! {
            answer = &mut statement => break answer,
            () = tokio::time::sleep(Duration::from_millis(200)) => token.cancel_query(NoTls).await?,
        }
    };
    let code = answer.err().and_then(|error| error.code().cloned());
    ensure!(code.as_ref().is_some_and(|code| code.code() == "57014"), "{code:?}");
    ensure!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    says(&mut locker, "COMMIT").await?;
    let held = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    let rows = session.query(held, &[]).await?;
    ensure!(rows.len() == 1, "the session keeps what it has: {rows:?}");
    Ok(())
}

#[tokio::test]
async fn a_request_that_comes_when_all_was_answered_does_not_end_a_question_of_pgherds_own() -> Result<()> {
    let front = Front::start().await?;
    let (session, mut locker) = asked_about(&front).await?;
    cancel(&front, &session).await?;
    let statement = session.simple_query("SELECT 1");
    let (answer, released) = tokio::join!(statement, async {
        ensure!(front.wait_running("pg_listening_channels").await.is_ok(), "the question was cancelled");
        says(&mut locker, "COMMIT").await
    });
    released?;
    answer?;
    session.simple_query("SELECT pg_advisory_unlock(1)").await?;
    Ok(())
}

/// PostgreSQL has a session's statements already, and waits for no table when it shows them.
#[tokio::test]
async fn a_look_at_its_statements_does_not_wait_for_a_locked_table() -> Result<()> {
    const LOOK: &str = "SELECT name FROM pg_prepared_statements ORDER BY name";
    let front = Front::start().await?;
    let [postgresql, _] = front.both()?;
    let mut locker = front.login(postgresql, &[]).await?;
    says(&mut locker, "CREATE TABLE locked (n int)").await?;
    for (begin, end) in [("SELECT 'no block'", "SELECT 'no block'"), ("BEGIN", "COMMIT")] {
        let mut client = front.raw().await?;
        for (name, text) in [("one", "SELECT n FROM locked"), ("other", "SELECT 'other'")] {
            client.send(&prepare(name, text)?).await?;
            ensure!(client.read_answer().await?.error().is_none());
        }
        says(&mut client, "PREPARE two AS SELECT n + 1 FROM locked").await?;
        says(&mut client, begin).await?;
        says(&mut locker, "BEGIN").await?;
        says(&mut locker, "LOCK locked IN ACCESS EXCLUSIVE MODE").await?;
        let begun = Instant::now();
        let rows = client.query(LOOK).await?.rows();
        ensure!(rows == [[Some("other".into())]], "{begin}: {rows:?}");
        ensure!(begun.elapsed() < SOON, "{begin}: {:?}", begun.elapsed());
        ensure!(says(&mut client, "SHOW lock_timeout").await? == "0");
        says(&mut locker, "COMMIT").await?;
        let rows = client.query(LOOK).await?.rows().concat();
        ensure!(rows == [Some("one".into()), Some("other".into()), Some("two".into())], "{begin}: {rows:?}");
        says(&mut client, "EXECUTE two").await?;
        says(&mut client, end).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_look_that_waits_until_its_statements_are_prepared_can_be_cancelled() -> Result<()> {
    let front = Front::start().await?;
    let [postgresql, _] = front.both()?;
    let mut locker = front.login(postgresql, &[]).await?;
    says(&mut locker, "CREATE TABLE locked (n int)").await?;
    let session = front.connect().await?;
    for n in 0..10 {
        session.simple_query(&format!("PREPARE p{n} AS SELECT n + {n} FROM locked")).await?;
    }
    // What the last one gives is asked behind its answer: that is not to wait for the lock.
    session.simple_query("SELECT 'behind that'").await?;
    says(&mut locker, "BEGIN").await?;
    says(&mut locker, "LOCK locked IN ACCESS EXCLUSIVE MODE").await?;
    let token = session.cancel_token();
    let begun = Instant::now();
    let look = session.simple_query("SELECT name FROM pg_prepared_statements, pg_sleep(30)");
    let (answer, cancelled) = tokio::join!(look, async {
        front.wait_running("FROM locked").await?;
        Result::<()>::Ok(token.cancel_query(NoTls).await?)
    });
    cancelled?;
    let code = answer.err().and_then(|error| error.code().cloned());
    ensure!(code.as_ref().is_some_and(|code| code.code() == "57014"), "{code:?}");
    ensure!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    says(&mut locker, "COMMIT").await?;
    session.simple_query("EXECUTE p1").await?;
    Ok(())
}

#[tokio::test]
async fn a_statement_that_waits_until_what_it_needs_is_prepared_can_be_cancelled() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let [postgresql, _] = front.both()?;
    let (mut other, mut locker) = (front.raw().await?, front.login(postgresql, &[]).await?);
    says(&mut locker, "CREATE TABLE locked (n int)").await?;
    let session = front.connect().await?;
    let statement = session.prepare("SELECT n FROM locked").await?;
    session.simple_query("PREPARE p AS SELECT n + 1 FROM locked").await?;
    let token = session.cancel_token();
    for text in ["", "EXECUTE p", "ROLLBACK; EXECUTE p"] {
        // The only server connection has to be given the statement once more.
        says(&mut other, "DISCARD ALL").await?;
        says(&mut locker, "BEGIN").await?;
        says(&mut locker, "LOCK locked IN ACCESS EXCLUSIVE MODE").await?;
        if text.starts_with("ROLLBACK") {
            ensure!(session.simple_query("BEGIN; SELECT 1/0").await.is_err());
        }
        let executed = async {
            if text.is_empty() {
                session.query(&statement, &[]).await.map(drop)
            } else {
                session.simple_query(text).await.map(drop)
            }
        };
        let (answer, cancelled) = tokio::join!(executed, async {
            front.wait_running("FROM locked").await?;
            Result::<()>::Ok(token.cancel_query(NoTls).await?)
        });
        cancelled?;
        let code = answer.err().and_then(|error| error.code().cloned());
        ensure!(code.as_ref().is_some_and(|code| code.code() == "57014"), "{text}: {code:?}");
        says(&mut locker, "COMMIT").await?;
        session.query(&statement, &[]).await?;
        session.simple_query("EXECUTE p").await?;
    }
    Ok(())
}

/// Where the server is lost meanwhile, a request that has come is for what waited then, and for nothing that comes later.
#[tokio::test]
async fn a_cancel_request_is_not_for_a_later_statement_if_the_server_is_lost_before_it_is_sent() -> Result<()>
{
    let front = Front::start().await?;
    let [postgresql, _] = front.both()?;
    says(&mut front.login(postgresql, &[]).await?, "CREATE TABLE locked (n int)").await?;
    let session = front.connect().await?;
    for n in 0..10 {
        session.simple_query(&format!("PREPARE p{n} AS SELECT n + {n} FROM locked")).await?;
    }
    for (begin, told) in [("SELECT 'no block'", ["57014"; 2]), ("BEGIN", ["40001", "57014"])] {
        session.simple_query(begin).await?;
        let mut locker = front.login(postgresql, &[]).await?;
        says(&mut locker, "BEGIN; LOCK locked IN ACCESS EXCLUSIVE MODE").await?;
        let look = session.simple_query("SELECT name FROM pg_prepared_statements");
        let (answer, lost) = tokio::join!(look, async {
            front.wait_running("FROM locked").await?;
            cancel(&front, &session).await?;
            front.server()?.kill9_all().await
        });
        lost?;
        let code = answer.err().and_then(|error| error.code().cloned());
        ensure!(code.as_ref().is_some_and(|code| told.contains(&code.code())), "{begin}: {code:?}");
        front.server()?.start().await?;
        session.simple_query("ROLLBACK").await?;
        session.simple_query("SELECT pg_sleep(0.5)").await?;
    }
    Ok(())
}
