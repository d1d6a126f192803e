//! Prepared statements from before a migration, in transaction mode: as on a connection of their client's own, wherever they are
//! served.

use std::net::SocketAddr;

use bytes::BytesMut;
use pgherd_testkit::client::{Frame, RawClient, frontend};
use pgherd_testkit::{Result, ensure};

use crate::front::{Front, bind, execute, messages, prepare, says};

/// All that an answer says but for the tables' numbers, and the lines of PostgreSQL's sources. Of an error, these fields.
fn seen(frames: &[Frame], fields: &str) -> Vec<String> {
    let columns = |frame: &Frame| {
        let mut rest = frame.payload.get(2..)?;
        let mut columns = Vec::new();
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            let (name, behind) = rest.split_at(end);
            columns.push(format!("{} {:?}", String::from_utf8_lossy(name), behind.get(7..19)?));
            rest = behind.get(19..)?;
        }
        Some(columns.join(", "))
    };
    let describe = |frame: &Frame| match (frame.error_fields(), frame.tag) {
        (Some(error), _) => {
            let fields = fields.chars().filter_map(|code| error.field(u8::try_from(code).ok()?));
            fields.collect::<Vec<_>>().join(" | ")
        }
        (None, b'T') => columns(frame).unwrap_or_default(),
        (None, tag) => format!("{} {:?}", char::from(tag), frame.payload),
    };
    frames.iter().map(describe).collect()
}

const ALL: &str = "SVCMDHPFR";

/// Two server connections. A client who has prepared something on one is served by the other while somebody holds the first.
struct Stage<'a> {
    front: &'a Front,
    address: SocketAddr,
    holder: RawClient,
    all: Vec<String>,
}

impl<'a> Stage<'a> {
    async fn new(front: &'a Front, address: SocketAddr) -> Result<Self> {
        Ok(Self { front, address, holder: front.login(address, &[]).await?, all: Vec::new() })
    }

    async fn client(&self) -> Result<RawClient> {
        // Not one plan for one server connection, and another for the other.
        self.front.login(self.address, &[("plan_cache_mode", "force_custom_plan")]).await
    }

    /// The connection that was used last is in use from now on, and the other one is free.
    async fn swap(&mut self) -> Result<()> {
        let mut next = self.client().await?;
        ensure!(next.query("BEGIN").await?.error().is_none());
        ensure!(self.holder.query("ROLLBACK").await?.error().is_none());
        self.holder = next;
        Ok(())
    }

    async fn say(&mut self, client: &mut RawClient, bytes: &[u8]) -> Result<()> {
        client.send(bytes).await?;
        self.all.extend(seen(&client.read_answer().await?.frames, ALL));
        Ok(())
    }

    async fn query(&mut self, client: &mut RawClient, sql: &str) -> Result<()> {
        self.say(client, &messages(|out| frontend::query(sql, out))?).await
    }
}

fn describe(name: &str) -> Result<BytesMut> {
    messages(|out| {
        frontend::describe(b'S', name, out)?;
        frontend::sync(out);
        Ok(())
    })
}

/// What is there before, the statement, its parameters, the migration, and what undoes it.
const MIGRATIONS: &[Migration] = &[
    ("a int", "SELECT * FROM m", &[], "ALTER TABLE m ADD b int", "ALTER TABLE m DROP b"),
    ("a int", "SELECT * FROM m", &[], "ALTER TABLE m ALTER a TYPE bigint", "ALTER TABLE m ALTER a TYPE int"),
    (
        "a varchar(9)",
        "SELECT a FROM m",
        &[],
        "ALTER TABLE m ALTER a TYPE varchar(10)",
        "ALTER TABLE m ALTER a TYPE varchar(9)",
    ),
    ("a int", "SELECT * FROM m", &[], "ALTER TABLE m RENAME a TO b", "ALTER TABLE m RENAME b TO a"),
    ("a int", "SELECT * FROM m", &[], "DROP TABLE m; CREATE TABLE m (a int)", "SELECT 1"),
    ("a int", "SELECT a FROM m", &[], "ALTER TABLE m DROP a", "ALTER TABLE m ADD a int"),
    ("a int, b int", "INSERT INTO m VALUES (1)", &[], "ALTER TABLE m DROP b", "ALTER TABLE m ADD b int"),
    (
        "a int",
        "SELECT count(*) FROM m WHERE a = $1",
        &["7"],
        "ALTER TABLE m ALTER a TYPE text",
        "ALTER TABLE m ALTER a TYPE int USING a::int",
    ),
    (
        "a int",
        "DELETE FROM m WHERE a < $1 RETURNING *",
        &["0"],
        "ALTER TABLE m ADD b text",
        "ALTER TABLE m DROP b",
    ),
];

