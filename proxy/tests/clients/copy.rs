//! COPY in both directions, and results of any size.

use pgherd_testkit::client::{RawClient, frontend, psql};
use pgherd_testkit::{Result, ensure};

use crate::front::{Front, comparable, messages};

#[tokio::test]
async fn psql_copies_out_of_and_into_tables() -> Result<()> {
    let front = Front::start().await?;
    let url = front.pgherd.connection_string("app", "app");
    let file = front.cluster.directory().join("copied");
    psql(&url, "CREATE TABLE a AS SELECT n, repeat('x', n % 100) AS t FROM generate_series(1, 20000) AS n")
        .await?;
    psql(&url, "CREATE TABLE b (n int, t text)").await?;
    psql(&url, &format!("\\copy a TO '{}'", file.display())).await?;
    psql(&url, &format!("\\copy b FROM '{}'", file.display())).await?;
    let same = "SELECT (SELECT md5(string_agg(a::text, ',' ORDER BY n)) FROM a) = \
                (SELECT md5(string_agg(b::text, ',' ORDER BY n)) FROM b), (SELECT count(*) FROM b)";
    ensure!(psql(&url, same).await?.trim() == "t|20000");
    Ok(())
}

#[tokio::test]
async fn a_copy_that_fails_on_either_side_is_answered_as_by_postgresql() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 1)).await?;
    front.server()?.query_in("app", "CREATE TABLE t (n int); GRANT ALL ON t TO app").await?;
    let data =
        |line: &'static [u8]| messages(move |out| frontend::CopyData::new(line).map(|data| data.write(out)));
    let start = messages(|out| frontend::query("COPY t FROM STDIN", out))?;
    let done = messages(|out| {
        frontend::copy_done(out);
        Ok(())
    })?;
    let fail = messages(|out| frontend::copy_fail("the client says so", out))?;
    let after = messages(|out| frontend::query("SELECT count(*) FROM t", out))?;
    let many: Vec<u8> = (0..2000).map(|_| data(b"no number\n")).collect::<Result<Vec<_>>>()?.concat();
    for (what, parts) in [
        ("good", vec![&start[..], &data(b"1\n")?, &data(b"2\n3\n")?, &done]),
        ("the client gives up", vec![&start[..], &data(b"1\n")?, &fail]),
        ("the server finds an error while data still comes", vec![&start[..], &many, &done]),
        (
            "a Sync and a Flush in the middle",
            vec![&start[..], b"S\0\0\0\x04", &data(b"4\n")?, b"H\0\0\0\x04", &done],
        ),
    ] {
        front
            .same(what, async |address| {
                let mut client = RawClient::login(address, "app", "app", front.password("app")).await?;
                client.send(&messages(|out| frontend::query("BEGIN", out))?).await?;
                client.read_answer().await?;
                for part in &parts {
                    client.send(part).await?;
                }
                let mut seen = comparable(&client.read_answer().await?.frames);
                client.send(&after).await?;
                seen.extend(comparable(&client.read_answer().await?.frames));
                client.query("ROLLBACK").await?;
                Ok(seen)
            })
            .await?;
    }
    front
        .same("a query in the middle", async |address| {
            let mut client = RawClient::login(address, "app", "app", front.password("app")).await?;
            for part in [&start[..], &data(b"5\n")?, &after] {
                client.send(part).await?;
            }
            Ok(comparable(&client.read_to_end().await?))
        })
        .await?;
    front.wait_all_idle(1).await
}

#[tokio::test]
async fn a_result_far_larger_than_any_buffer_passes_in_little_memory() -> Result<()> {
    let front = Front::start().await?;
    let mut client = front.raw().await?;
    client.query("SELECT 1").await?;
    let before = front.resident()?;
    client.send(&messages(|out| {
        frontend::query("SELECT repeat('x', 1000) FROM generate_series(1, 300000) UNION ALL SELECT repeat('y', 100000000)", out)
    })?)
    .await?;
    let (mut bytes, mut most) = (0_u64, before);
    loop {
        let frame = client.expect_frame().await?;
        bytes += u64::from(frame.length);
        most = most.max(front.resident()?);
        if frame.tag == b'Z' {
            break;
        }
    }
    eprintln!("{bytes} bytes passed; resident memory {before} KiB before, {most} KiB at the most");
    ensure!(bytes > 400_000_000 && most < before + 1024, "{bytes} bytes, {before} to {most} KiB");
    Ok(())
}
