//! What a session leaves behind reaches no other client, however it is written.

use pgherd_testkit::client::frontend;
use pgherd_testkit::{Result, ensure};

use crate::front::{Front, execute, messages};

/// A FunctionCall of `set_config('work_mem', '7MB', false)`.
fn fast_path() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&2078_u32.to_be_bytes());
    body.extend_from_slice(&0_u16.to_be_bytes());
    body.extend_from_slice(&3_u16.to_be_bytes());
    for argument in ["work_mem", "7MB", "false"] {
        body.extend_from_slice(&u32::try_from(argument.len()).unwrap_or_default().to_be_bytes());
        body.extend_from_slice(argument.as_bytes());
    }
    body.extend_from_slice(&0_u16.to_be_bytes());
    let length = u32::try_from(body.len() + 4).unwrap_or_default();
    [&b"F"[..], &length.to_be_bytes(), &body].concat()
}

#[tokio::test]
async fn a_setting_that_one_client_made_is_not_in_force_for_another() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let query = |text: &str| messages(|out| frontend::query(text, out)).map(|bytes| bytes.to_vec());
    let long = format!("SELECT '{}'; SELECT set_config('work_mem', '7MB', false)", "x".repeat(40_000));
    let cases = [
        ("behind a literal that looks like a comment", query("SELECT ';--'; SET work_mem = '7MB'")?),
        ("behind a literal that looks like an open comment", query("SELECT ';/*'; SET work_mem = '7MB'")?),
        ("with a comment in it", query("SET /* local */ work_mem = '7MB'")?),
        ("by the view of settings", query("UPDATE pg_settings SET setting = '7MB' WHERE name = 'work_mem'")?),
        ("at the end of a long text", query(&long)?),
        ("by a function call of the protocol", fast_path()),
    ];
    let mut leaks = Vec::new();
    for (what, bytes) in cases {
        let (mut one, mut other) = (front.raw().await?, front.raw().await?);
        one.send(&bytes).await?;
        let answer = one.read_answer().await?;
        ensure!(answer.error().is_none(), "{what}: {answer:?}");
        let kept = one.query("SHOW work_mem").await?.rows();
        let seen = other.query("SHOW work_mem").await?.rows();
        if seen != [[Some("4MB".into())]] {
            leaks.push(format!("{what}: the client itself sees {kept:?}, another {seen:?}"));
        }
        other.query("DISCARD ALL").await?;
    }
    ensure!(leaks.is_empty(), "{leaks:#?}");
    Ok(())
}

#[tokio::test]
async fn a_parameter_of_ones_own_whose_class_is_named_local_is_not_seen_by_another() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    ensure!(one.query("SET local.tenant = 'mine'").await?.error().is_none());
    let seen = other.query("SELECT current_setting('local.tenant', true)").await?.rows();
    ensure!(seen != [[Some("mine".into())]], "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_temporary_table_made_at_the_end_of_a_long_text_stays_with_its_client() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let (mut one, mut other) = (front.raw().await?, front.raw().await?);
    let long = format!("SELECT '{}'; CREATE TEMP TABLE mine AS SELECT 1 AS n", "x".repeat(40_000));
    ensure!(one.query(&long).await?.error().is_none());
    let seen = other.query("SELECT * FROM mine").await?;
    ensure!(seen.error().is_some_and(|error| error.code() == "42P01"), "{seen:?}");
    ensure!(one.query("SELECT * FROM mine").await?.rows() == [[Some("1".into())]]);
    Ok(())
}

#[tokio::test]
async fn a_statement_read_under_settings_of_a_transaction_that_its_client_left_is_not_anothers() -> Result<()>
{
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    let month = "SELECT extract(month FROM date '01/02/2026')::int";
    let parse = messages(|out| {
        frontend::parse("s", month, [], out)?;
        frontend::sync(out);
        Ok(())
    })?;
    let execute = execute("s", &[])?;
    let (mut one, mut other, mut holder) = (front.raw().await?, front.raw().await?, front.raw().await?);
    for client in [&mut one, &mut holder] {
        client.send(&parse).await?;
        client.read_answer().await?;
    }
    // The server has no statements any more.
    other.query("DISCARD ALL").await?;
    one.query("BEGIN; SET LOCAL DateStyle = 'ISO, DMY'").await?;
    one.send(&execute).await?;
    ensure!(one.read_answer().await?.rows() == [[Some("2".into())]]);
    // In the middle of its transaction.
    drop(one);
    other.send(&[&parse[..], &execute].concat()).await?;
    other.read_answer().await?;
    let seen = other.read_answer().await?.rows();
    ensure!(seen == [[Some("1".into())]], "{seen:?}");
    Ok(())
}
