//! Sessions that do nothing but LISTEN share a server connection, and hear each notification once.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgherd_testkit::client::{Answer, Frame, RawClient, frontend};
use pgherd_testkit::{Context, Result, anyhow, ensure, eventually};

use crate::front::{Front, PATIENCE, messages};

const HANDED_OVER: &str = "channels were handed over";

/// The channel and payload of a notification.
fn heard(frame: &Frame) -> Option<(String, String)> {
    let mut parts = frame.payload.get(4..)?.split(|byte| *byte == 0);
    let mut text = || parts.next().map(|part| String::from_utf8_lossy(part).into_owned());
    (frame.tag == b'A').then(|| Some((text()?, text()?)))?
}

fn notifications(answer: &Answer) -> Vec<(String, String)> {
    answer.frames.iter().filter_map(heard).collect()
}

async fn done(client: &mut RawClient, sql: &str) -> Result<Answer> {
    let answer = client.query(sql).await?;
    ensure!(answer.error().is_none(), "{sql}: {answer:?}");
    Ok(answer)
}

async fn sharing() -> Result<Front> {
    Front::with(|pgherd| pgherd.set("pool.size", 2).set("pool.pinned_size", 2).set("log.level", "debug"))
        .await
}

/// Waits until channels were handed over so many times in all.
async fn wait_handed_over(front: &Front, times: usize) -> Result<()> {
    eventually(format!("{times} times \"{HANDED_OVER}\""), PATIENCE, || async {
        let count = front.pgherd.log().iter().filter(|line| line.contains(HANDED_OVER)).count();
        Ok((count >= times).then_some(()))
    })
    .await
}

#[tokio::test]
async fn many_more_sessions_listen_than_there_are_server_connections() -> Result<()> {
    const SESSIONS: usize = 40;
    let front = sharing().await?;
    let mut listeners = Vec::new();
    for _ in 0..SESSIONS {
        let mut client = front.raw().await?;
        done(&mut client, "SET work_mem = '7MB'").await?;
        listeners.push(client);
    }
    // All at once: each waits for its turn, which comes when others have handed over.
    for (number, client) in listeners.iter_mut().enumerate() {
        let sql = format!("LISTEN everybody; LISTEN \"only {number}\"");
        client.send(&messages(|out| frontend::query(&sql, out))?).await?;
    }
    for client in &mut listeners {
        let answer = client.read_answer().await?;
        ensure!(answer.error().is_none(), "{answer:?}");
    }
    wait_handed_over(&front, SESSIONS).await?;
    front.wait_all_idle(4).await?;
    let server = front.server()?;
    server.query_in("app", "NOTIFY everybody, 'all'").await?;
    for number in 0..SESSIONS {
        server.query_in("app", &format!("NOTIFY \"only {number}\", 'you'")).await?;
    }
    for (number, client) in listeners.iter_mut().enumerate() {
        let expected =
            [("everybody".to_owned(), "all".to_owned()), (format!("only {number}"), "you".to_owned())];
        for expected in expected {
            ensure!(heard(&client.expect_frame().await?) == Some(expected.clone()), "{number}: {expected:?}");
        }
    }
    // Others are served meanwhile, and what a listener has set is in force for what it does next.
    let mut other = front.raw().await?;
    done(&mut other, "SELECT 1").await?;
    let rows = done(&mut listeners[0], "SHOW work_mem").await?.rows();
    ensure!(rows == [[Some("7MB".into())]], "{rows:?}");
    Ok(())
}

/// Listens to numbers, and speaks now and then so that it takes its channel back; gives what it heard up to `end`.
async fn hear_numbers(front: &Front, has_spoken: &Cell<usize>) -> Result<Vec<String>> {
    let mut client = front.raw().await?;
    let mut numbers = Vec::new();
    done(&mut client, "LISTEN numbers").await?;
    // Longer each time, as a session waits longer each time before it hands over.
    let mut pauses = [400, 900, 1800, 3600].map(Duration::from_millis).into_iter();
    let mut pause = pauses.next();
    let mut since = Instant::now();
    loop {
        let frame = client.expect_frame().await?;
        numbers.extend(heard(&frame).map(|(_, payload)| payload));
        if pause.is_some_and(|pause| since.elapsed() >= pause) {
            let answer = done(&mut client, "SELECT 1").await?;
            numbers.extend(notifications(&answer).into_iter().map(|(_, payload)| payload));
            (since, pause) = (Instant::now(), pauses.next());
            has_spoken.set(has_spoken.get() + 1);
        }
        if numbers.last().is_some_and(|last| last == "end") {
            return Ok(numbers);
        }
    }
}

