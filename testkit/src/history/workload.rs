use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::reader::{Reader, read_back};
use super::{Attempt, Outcome, Record, Row, bank};
use crate::client::{Answer, ErrorFields, RawClient, Session};
use crate::server::Server;

/// Between two attempts to log in again.
pub(super) const LOGIN_PAUSE: Duration = Duration::from_millis(50);
const LOST: &str = "lost";

/// How a client commits its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// An INSERT by itself.
    Auto,
    /// BEGIN, INSERT and COMMIT, each sent when the one before was answered.
    Explicit,
    /// Each client by turns.
    Both,
}

/// Connections that append numbered rows.
#[derive(Clone, Debug)]
pub struct Workload {
    address: SocketAddr,
    user: String,
    database: String,
    password: String,
    clients: i32,
    commit: Commit,
    pub(super) pause: Duration,
    readers: Option<i32>,
    /// Its rows are numbered from here: above those of all workloads before.
    first: i64,
}

/// A workload at work.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    acknowledged: Arc<AtomicUsize>,
    clients: JoinSet<Record>,
}

impl Workload {
    /// Eight clients that write by turns with and without an explicit transaction, every 5 ms.
    pub fn new(address: SocketAddr, user: &str, database: &str, password: &str) -> Self {
        Self {
            address,
            user: user.to_owned(),
            database: database.to_owned(),
            password: password.to_owned(),
            clients: 8,
            commit: Commit::Both,
            pause: Duration::from_millis(5),
            readers: None,
            first: above_all_before(),
        }
    }

    /// Each explicit transaction moves money between accounts as well, and every client reads back each row that it wrote. So many
    /// further clients do nothing but read the sum of all accounts.
    pub fn audited(mut self, readers: i32) -> Self {
        self.readers = Some(readers);
        self
    }

    /// How many connections.
    pub fn clients(mut self, count: i32) -> Self {
        self.clients = count;
        self
    }

    /// How they commit.
    pub fn commit(mut self, commit: Commit) -> Self {
        self.commit = commit;
        self
    }

    /// How long a client waits between two writes.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Makes the tables, with no row of a client in them, through this workload's address.
    pub async fn create_table(&self) -> Result<()> {
        let mut client = self.login().await?;
        // What the kernel still sends of a pgherd that was killed while the network was cut comes seconds later: not into this table.
        let rows = format!(
            "DROP TABLE IF EXISTS history; \
             CREATE TABLE history (client int, seq bigint CHECK (seq > {}), PRIMARY KEY (client, seq))",
            self.first
        );
        for sql in [Some(rows), self.readers.map(|_| bank::make())].into_iter().flatten() {
            if let Some(error) = client.query(&sql).await?.error() {
                bail!("the tables of the workload: {error}");
            }
        }
        Ok(())
    }

    /// Holds the accounts of `server` against its rows; gives what is wrong.
    pub async fn audit(&self, server: &Server) -> Result<Vec<String>> {
        let session = server.connect("app", "app").await?;
        let audit = bank::audit(&session, |row| self.transfers(row));
        audit.await.with_context(|| format!("{}: the accounts", server.name()))
    }

    const fn is_explicit(&self, row: Row) -> bool {
        match self.commit {
            Commit::Auto => false,
            Commit::Explicit => true,
            Commit::Both => row.sequence % 2 == 0,
        }
    }

    const fn transfers(&self, row: Row) -> bool {
        self.readers.is_some() && self.is_explicit(row)
    }

    /// Starts to write. The table must be there, and a first login must succeed.
    pub async fn start(&self) -> Result<Running> {
        drop(self.login().await?);
        let mut running =
            Running { stop: CancellationToken::new(), acknowledged: Arc::default(), clients: JoinSet::new() };
        let workload = Arc::new(self.clone());
        for _ in 0..self.readers.unwrap_or_default() {
            let (workload, stop) = (Arc::clone(&workload), running.stop.clone());
            running.clients.spawn(Reader { workload, stop, record: Record::default() }.run());
        }
        for client in 0..self.clients {
            let writer = Writer {
                workload: Arc::clone(&workload),
                client,
                sequence: self.first,
                record: Record::default(),
                acknowledged: Arc::clone(&running.acknowledged),
                stop: running.stop.clone(),
            };
            running.clients.spawn(writer.run());
        }
        Ok(running)
    }

