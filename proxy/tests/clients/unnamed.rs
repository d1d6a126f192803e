//! Unnamed statements that are parsed again and again are prepared once, and nobody notices.
#![allow(clippy::indexing_slicing, reason = "a test, whose dice have as many sides")]

use std::net::SocketAddr;

use bytes::BytesMut;
use pgherd_testkit::client::{Frame, RawClient, frontend};
use pgherd_testkit::{Result, ensure};

use crate::front::{Front, bind, comparable, extended, messages, says};

/// What sessions run, and how many values it takes.
const TEXTS: &[(&str, usize)] = &[
    ("SELECT * FROM u ORDER BY a, b LIMIT 3", 0),
    ("SELECT a, b FROM u WHERE a = $1 ORDER BY b LIMIT 3", 1),
    ("SELECT a + $1::int, $2::text FROM u ORDER BY a LIMIT 2", 2),
    ("SELECT date '01/02/2003', '2003-02-01'::date::text", 0),
    ("SELECT count(*) FROM u WHERE c <= 'today'", 0),
    ("SELECT 7 / ($1::int - 7)", 1),
    ("SELECT nothing FROM u WHERE a = $1", 1),
    ("SELECT x FROM u ORDER BY x LIMIT 1", 0),
    ("SELEC $1", 1),
    ("WITH w AS (SELECT $1::int AS n) SELECT n * 2 FROM w", 1),
    ("VALUES ($1::int), (3)", 1),
    ("INSERT INTO u (a, b, c) VALUES ($1, $2, '2003-02-01')", 2),
    ("INSERT INTO u (a, b) VALUES ($1, $2) RETURNING a, b", 2),
    ("UPDATE u SET b = b || $1 WHERE a = 5", 1),
    ("DELETE FROM u WHERE a > $1", 1),
    ("SELECT current_setting('work_mem'), current_schema()", 0),
    ("SHOW datestyle", 0),
];
/// What they say in between.
const QUERIES: &[&str] = &[
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SET datestyle = 'ISO, DMY'",
    "RESET datestyle",
    "SET search_path = other, public",
    "RESET search_path",
    "SET LOCAL work_mem = '1MB'",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "CREATE TEMP TABLE IF NOT EXISTS u (a int, b text DEFAULT 'temporary', c date)",
    "DO $$ BEGIN DROP TABLE pg_temp.u; EXCEPTION WHEN others THEN NULL; END $$",
    "SELECT 'plain'",
];
/// What changes the schema, by a session or, but for the first two, past pgherd: until pgherd hears of it, a parameter has the type that it
/// had before.
const CHANGES: &[&str] = &[
    "ALTER TABLE public.u ALTER a TYPE bigint",
    "ALTER TABLE public.u ALTER a TYPE int",
    "ALTER TABLE public.u ADD COLUMN IF NOT EXISTS x int DEFAULT 9",
    "ALTER TABLE public.u DROP COLUMN IF EXISTS x",
    "DROP TABLE IF EXISTS other.u",
    "CREATE TABLE IF NOT EXISTS other.u (a int, b text DEFAULT 'other', c date)",
    "ALTER TABLE public.u RENAME TO v; ALTER TABLE public.v RENAME TO u",
];
const STEPS: u32 = 700;

/// Numbers that look random, and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> Result<usize> {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Ok(usize::try_from(self.0 >> 33)? % sides)
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> Result<&'a T> {
        Ok(&of[self.roll(of.len())?])
    }
}

/// A batch that runs a text, in one of the ways in which clients do.
fn batch(dice: &mut Dice) -> Result<Vec<BytesMut>> {
    let (text, count) = *dice.one(TEXTS)?;
    let values = ["7", "5", "007", "x"];
    let mut given = Vec::new();
    // Now and then one too many, or of another kind.
    let wrong = usize::from(dice.roll(25)? == 0);
    for _ in 0..count + wrong {
        given.push(values[dice.roll(values.len() * 3)?.saturating_sub(values.len() * 2)]);
    }
    let run = extended("", text, &given)?;
    Ok(match dice.roll(8)? {
        // Parsed and described first.
        0 => vec![
            messages(|out| {
                frontend::parse("", text, [], out)?;
                frontend::describe(b'S', "", out)?;
                frontend::sync(out);
                Ok(())
            })?,
            messages(|out| {
                bind("", &given, out)?;
                frontend::execute("", 0, out)?;
                frontend::sync(out);
                Ok(())
            })?,
        ],
        // Two in one batch.
        1 => {
            let (other, _) = *dice.one(&TEXTS[..1])?;
            let mut both = run.clone();
            both.truncate(run.len() - 5);
            both.extend_from_slice(&extended("", other, &[])?);
            vec![both]
        }
        // With the types of its parameters.
        2 if count == 1 => vec![messages(|out| {
            frontend::parse("", text, [23], out)?;
            bind("", &given, out)?;
            frontend::describe(b'P', "", out)?;
            frontend::execute("", 1, out)?;
            frontend::sync(out);
            Ok(())
        })?],
        _ => vec![run],
    })
}

