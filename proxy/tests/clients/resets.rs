//! However a session goes back to its defaults, they are those of its startup packet; and no other client's.

use pgherd_testkit::client::frontend;
use pgherd_testkit::{Result, ensure};

use crate::front::{Front, bind, comparable, execute, extended, messages};

const PARAMETERS: [(&str, &str); 3] =
    [("search_path", "mine"), ("TimeZone", "Asia/Tokyo"), ("options", "-c work_mem=7MB")];
const SHOW: &str = "SELECT current_setting('search_path') || ' ' || current_setting('work_mem') || ' ' || \
                    current_setting('TimeZone')";
const ROLE: [(&str, &str); 1] = [("options", "-c role=guest")];
const WHO: &str = "SELECT current_user";

async fn with_guest() -> Result<Front> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    front.server()?.query("CREATE ROLE guest; GRANT guest TO app").await?;
    Ok(front)
}

#[tokio::test]
async fn a_role_of_one_clients_startup_packet_is_not_another_clients() -> Result<()> {
    let front = with_guest().await?;
    let [_, address] = front.both()?;
    let mut one = front.login(address, &ROLE).await?;
    ensure!(one.query(WHO).await?.rows() == [[Some("guest".into())]]);
    let mut other = front.raw().await?;
    let seen = other.query(WHO).await?.rows();
    ensure!(seen == [[Some("app".into())]], "the other is {seen:?}");
    Ok(())
}