    pub(super) async fn login(&self) -> Result<RawClient> {
        RawClient::login(self.address, &self.user, &self.database, &self.password).await
    }
}

impl Running {
    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` further writes were acknowledged.
    pub async fn wait_acknowledged(&self, more: usize, within: Duration) -> Result<()> {
        let goal = self.acknowledged() + more;
        crate::wait::eventually(format!("{more} more acknowledged writes"), within, || async {
            Ok((self.acknowledged() >= goal).then_some(()))
        })
        .await
    }

    /// Has every client end after its present attempt, and gives what they saw.
    pub async fn stop(mut self) -> Result<Record> {
        self.stop.cancel();
        let mut record = Record::default();
        while let Some(client) = self.clients.join_next().await {
            let client = client?;
            record.attempts.extend(client.attempts);
            record.reads.extend(client.reads);
            record.logins_failed.extend(client.logins_failed);
            record.connections_lost += client.connections_lost;
        }
        Ok(record)
    }
}

/// The rows of the table `history` as `server` has them, past pgherd and past any index.
pub(super) async fn rows(session: &Session) -> Result<Vec<Row>> {
    session.batch_execute("SET enable_indexscan = off; SET enable_indexonlyscan = off").await?;
    let rows = session.query("SELECT client, seq FROM history", &[]).await?;
    rows.iter().map(|row| Ok(Row { client: row.try_get(0)?, sequence: row.try_get(1)? })).collect()
}

impl Server {
    /// The rows that a [`Workload`] left on this server, as user `app` in the database `app`.
    pub async fn history(&self) -> Result<Vec<Row>> {
        let session = self.connect("app", "app").await?;
        rows(&session).await.with_context(|| format!("{}: table history", self.name()))
    }
}

/// Larger than the numbers that any workload before this moment has used: none writes a thousand rows in a millisecond.
fn above_all_before() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or_default() * 1000
}

/// One client of the workload.
struct Writer {
    workload: Arc<Workload>,
    client: i32,
    sequence: i64,
    record: Record,
    acknowledged: Arc<AtomicUsize>,
    stop: CancellationToken,
}

/// An attempt's end: its outcome, and whether the connection can be used further.
pub(crate) struct End {
    pub(crate) outcome: Outcome,
    connected: bool,
}

impl Writer {
    async fn run(mut self) -> Record {
        while !self.stop.is_cancelled() {
            match self.workload.login().await {
                Ok(connection) => self.write_until_lost(connection).await,
                Err(error) => {
                    self.record.logins_failed.push(format!("{error:#}"));
                    sleep(LOGIN_PAUSE).await;
                }
            }
        }
        self.record
    }

    async fn write_until_lost(&mut self, mut connection: RawClient) {
        while !self.stop.is_cancelled() {
            self.sequence += 1;
            let row = Row { client: self.client, sequence: self.sequence };
            let begun = Instant::now();
            let End { outcome, mut connected } = if self.workload.is_explicit(row) {
                let transfer = self.workload.transfers(row).then(|| bank::transfer(row));
                in_transaction(&mut connection, row, transfer).await
            } else {
                alone(&mut connection, row).await
            };
            let (ended, is_acknowledged) = (Instant::now(), outcome == Outcome::Acknowledged);
            self.record.attempts.push(Attempt { row, begun, ended, outcome });
            if is_acknowledged {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                if self.workload.readers.is_some() {
                    let (read, still_connected) = read_back(&mut connection, row).await;
                    connected = still_connected;
                    self.record.reads.push(read);
                }
            }
            if !connected {
                self.record.connections_lost += 1;
                return;
            }
            sleep(self.workload.pause).await;
        }
    }
}

fn insert(row: Row) -> String {
    format!("INSERT INTO history VALUES ({}, {})", row.client, row.sequence)
}

async fn alone(connection: &mut RawClient, row: Row) -> End {
    commit(connection.query(&insert(row)).await, "INSERT 0 1")
}

async fn in_transaction(connection: &mut RawClient, row: Row, transfer: Option<[String; 2]>) -> End {
    let statements = ["BEGIN".to_owned(), insert(row)];
    for statement in statements.into_iter().chain(transfer.into_iter().flatten()) {
        let refused = match connection.query(&statement).await {
            Ok(answer) => answer.error(),
            // No commit was sent: whatever the reason, the row cannot be there.
            Err(error) => {
                return End { outcome: Outcome::Refused { sqlstate: last_word(&error) }, connected: false };
            }
        };
        let Some(error) = refused else { continue };
        let connected = connection.query("ROLLBACK").await.is_ok();
        return End { outcome: Outcome::Refused { sqlstate: error.code().to_owned() }, connected };
    }
    let mut end = commit(connection.query("COMMIT").await, "COMMIT");
    if end.connected && end.outcome != Outcome::Acknowledged {
        // An aborted transaction is still open on this connection, unless the error closed it.
        end.connected = connection.query("ROLLBACK").await.is_ok();
    }
    end
}

/// Judges the answer of the statement that commits.
pub(crate) fn commit(answer: Result<Answer>, expected: &str) -> End {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return End { outcome: Outcome::Unknown { sqlstate: last_word(&error) }, connected: false };
        }
    };
    let outcome = match (answer.error(), answer.notice(), answer.command().as_deref()) {
        (Some(error), _, _) if leaves_open(&error) => Outcome::Unknown { sqlstate: error.code().to_owned() },
        (Some(error), _, _) => Outcome::Refused { sqlstate: error.code().to_owned() },
        (None, Some(warning), Some(command)) if command == expected && warning.severity() == "WARNING" => {
            Outcome::AcknowledgedLocally { sqlstate: warning.code().to_owned() }
        }
        (None, _, Some(command)) if command == expected => Outcome::Acknowledged,
        // COMMIT of an aborted transaction is answered with the tag ROLLBACK.
        (None, _, _) => Outcome::Refused { sqlstate: "25P02".to_owned() },
    };
    End { outcome, connected: true }
}

/// Whether an error to a commit says nothing of its outcome: class 08, or one that ends the session.
fn leaves_open(error: &ErrorFields) -> bool {
    error.code().starts_with("08") || matches!(error.severity(), "FATAL" | "PANIC")
}

/// The SQLSTATE of the FATAL error that a connection ended with, or `lost`.
pub(super) fn last_word(error: &anyhow::Error) -> String {
    error.downcast_ref::<ErrorFields>().map_or(LOST, ErrorFields::code).to_owned()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::client::Frame;

    fn frame(tag: u8, payload: &'static [u8]) -> Frame {
        Frame { tag, length: u32::try_from(payload.len()).unwrap() + 4, payload: Bytes::from_static(payload) }
    }

    fn outcome(frames: Vec<Frame>) -> Outcome {
        commit(Ok(Answer { frames }), "COMMIT").outcome
    }

    #[test]
    fn only_the_expected_tag_is_an_acknowledgement() {
        assert_eq!(outcome(vec![frame(b'C', b"COMMIT\0"), frame(b'Z', b"I")]), Outcome::Acknowledged);
        let rolled_back = outcome(vec![frame(b'C', b"ROLLBACK\0"), frame(b'Z', b"I")]);
        assert_eq!(rolled_back, Outcome::Refused { sqlstate: "25P02".to_owned() });
    }

    #[test]
    fn an_error_of_class_08_leaves_the_outcome_open_and_another_does_not() {
        let open = frame(b'E', b"SERROR\0VERROR\0C08007\0Munknown\0\0");
        assert_eq!(outcome(vec![open, frame(b'Z', b"I")]), Outcome::Unknown { sqlstate: "08007".to_owned() });
        let definite = frame(b'E', b"SERROR\0VERROR\0C40001\0Mtry again\0\0");
        assert_eq!(
            outcome(vec![definite, frame(b'Z', b"I")]),
            Outcome::Refused { sqlstate: "40001".to_owned() }
        );
    }

    #[test]
    fn a_commit_with_a_warning_is_only_local() {
        let warning = frame(b'N', b"SWARNING\0VWARNING\0C01000\0Mcanceling wait\0\0");
        let answer = vec![warning, frame(b'C', b"COMMIT\0"), frame(b'Z', b"I")];
        assert_eq!(outcome(answer), Outcome::AcknowledgedLocally { sqlstate: "01000".to_owned() });
    }

    #[test]
    fn a_connection_that_ends_during_the_commit_leaves_the_outcome_open() {
        let end = commit(Err(anyhow::anyhow!("closed")), "COMMIT");
        assert!(!end.connected);
        assert_eq!(end.outcome, Outcome::Unknown { sqlstate: LOST.to_owned() });
    }
}