/// As [`comparable`], without the numbers of tables: those are made anew for each conversation.
fn told_of(frames: &[Frame]) -> Vec<String> {
    let without_numbers = |frame: &Frame| {
        let mut payload = frame.payload.to_vec();
        let mut at = 2;
        while frame.tag == b'T'
            && let Some(end) = payload.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0))
            && let Some(number) = payload.get_mut(at + end + 1..at + end + 5)
        {
            number.fill(0);
            at += end + 1 + 18;
        }
        Frame { payload: payload.into(), ..frame.clone() }
    };
    comparable(&frames.iter().map(without_numbers).collect::<Vec<_>>())
}

/// Two sessions do what the dice say; what they are told.
async fn converse(front: &Front, address: SocketAddr, seed: u64) -> Result<Vec<String>> {
    let [postgresql, _] = front.both()?;
    let login = async |address| RawClient::login(address, "app", "app", front.password("app")).await;
    let mut past_pgherd = login(postgresql).await?;
    for text in [
        "DROP SCHEMA IF EXISTS other CASCADE; DROP TABLE IF EXISTS u; CREATE SCHEMA other",
        "CREATE TABLE u (a int, b text DEFAULT 'public', c date DEFAULT '2003-02-01')",
        "INSERT INTO u (a) SELECT n FROM generate_series(1, 20) AS n",
    ] {
        says(&mut past_pgherd, text).await?;
    }
    let (mut sessions, mut dice, mut told) =
        ([login(address).await?, login(address).await?], Dice(seed), Vec::new());
    for step in 0..STEPS {
        let session = &mut sessions[dice.roll(2)?];
        let mut sent = Vec::new();
        match dice.roll(20)? {
            0 => {
                let text = *dice.one(&CHANGES[2..])?;
                let answer = past_pgherd.query(text).await?;
                told.push(format!("{step} past pgherd {text}: {:?}", comparable(&answer.frames)));
                continue;
            }
            1 => {
                let text = *dice.one(CHANGES)?;
                sent.push(messages(|out| frontend::query(text, out))?);
            }
            2..=4 => {
                let text = *dice.one(QUERIES)?;
                sent.push(messages(|out| frontend::query(text, out))?);
            }
            _ => sent = batch(&mut dice)?,
        }
        for sent in sent {
            session.send(&sent).await?;
            let answer = told_of(&session.read_answer().await?.frames);
            let sent = String::from_utf8_lossy(&sent).replace('\0', " ");
            told.push(format!("{step} {sent}: {answer:?}"));
        }
    }
    Ok(told)
}

/// `PGHERD_UNNAMED=100` has so many conversations of each kind instead of one or two.
#[tokio::test]
async fn what_is_parsed_again_and_again_is_answered_as_by_postgresql() -> Result<()> {
    let count = std::env::var("PGHERD_UNNAMED").ok().and_then(|count| count.parse::<u64>().ok());
    for (plans, seeds) in [("custom", 1..3), ("auto", 1001..1002)] {
        let front =
            Front::with(|pgherd| pgherd.set("pool.size", 2).set("pool.prepare_unnamed", plans)).await?;
        let [postgresql, pgherd] = front.both()?;
        // One session waits for the other, which says nothing meanwhile.
        front.server()?.query("ALTER ROLE app SET lock_timeout = '20ms'").await?;
        for seed in seeds.start..count.map_or(seeds.end, |count| seeds.start + count) {
            let expected = converse(&front, postgresql, seed).await?;
            let answers = converse(&front, pgherd, seed).await?;
            for (expected, answer) in expected.iter().zip(&answers) {
                ensure!(
                    expected == answer,
                    "seed {seed}, {plans}:\n  PostgreSQL {expected}\n  pgherd     {answer}"
                );
            }
            ensure!(expected.len() == answers.len(), "{} and {} answers", expected.len(), answers.len());
        }
    }
    Ok(())
}

#[tokio::test]
async fn it_is_prepared_once_on_each_connection_and_planned_for_its_values() -> Result<()> {
    for (plans, generic) in [("custom", "0"), ("auto", "15"), ("off", "")] {
        let front =
            Front::with(|pgherd| pgherd.set("pool.size", 1).set("pool.prepare_unnamed", plans)).await?;
        let mut client = front.raw().await?;
        for number in 0..21_u32 {
            client.send(&extended("", "SELECT $1::int + 1 AS seen", &[&number.to_string()])?).await?;
            let answer = client.read_answer().await?;
            ensure!(answer.value() == Some((number + 1).to_string()), "{answer:?}");
        }
        // Not by its name: a session that looks at it has its statements for itself.
        let asked = "DO $$ DECLARE seen text; BEGIN EXECUTE 'SELECT generic_plans FROM pg_prepared_' || \
                     'statements WHERE statement LIKE ''%AS seen''' INTO seen; \
                     RAISE EXCEPTION 'seen: %', coalesce(seen, ''); END $$";
        let answer = client.query(asked).await?;
        let error = answer.error();
        let seen =
            error.as_ref().and_then(|error| error.message().strip_prefix("seen: ")).unwrap_or("nothing");
        ensure!(seen == generic, "{plans}: {seen} generic plans");
    }
    Ok(())
}