#[tokio::test]
async fn reset_role_goes_back_to_the_role_of_the_startup_packet() -> Result<()> {
    let front = with_guest().await?;
    let mut wrong = Vec::new();
    for reset in
        ["RESET ROLE", "RESET ALL", "SET ROLE TO DEFAULT", "DISCARD ALL", "RESET SESSION AUTHORIZATION"]
    {
        let same = front.same(reset, async |address| {
            let mut one = front.login(address, &ROLE).await?;
            let mut other = front.login(address, &ROLE).await?;
            one.query(reset).await?;
            Ok((one.query(WHO).await?.rows(), other.query(WHO).await?.rows()))
        });
        if let Err(error) = same.await {
            wrong.push(format!("{error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What the client sees of its settings after each of these statements.
async fn after(front: &Front, what: &str, statements: &[&str]) -> Result<()> {
    front
        .same(what, async |address| {
            let mut client = front.login(address, &PARAMETERS).await?;
            let mut seen = Vec::new();
            for sql in statements.iter().chain([&SHOW]) {
                let frames = client.query(sql).await?.frames;
                seen.extend(comparable(&frames).into_iter().filter(|frame| !frame.starts_with('S')));
            }
            Ok(seen)
        })
        .await
        .map(drop)
}

#[tokio::test]
async fn every_spelling_of_a_reset_goes_back_to_the_startup_packet() -> Result<()> {
    let front = Front::start().await?;
    let long = format!("RESET work_mem /* {} */", "x".repeat(40_000));
    let late = format!("SELECT '{}'; RESET work_mem", "x".repeat(40_000));
    let mut wrong = Vec::new();
    for (what, statements) in [
        ("SET TIME ZONE LOCAL", &["SET TIME ZONE LOCAL"][..]),
        ("SET TIME ZONE DEFAULT", &["SET TIME ZONE DEFAULT"]),
        ("SET LOCAL TO DEFAULT", &["BEGIN", "SET LOCAL work_mem TO DEFAULT", SHOW, "COMMIT"]),
        ("set_config of NULL", &["SELECT set_config('work_mem', NULL, false) <> ''"]),
        ("a long text", &[&long]),
        ("the end of a long text", &[&late]),
    ] {
        if let Err(error) = after(&front, what, statements).await {
            wrong.push(format!("{error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_reset_by_the_extended_protocol_goes_back_to_the_startup_packet() -> Result<()> {
    let mut wrong = Vec::new();
    for mode in ["transaction", "session"] {
        let front = Front::with(|pgherd| pgherd.set("pool.mode", mode)).await?;
        for reset in ["RESET work_mem", "DISCARD ALL"] {
            let what = format!("{reset} in {mode} mode");
            let same = front.same(&what, async |address| {
                let mut client = front.login(address, &PARAMETERS).await?;
                client.send(&extended("", reset, &[])?).await?;
                ensure!(client.read_answer().await?.error().is_none());
                Ok(client.query(SHOW).await?.rows())
            });
            if let Err(error) = same.await {
                wrong.push(format!("{error:#}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_reset_that_was_bound_in_an_earlier_batch_reaches_no_other_client() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    front
        .same("bound before", async |address| {
            let mut one = front.login(address, &PARAMETERS).await?;
            let mut other = front.login(address, &PARAMETERS).await?;
            one.query("BEGIN").await?;
            let bound = messages(|out| {
                frontend::parse("", "RESET work_mem", [], out)?;
                bind("", &[], out)?;
                frontend::sync(out);
                Ok(())
            })?;
            let executed = messages(|out| {
                frontend::execute("", 0, out)?;
                frontend::sync(out);
                Ok(())
            })?;
            for bytes in [bound, executed] {
                one.send(&bytes).await?;
                ensure!(one.read_answer().await?.error().is_none());
            }
            one.query("COMMIT").await?;
            Ok((one.query(SHOW).await?.rows(), other.query(SHOW).await?.rows()))
        })
        .await
        .map(drop)
}

#[tokio::test]
async fn a_reset_leaves_the_unnamed_statement_where_it_is() -> Result<()> {
    let front = Front::start().await?;
    front
        .same("unnamed statement", async |address| {
            let mut client = front.login(address, &PARAMETERS).await?;
            let batches = [
                messages(|out| {
                    frontend::parse("r", "RESET work_mem", [], out)?;
                    frontend::parse("", "SELECT 7", [], out)?;
                    frontend::sync(out);
                    Ok(())
                })?,
                execute("r", &[])?,
                execute("", &[])?,
            ];
            client.query("BEGIN").await?;
            let mut seen = Vec::new();
            for batch in batches {
                client.send(&batch).await?;
                seen.push(comparable(&client.read_answer().await?.frames));
            }
            Ok(seen)
        })
        .await
        .map(drop)
}

#[tokio::test]
async fn a_reset_that_was_committed_before_another_transaction_failed_reaches_no_other_client() -> Result<()>
{
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    front
        .same("committed before", async |address| {
            let mut one = front.login(address, &PARAMETERS).await?;
            let mut other = front.login(address, &PARAMETERS).await?;
            one.query("RESET work_mem; COMMIT; BEGIN; SELECT 1/0").await?;
            one.query("ROLLBACK").await?;
            Ok((other.query(SHOW).await?.rows(), one.query(SHOW).await?.rows()))
        })
        .await
        .map(drop)
}

#[tokio::test]
async fn a_copy_behind_a_reset_in_the_same_text_gets_its_rows() -> Result<()> {
    let front = Front::start().await?;
    ensure!(front.raw().await?.query("CREATE TABLE public.copied (n int)").await?.error().is_none());
    front
        .same("copy", async |address| {
            let mut client = front.login(address, &PARAMETERS).await?;
            client
                .send(&messages(|out| frontend::query("RESET work_mem; COPY public.copied FROM STDIN", out))?)
                .await?;
            let mut seen = Vec::new();
            while let Some(frame) = client.read_frame().await? {
                seen.push(frame);
                if seen.last().is_some_and(|frame| matches!(frame.tag, b'G' | b'E' | b'Z')) {
                    break;
                }
            }
            let rows = messages(|out| {
                out.extend_from_slice(b"d\0\0\0\x061\n");
                frontend::copy_done(out);
                Ok(())
            })?;
            client.send(&rows).await?;
            seen.extend(client.read_answer().await?.frames);
            Ok(comparable(&seen))
        })
        .await
        .map(drop)
}

#[tokio::test]
async fn a_reset_under_a_short_statement_timeout_does_not_end_the_session() -> Result<()> {
    let front = Front::start().await?;
    front
        .same("statement_timeout", async |address| {
            let mut client = front.login(address, &PARAMETERS).await?;
            client.query("SET statement_timeout = 1").await?;
            for _ in 0..50 {
                client.query("RESET search_path").await?;
            }
            Ok(client.query("SELECT 1").await?.rows())
        })
        .await
        .map(drop)
}