/// What a client does with what it has prepared, on one server connection and on the other.
async fn use_all(stage: &mut Stage<'_>, client: &mut RawClient, parameters: &[&str]) -> Result<()> {
    let arguments =
        if parameters.is_empty() { String::new() } else { format!("({})", parameters.join(", ")) };
    for _ in 0..2 {
        stage.say(client, &execute("s", parameters)?).await?;
        stage.say(client, &describe("s")?).await?;
        for sql in [
            format!("EXECUTE p{arguments}"),
            format!("EXPLAIN (COSTS OFF) EXECUTE p{arguments}"),
            format!("INSERT INTO trace VALUES (1); EXECUTE p{arguments}; INSERT INTO trace VALUES (2)"),
        ] {
            // A place in an error may be one in the text of the PREPARE, which is a little longer on the server.
            stage.all.extend(seen(&client.query(&sql).await?.frames, "SVCMDHFR"));
        }
        stage.query(client, "BEGIN; INSERT INTO trace VALUES (3)").await?;
        stage.say(client, &execute("s", parameters)?).await?;
        stage.query(client, "SELECT count(*) FROM trace").await?;
        stage.query(client, "ROLLBACK").await?;
        // All in one batch: what went before is taken back with it.
        let batch = messages(|out| {
            frontend::parse("", "INSERT INTO trace VALUES (4)", [], out)?;
            bind("", &[], out)?;
            frontend::execute("", 0, out)?;
            bind("s", parameters, out)?;
            frontend::execute("", 0, out)?;
            frontend::sync(out);
            frontend::query("SELECT count(*) FROM trace", out)
        })?;
        stage.say(client, &batch).await?;
        stage.all.extend(seen(&client.read_answer().await?.frames, ALL));
        stage.query(client, "DELETE FROM trace").await?;
        stage.swap().await?;
    }
    Ok(())
}

type Migration = (&'static str, &'static str, &'static [&'static str], &'static str, &'static str);

async fn migrate(
    front: &Front,
    address: SocketAddr,
    is_beside: bool,
    (columns, sql, parameters, migration, back): Migration,
) -> Result<Vec<String>> {
    let mut stage = Stage::new(front, address).await?;
    let mut client = stage.client().await?;
    let mut other = front.login(if is_beside { front.both()?[0] } else { address }, &[]).await?;
    for sql in [
        "DROP TABLE IF EXISTS m, trace",
        &format!("CREATE TABLE m ({columns})"),
        "CREATE TABLE trace (n int)",
    ] {
        ensure!(other.query(sql).await?.error().is_none(), "{sql}");
    }
    stage.say(&mut client, &prepare("s", sql)?).await?;
    stage.query(&mut client, &format!("PREPARE p AS {sql}")).await?;
    for change in ["SELECT 1", migration, back] {
        ensure!(other.query(change).await?.error().is_none(), "{change}");
        use_all(&mut stage, &mut client, parameters).await?;
        if !is_beside {
            // What is prepared now is what it says now.
            let mut fresh = stage.client().await?;
            stage.say(&mut fresh, &prepare("s", sql)?).await?;
            stage.say(&mut fresh, &describe("s")?).await?;
            stage.say(&mut fresh, &execute("s", parameters)?).await?;
        }
    }
    // Given up and prepared again it is what it says, too.
    ensure!(other.query(migration).await?.error().is_none());
    stage.query(&mut client, "DEALLOCATE s").await?;
    stage.query(&mut client, "DEALLOCATE p").await?;
    stage.say(&mut client, &prepare("s", sql)?).await?;
    stage.query(&mut client, &format!("PREPARE p AS {sql}")).await?;
    use_all(&mut stage, &mut client, parameters).await?;
    Ok(stage.all)
}