#[tokio::test]
async fn a_session_that_hands_over_and_takes_back_misses_nothing_and_hears_nothing_twice() -> Result<()> {
    const SESSIONS: usize = 3;
    let front = sharing().await?;
    let notifier = front.server()?.connect("app", "app").await?;
    let has_spoken = Cell::new(0);
    let notify = async {
        let mut number = 0;
        while has_spoken.get() < SESSIONS * 4 {
            let several: Vec<_> =
                (number..number + 5).map(|number| format!("NOTIFY numbers, '{number}'")).collect();
            number += 5;
            notifier.batch_execute(&several.join(";")).await?;
        }
        notifier.batch_execute("NOTIFY numbers, 'end'").await?;
        Result::<()>::Ok(())
    };
    let listen = || hear_numbers(&front, &has_spoken);
    let (_, one, two, three) = tokio::try_join!(notify, listen(), listen(), listen())?;
    for mut numbers in [one, two, three] {
        numbers.pop();
        let first: u32 = numbers.first().context("nothing was heard")?.parse()?;
        for (expected, number) in (first..).zip(&numbers) {
            ensure!(*number == expected.to_string(), "{number} instead of {expected}");
        }
    }
    wait_handed_over(&front, 1).await
}

#[tokio::test]
async fn a_session_that_has_handed_over_is_like_any_other_when_it_speaks_again() -> Result<()> {
    let front = sharing().await?;
    let server = front.server()?;
    let mut client = front.raw().await?;
    done(&mut client, "LISTEN a; LISTEN b").await?;
    wait_handed_over(&front, 1).await?;
    // Its own notification comes before ReadyForQuery, as from PostgreSQL.
    let answer = done(&mut client, "NOTIFY a, 'mine'").await?;
    ensure!(notifications(&answer) == [("a".to_owned(), "mine".to_owned())], "{answer:?}");
    let rows = done(&mut client, "SELECT pg_listening_channels()").await?.rows();
    ensure!(rows == [[Some("a".into())], [Some("b".into())]], "{rows:?}");
    done(&mut client, "BEGIN; UNLISTEN a; ROLLBACK; UNLISTEN b").await?;
    wait_handed_over(&front, 2).await?;
    server.query_in("app", "NOTIFY b; NOTIFY a, 'still'").await?;
    ensure!(heard(&client.expect_frame().await?) == Some(("a".to_owned(), "still".to_owned())));
    done(&mut client, "DISCARD ALL").await?;
    server.query_in("app", "NOTIFY a").await?;
    let answer = done(&mut client, "SELECT pg_listening_channels()").await?;
    ensure!(answer.rows().is_empty() && notifications(&answer).is_empty(), "{answer:?}");
    drop(client);
    front.wait_all_idle(4).await
}

#[tokio::test]
async fn a_session_whose_listener_is_lost_is_told_so() -> Result<()> {
    let front = sharing().await?;
    let mut client = front.raw().await?;
    done(&mut client, "LISTEN a").await?;
    wait_handed_over(&front, 1).await?;
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'";
    front.server()?.scalar(sql).await?;
    let frames = client.read_to_end().await?;
    let error = frames.iter().find_map(Frame::error_fields).ok_or_else(|| anyhow!("{frames:?}"))?;
    ensure!(error.code() == "57P01" && error.severity() == "FATAL", "{error}");
    // Those that were idle are ended at their own pace.
    front.wait_all_idle(0).await?;
    let mut next = front.raw().await?;
    done(&mut next, "LISTEN a").await?;
    wait_handed_over(&front, 2).await?;
    front.server()?.query_in("app", "NOTIFY a, 'again'").await?;
    ensure!(heard(&next.expect_frame().await?) == Some(("a".to_owned(), "again".to_owned())));
    Ok(())
}

#[tokio::test]
async fn a_pause_ends_those_who_would_miss_what_is_told_meanwhile() -> Result<()> {
    let front = sharing().await?;
    let mut console = front.console("pgherd").await?;
    let (mut shares, mut other) = (front.raw().await?, front.raw().await?);
    done(&mut other, "SELECT 1").await?;
    done(&mut shares, "LISTEN a").await?;
    wait_handed_over(&front, 1).await?;
    // One that has a connection of its own, still.
    let mut listens = front.raw().await?;
    done(&mut listens, "LISTEN a").await?;
    done(&mut console, "PAUSE app").await?;
    for client in [&mut shares, &mut listens] {
        let frames = client.read_to_end().await?;
        let error = frames.iter().find_map(Frame::error_fields).ok_or_else(|| anyhow!("{frames:?}"))?;
        ensure!(error.code() == "57P01" && error.severity() == "FATAL", "{error}");
        ensure!(error.field(b'D').is_some_and(|detail| detail.contains("paused")), "{error:?}");
    }
    front.wait_all_idle(0).await?;
    done(&mut console, "RESUME app").await?;
    done(&mut other, "SELECT 1").await?;
    let mut next = front.raw().await?;
    done(&mut next, "LISTEN a").await?;
    front.server()?.query_in("app", "NOTIFY a, 'again'").await?;
    ensure!(heard(&next.expect_frame().await?) == Some(("a".to_owned(), "again".to_owned())));
    Ok(())
}
