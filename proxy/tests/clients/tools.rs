//! The programs that come with PostgreSQL, as they come, in every mode of the pool that they can work in.

use std::process::Stdio;

use pgherd_testkit::client::psql;
use pgherd_testkit::{Context, Pgherd, Result, ensure};
use tokio::process::Command;

use crate::front::{Front, PATIENCE};

/// The server itself, then pgherd in transaction mode, then in session mode: host and port for libpq.
struct Places {
    front: Front,
    _session: Pgherd,
    addresses: Vec<(&'static str, String, String)>,
}

impl Places {
    async fn start() -> Result<Self> {
        let front = Front::start().await?;
        let session = Pgherd::builder(&front.cluster).set("pool.mode", "session").start().await?;
        session.wait_log("writes are open", PATIENCE).await?;
        let mut addresses = Vec::new();
        let [server, transaction] = front.both()?;
        for (name, address) in [
            ("directly", server),
            ("in transaction mode", transaction),
            ("in session mode", session.address()),
        ] {
            addresses.push((name, address.ip().to_string(), address.port().to_string()));
        }
        Ok(Self { front, _session: session, addresses })
    }

    /// Runs a program as `user` at each address; gives what it printed, which must be the same. `arguments` may differ by place.
    async fn same(
        &self,
        user: &str,
        program: &str,
        arguments: impl Fn(usize) -> Vec<String>,
    ) -> Result<String> {
        let mut expected = None;
        for (index, (name, host, port)) in self.addresses.iter().enumerate() {
            let arguments = arguments(index);
            let what = format!("{program} {arguments:?} {name}");
            let mut command = Command::new(program);
            command
                .args(&arguments)
                .envs([("PGHOST", host), ("PGPORT", port)])
                .env("PGUSER", user)
                .env("PGPASSWORD", self.front.password(user))
                .env("PGDATABASE", if user == "app" { "app" } else { "postgres" })
                .env("PSQLRC", "/dev/null")
                .stdin(Stdio::null())
                .kill_on_drop(true);
            let output = tokio::time::timeout(PATIENCE, command.output()).await.context(what.clone())??;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{what}: {}\n{errors}", output.status);
            let mut printed = comparable(&String::from_utf8_lossy(&output.stdout));
            if program == "psql" {
                printed.push_str(&comparable(&errors));
            }
            let expected = expected.get_or_insert_with(|| printed.clone());
            ensure!(*expected == printed, "{what} prints\n{printed}\nand not\n{expected}");
        }
        expected.context("no address")
    }
}

/// Without what differs from run to run: dumps carry a key of their own, and `\watch` tells the time.
fn comparable(printed: &str) -> String {
    let differs = |line: &str| {
        line.starts_with("\\restrict") || line.starts_with("\\unrestrict") || line.contains("(every ")
    };
    printed.lines().filter(|line| !differs(line)).map(|line| format!("{line}\n")).collect()
}

fn words(arguments: &str) -> impl Fn(usize) -> Vec<String> {
    move |_| arguments.split_whitespace().map(str::to_owned).collect()
}

const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE TABLE parent (id serial PRIMARY KEY, at timestamptz DEFAULT '2020-02-02', feels mood, data jsonb);
    CREATE TABLE child (id bigint GENERATED ALWAYS AS IDENTITY, parent int REFERENCES parent, raw bytea, n numeric);
    CREATE INDEX ON child (parent, n);
    CREATE VIEW both_of_them AS SELECT p.id, c.n FROM parent p JOIN child c ON c.parent = p.id;
    CREATE MATERIALIZED VIEW sums AS SELECT parent, sum(n) FROM child GROUP BY parent;
    CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE RETURN n * 2;
    INSERT INTO parent (feels, data) SELECT 'happy', jsonb_build_object('n', n) FROM generate_series(1, 500) n;
    INSERT INTO child (parent, raw, n) SELECT 1 + n % 500, decode(md5(n::text), 'hex'), n / 7.0 FROM generate_series(1, 5000) n;
    SELECT lo_from_bytea(4711, 'a large object');
    SELECT lo_from_bytea(4712, decode(repeat('00ff', 100000), 'hex'));
    CLUSTER parent USING parent_pkey;
    REFRESH MATERIALIZED VIEW sums";

#[tokio::test]
async fn dumps_are_the_same_and_are_restored_by_several_jobs() -> Result<()> {
    let places = Places::start().await?;
    let url = places.front.server()?.connection_string("app", "app");
    psql(&url, SCHEMA).await?;
    let dump = places.same("app", "pg_dump", words("--inserts")).await?;
    ensure!(dump.contains("4711") && dump.contains("INSERT INTO public.child"), "{dump}");
    places.same("app", "pg_dump", words("--schema-only --clean --if-exists")).await?;
    places.same("repmgr", "pg_dumpall", words("--no-role-passwords")).await?;

    let directory = places.front.cluster.directory().display().to_string();
    let numbered = |arguments: &'static str| {
        let directory = directory.clone();
        move |index: usize| {
            let arguments = arguments.replace("DUMP", &format!("{directory}/dump-{index}"));
            let arguments = arguments.replace("RESTORED", &format!("restored_{index}"));
            arguments.split_whitespace().map(str::to_owned).collect()
        }
    };
    places.same("app", "pg_dump", numbered("--format=directory --jobs=3 --file=DUMP")).await?;
    places.same("repmgr", "createdb", numbered("--owner=app --template=template0 RESTORED")).await?;
    places.same("app", "pg_restore", numbered("--jobs=3 --no-owner --dbname=RESTORED DUMP")).await?;
    let restored = places.same("app", "pg_dump", numbered("--inserts RESTORED")).await?;
    ensure!(restored == dump, "what was restored is not what was dumped");
    places.same("app", "dropdb", numbered("RESTORED")).await?;
    Ok(())
}