async fn all_migrations(is_beside: bool) -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 3)).await?;
    let [postgresql, pgherd] = front.both()?;
    let mut wrong = Vec::new();
    for all in MIGRATIONS {
        let (columns, sql, _, migration, _) = all;
        let expected = migrate(&front, postgresql, is_beside, *all).await?;
        let told = migrate(&front, pgherd, is_beside, *all).await?;
        let differ = expected.iter().zip(&told).enumerate().find(|(_, (expected, told))| expected != told);
        if let Some((at, (expected, told))) = differ {
            wrong.push(format!("{sql} of {columns}, {migration}, answer {at}: {told} instead of {expected}"));
        }
        ensure!(expected.len() == told.len() || !wrong.is_empty(), "{told:?} instead of {expected:?}");
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_statement_from_before_a_migration_is_what_it_was_or_fails_as_in_postgresql() -> Result<()> {
    all_migrations(false).await
}

#[tokio::test]
async fn the_same_where_the_migration_does_not_go_through_pgherd() -> Result<()> {
    all_migrations(true).await
}

/// As drivers do that must know what it gives before they execute it.
#[tokio::test]
async fn the_unnamed_statement_is_what_its_client_was_told_too() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 3)).await?;
    front
        .same("the unnamed statement", async |address| {
            let mut stage = Stage::new(&front, address).await?;
            let mut other = front.login(address, &[]).await?;
            for sql in ["DROP TABLE IF EXISTS m", "CREATE TABLE m (a int)", "INSERT INTO m VALUES (1)"] {
                ensure!(other.query(sql).await?.error().is_none(), "{sql}");
            }
            for migration in ["SELECT 1", "ALTER TABLE m ADD b int", "ALTER TABLE m DROP a"] {
                let mut client = stage.client().await?;
                let parse = messages(|out| {
                    frontend::parse("", "SELECT * FROM m", [], out)?;
                    frontend::describe(b'S', "", out)?;
                    frontend::sync(out);
                    Ok(())
                })?;
                stage.say(&mut client, &parse).await?;
                ensure!(other.query(migration).await?.error().is_none(), "{migration}");
                for _ in 0..2 {
                    stage.swap().await?;
                    stage.say(&mut client, &execute("", &[])?).await?;
                }
                stage.query(&mut client, "BEGIN").await?;
                stage.say(&mut client, &parse).await?;
                stage.say(&mut client, &execute("", &[])?).await?;
                stage.query(&mut client, "ROLLBACK").await?;
            }
            Ok(stage.all)
        })
        .await
        .map(drop)
}

/// The numbers of the types that a statement's parameters have.
fn types(frames: &[Frame]) -> Option<&[u8]> {
    frames.iter().find(|frame| frame.tag == b't').map(|frame| &frame.payload[..])
}

#[tokio::test]
async fn what_was_prepared_in_a_transaction_that_made_a_type_is_nobody_elses() -> Result<()> {
    let front = Front::start().await?;
    let [_, pgherd] = front.both()?;
    let sql = "SELECT $1::mood";
    let makes =
        ["CREATE TYPE mood AS ENUM ('fine')", "DO $$ BEGIN CREATE TYPE mood AS ENUM ('fine'); END $$"];
    for make in makes {
        let mut given_up = front.login(pgherd, &[]).await?;
        for text in ["BEGIN", make] {
            ensure!(given_up.query(text).await?.error().is_none(), "{text}");
        }
        given_up.send(&prepare("s", sql)?).await?;
        ensure!(given_up.read_answer().await?.error().is_none());
        ensure!(given_up.query("ROLLBACK").await?.error().is_none());

        let mut client = front.login(pgherd, &[]).await?;
        ensure!(client.query("CREATE TYPE mood AS ENUM ('bad')").await?.error().is_none());
        client.send(&prepare("s", sql)?).await?;
        ensure!(client.read_answer().await?.error().is_none());
        client.send(&describe("s")?).await?;
        let told = client.read_answer().await?;
        let number: u32 = says(&mut client, "SELECT 'mood'::regtype::oid").await?.parse()?;
        let expected = [&1_u16.to_be_bytes()[..], &number.to_be_bytes()].concat();
        ensure!(types(&told.frames) == Some(&expected[..]), "{make}: {told:?} instead of {number}");
        client.send(&execute("s", &["bad"])?).await?;
        let answer = client.read_answer().await?;
        ensure!(answer.error().is_none(), "{make}: {answer:?}");
        ensure!(client.query("DROP TYPE mood").await?.error().is_none());
    }
    Ok(())
}

#[tokio::test]
async fn the_parameters_of_the_unnamed_statement_keep_the_types_that_its_client_was_told() -> Result<()> {
    let front = Front::with(|pgherd| pgherd.set("pool.size", 3)).await?;
    front
        .same("parameters of the unnamed statement", async |address| {
            let mut stage = Stage::new(&front, address).await?;
            let mut other = front.login(address, &[]).await?;
            for sql in ["DROP TABLE IF EXISTS p", "CREATE TABLE p (a float8)"] {
                ensure!(other.query(sql).await?.error().is_none(), "{sql}");
            }
            let mut client = stage.client().await?;
            let parse = messages(|out| {
                frontend::parse("", "INSERT INTO p VALUES ($1) RETURNING a::text", [], out)?;
                frontend::describe(b'S', "", out)?;
                frontend::sync(out);
                Ok(())
            })?;
            stage.say(&mut client, &parse).await?;
            ensure!(other.query("ALTER TABLE p ALTER a TYPE int8").await?.error().is_none());
            for _ in 0..2 {
                stage.swap().await?;
                // No text of an int8, and rounded to one.
                stage.say(&mut client, &execute("", &["1.75"])?).await?;
            }
            Ok(stage.all)
        })
        .await
        .map(drop)
}
