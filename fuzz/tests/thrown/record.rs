//! Seeds of real traffic: what psql and pgbench say to a PostgreSQL, and what that says to them. `make fuzz-seeds` records them anew.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use pgherd_testkit::client::{Pgbench, psql};
use pgherd_testkit::{Cluster, Result};

/// The longest seed.
const LONGEST: usize = 2048;
/// What a piece of an input may have, whose length is one byte.
const PIECE: usize = 255;
/// The tags that the target `session` knows, by their numbers there.
const CLIENT: &[u8] = b"QPBDECSHdcfFX";
const SERVER: &[u8] = b"ZCTDE12nt3IsGHWdcNAS";

/// Everything that a session may do, in a few lines.
const SCRIPTS: &[&str] = &[
    "SELECT 1, 'a', NULL::text",
    "BEGIN; INSERT INTO seeds VALUES (1, 'x') RETURNING *; ROLLBACK",
    "SELECT * FROM generate_series(1, 3) AS g(i) WHERE i > 1 FOR UPDATE",
    "WITH gone AS (DELETE FROM seeds RETURNING *) SELECT count(*) FROM gone",
    "SET application_name = 'seeds'; SHOW application_name; RESET ALL; DISCARD ALL",
    "PREPARE p(int) AS SELECT $1 + 1; EXECUTE p(1); DEALLOCATE p",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1; FETCH ALL FROM c; CLOSE c",
    "LISTEN seeds; NOTIFY seeds, 'x'; UNLISTEN *",
    "COPY (SELECT 1, 2) TO STDOUT",
    "COPY seeds FROM STDIN",
    "DO $$ BEGIN RAISE NOTICE 'from a block'; END $$",
    "SELECT 1/0",
    "SELEC 1",
    "CREATE TEMP TABLE t (a int); EXPLAIN ANALYZE INSERT INTO t VALUES (1); DROP TABLE t",
    "SELECT nextval('seeds_seq'), currval('seeds_seq'), pg_advisory_lock(1), pg_advisory_unlock(1)",
    "\\d seeds",
    "\\df pg_*lock",
];

/// A connection: who said what, piece by piece.
type Talk = Arc<Mutex<Vec<(Side, Vec<u8>)>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Passes connections on, and writes down what is said.
struct Tap {
    address: SocketAddr,
    talks: Arc<Mutex<Vec<Talk>>>,
}

impl Tap {
    fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let talks = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&talks);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                let talk = Talk::default();
                known.lock().unwrap().push(Arc::clone(&talk));
                pass(
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    Side::Client,
                    Arc::clone(&talk),
                );
                pass((server, client), Side::Server, talk);
            }
        });
        Self { address, talks }
    }

    fn connection_string(&self, password: &str) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        format!(
            "host={host} port={port} user=app dbname=app password={password} sslmode=disable gssencmode=disable"
        )
    }

    /// Those that have ended or not, since this was asked last.
    fn take(&self) -> Vec<Vec<(Side, Vec<u8>)>> {
        std::mem::take(&mut *self.talks.lock().unwrap())
            .iter()
            .map(|talk| talk.lock().unwrap().clone())
            .collect()
    }
}

fn pass((mut from, mut to): (TcpStream, TcpStream), side: Side, talk: Talk) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            talk.lock().unwrap().push((side, buffer[..len].to_vec()));
            if to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[tokio::test]
#[ignore = "writes fuzz/corpus: make fuzz-seeds"]
async fn seeds_are_recorded() -> Result<()> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let server = cluster.primary().await?;
    let tap = Tap::new(SocketAddr::from((server.address(), server.port())));
    let string = tap.connection_string(cluster.credentials().password("app"));
    psql(&string, "CREATE TABLE seeds (a int, b text); CREATE SEQUENCE seeds_seq").await?;
    for script in SCRIPTS {
        // Some are to fail.
        let _ = psql(&string, script).await;
    }
    Pgbench::initialize(&string, 1).await?;
    tap.take().into_iter().take(1).for_each(|_| ());
    let mut talks = Vec::new();
    for script in SCRIPTS {
        let _ = psql(&string, script).await;
        talks.extend(tap.take());
    }
    for protocol in ["simple", "extended", "prepared"] {
        Pgbench::new(&string).arg(format!("--protocol={protocol}")).arg("--transactions=2").run().await?;
        talks.extend(tap.take());
    }
    let written = talks.iter().enumerate().map(|(number, talk)| write(number, talk)).sum::<usize>();
    assert!(written > 60, "{written}");
    Ok(())
}

/// What a talk is to each target; how many seeds that makes.
fn write(number: usize, talk: &[(Side, Vec<u8>)]) -> usize {
    let said = |side: Side| {
        talk.iter().filter(|(by, _)| *by == side).flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<u8>>()
    };
    let (client, server) = (said(Side::Client), said(Side::Server));
    let Some(len) = client.first_chunk().map(|len| u32::from_be_bytes(*len) as usize) else { return 0 };
    let (startup, client) = client.split_at(len);
    let asked: Vec<(u8, &[u8])> = messages(client).filter(|(tag, _)| *tag != b'p').collect();
    let told: Vec<(u8, &[u8])> = messages(&server).filter(|(tag, _)| *tag != b'R').collect();
    let texts = asked.iter().filter_map(|(tag, body)| text(*tag, body));
    let mut written = 3;
    put("startup", number, startup);
    put("frontend", number, &joined(&asked));
    put("backend", number, &joined(&told));
    for (at, text) in texts.enumerate().take(12) {
        put("statement", 1000 * (number + 1) + at, text);
        written += 1;
    }
    put("session", number, &moves(talk, len));
    written + 1
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, rest) = bytes.split_first()?;
        let len = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let body = rest.get(4..len)?;
        bytes = &rest[len..];
        Some((*tag, body))
    })
}

fn text(tag: u8, body: &[u8]) -> Option<&[u8]> {
    let mut strings = body.split(|byte| *byte == 0);
    match tag {
        b'Q' => strings.next(),
        b'P' => strings.nth(1),
        _ => None,
    }
}

fn joined(messages: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, body) in messages {
        let len = u32::try_from(body.len() + 4).unwrap();
        bytes.extend_from_slice(&[&[*tag], &len.to_be_bytes()[..], body].concat());
    }
    bytes
}

/// The talk behind the login as the target `session` takes it: in transaction mode, cut small.
fn moves(talk: &[(Side, Vec<u8>)], startup: usize) -> Vec<u8> {
    let mut bytes = vec![9, 7];
    let mut is_first = true;
    for (side, said) in talk {
        let said = if std::mem::take(&mut is_first) { &said[startup..] } else { said };
        for (tag, body) in messages(said) {
            let (kind, tags) = if *side == Side::Client { (5, CLIENT) } else { (12, SERVER) };
            let Some(at) = tags.iter().position(|known| *known == tag).filter(|_| body.len() <= PIECE) else {
                continue;
            };
            bytes.extend_from_slice(&[kind, u8::try_from(at).unwrap(), u8::try_from(body.len()).unwrap()]);
            bytes.extend_from_slice(body);
        }
    }
    bytes
}

fn put(target: &str, number: usize, seed: &[u8]) {
    let directory: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(format!("recorded-{number:04}")), &seed[..seed.len().min(LONGEST)]).unwrap();
}