#[tokio::test]
async fn psql_and_the_programs_for_upkeep_do_what_they_do_directly() -> Result<()> {
    let places = Places::start().await?;
    let url = places.front.server()?.connection_string("app", "app");
    psql(&url, SCHEMA).await?;
    let directory = places.front.cluster.directory().display().to_string();
    std::fs::write(format!("{directory}/object"), "a file that becomes a large object")?;
    let script = format!("{directory}/script.sql");
    std::fs::write(&script, PSQL.replace("DIRECTORY", &directory))?;
    let printed = places.same("app", "psql", words(&format!("--echo-all --file={script}"))).await?;
    for seen in ["made_by_gexec", "5000", "23514", "twice", "a large object", "division by zero"] {
        ensure!(printed.contains(seen), "{seen} is missing in\n{printed}");
    }

    places.same("app", "pg_isready", |_| vec!["--quiet".into()]).await?;
    places.same("app", "vacuumdb", words("--analyze --jobs=2 --table=parent --table=child")).await?;
    places.same("app", "reindexdb", words("--concurrently --table=child")).await?;
    places.same("app", "clusterdb", words("--table=parent")).await?;
    for mode in ["simple", "extended", "prepared"] {
        if mode == "simple" {
            places.same("app", "pgbench", words("--initialize --quiet --scale=1")).await?;
        }
        let pgbench = format!("--no-vacuum --client=4 --jobs=2 --transactions=25 --protocol={mode}");
        for builtin in ["tpcb-like", "select-only"] {
            let arguments = format!("{pgbench} --builtin={builtin}");
            places.pgbench(&arguments, 100).await?;
        }
    }
    let pipeline = format!("{directory}/pipeline.pgbench");
    std::fs::write(&pipeline, "\\startpipeline\nBEGIN;\nSELECT 1;\nSELECT 2;\nCOMMIT;\n\\endpipeline\n")?;
    places
        .pgbench(&format!("--no-vacuum --transactions=20 --protocol=prepared --file={pipeline}"), 20)
        .await?;
    places
        .pgbench(
            &format!("--no-vacuum --transactions=20 --connect --file={pipeline} --protocol=extended"),
            20,
        )
        .await
}

impl Places {
    /// What pgbench prints says how fast it was; so only the number of its transactions is compared.
    async fn pgbench(&self, arguments: &str, transactions: u64) -> Result<()> {
        for (name, host, port) in &self.addresses {
            let output = Command::new("pgbench")
                .args(arguments.split_whitespace())
                .envs([("PGHOST", host), ("PGPORT", port)])
                .envs([("PGUSER", "app"), ("PGDATABASE", "app")])
                .env("PGPASSWORD", self.front.password("app"))
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output();
            let output = tokio::time::timeout(PATIENCE, output).await??;
            let printed = String::from_utf8_lossy(&output.stdout);
            let done = format!("number of transactions actually processed: {transactions}/{transactions}");
            ensure!(
                output.status.success() && printed.contains(&done),
                "pgbench {arguments} {name}: {printed}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

const PSQL: &str = r"
\set VERBOSITY verbose
\set SHOW_CONTEXT never
\pset format unaligned
SELECT 'CREATE TABLE made_by_gexec (n int CHECK (n > 0))' UNION ALL SELECT 'INSERT INTO made_by_gexec VALUES (1), (2)' \gexec
SELECT count(*) AS counted FROM child \gset
\echo :counted
INSERT INTO made_by_gexec VALUES (0);
\errverbose
\dt
\d child
\df twice
\copy child (parent, raw, n) TO 'DIRECTORY/copied' WITH (FORMAT csv, HEADER)
CREATE TABLE copied AS SELECT parent, raw, n FROM child WHERE false;
\copy copied FROM 'DIRECTORY/copied' WITH (FORMAT csv, HEADER)
SELECT count(*), sum(n) FROM copied;
\copy (SELECT id FROM parent ORDER BY id LIMIT 3) TO STDOUT
SELECT convert_from(lo_get(4711), 'utf8');
\lo_unlink 4711
SELECT lo_from_bytea(4711, 'a large object');
SELECT parent % 3 AS a, parent % 2 AS b, count(*) FROM child GROUP BY 1, 2 ORDER BY 1, 2 \crosstabview
SELECT $$a$$ AS one \; SELECT 2 AS two \; SELECT 3 AS three;
\gdesc
BEGIN;
\echo :SQLSTATE
SAVEPOINT s;
SELECT 1 / 0;
\echo :SQLSTATE
ROLLBACK TO s;
SELECT 'still there';
\set ON_ERROR_ROLLBACK on
SELECT 1 / 0;
SELECT 'still there';
COMMIT;
\set FETCH_COUNT 100
SELECT sum(id) FROM parent;
SELECT id FROM parent WHERE id % 50 = 0 ORDER BY id;
\unset FETCH_COUNT
CREATE SEQUENCE watched;
SELECT 1 / (3 - nextval('watched')) AS left \watch 0.05
DROP SEQUENCE watched;
DROP TABLE made_by_gexec, copied;
SET datestyle TO german;
SELECT at FROM parent LIMIT 1;
\encoding LATIN1
SHOW client_encoding;
\connect
SHOW datestyle;
";
