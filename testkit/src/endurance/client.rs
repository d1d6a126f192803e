//! One client of the long run: it connects, does a few things by chance, leaves, and comes again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::load::{Common, Totals, connect};
use crate::chance::Chance;
use crate::client::{Answer, ErrorFields, RawClient};
use crate::history::{End, Outcome, commit};

/// Those who do everything.
pub(super) const WORKER: &str = "worker";
/// The one whose bytes are counted.
pub(super) const PLAIN: &str = "plain";
/// Rows of a COPY.
const COPIED: u32 = 50;
/// Rows of a large result, of nearly a kilobyte each.
const LARGE: u64 = 500;
/// Before the next attempt to log in.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Client {
    common: Arc<Common>,
    pub(super) number: u32,
    chance: Chance,
    seed: u64,
    sequence: u64,
    /// It does nothing but simple queries.
    is_plain: bool,
    pub(super) ledger: Ledger,
    pub(super) totals: Totals,
}

/// A connection, and what the client has done on it.
struct Connected {
    raw: RawClient,
    has_prepared: bool,
}

impl Client {
    pub(super) fn new(common: Arc<Common>, number: u32, seed: u64, is_plain: bool) -> Self {
        let (ledger, totals) = (Ledger::default(), Totals::default());
        Self { common, number, chance: Chance::new(seed), seed, sequence: 0, is_plain, ledger, totals }
    }

    /// Works until it is told to stop.
    pub(super) async fn live(mut self, stop: CancellationToken, bout: u64) -> Self {
        self.chance = Chance::new(self.seed ^ (u64::from(self.number) << 32) ^ (bout << 16));
        while !stop.is_cancelled() {
            let secure = self.chance.below(3) == 0;
            let user = if self.is_plain { PLAIN } else { WORKER };
            match connect(&self.common, user, secure).await {
                Ok(raw) => {
                    self.totals.connections += 1;
                    self.stay(Connected { raw, has_prepared: false }, &stop).await;
                }
                Err(error) => {
                    self.note_loss(&error);
                    sleep(PAUSE).await;
                }
            }
        }
        self
    }

    /// Uses a connection for a while.
    async fn stay(&mut self, mut connected: Connected, stop: &CancellationToken) {
        for _ in 0..1 + self.chance.below(40) {
            if stop.is_cancelled() {
                break;
            }
            if let Err(error) = self.act(&mut connected).await {
                self.note_loss(&error);
                return;
            }
            sleep(Duration::from_millis(self.chance.below(20))).await;
        }
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        // Until pgherd has closed it, too: so it has been counted.
        let _ = connected.raw.send(&out).await;
        let _ = connected.raw.read_to_end().await;
    }

    fn note_loss(&mut self, error: &anyhow::Error) {
        match error.downcast_ref::<ErrorFields>() {
            Some(fields) => *self.totals.errors.entry(fields.code().to_owned()).or_default() += 1,
            None => self.totals.wrong.push(format!("client {}: {error:#}", self.number)),
        }
        self.totals.connections_lost += 1;
    }

    /// One thing by chance. An error: the connection is gone.
    async fn act(&mut self, on: &mut Connected) -> Result<()> {
        match self.chance.below(100) {
            0..20 => self.inserts(on).await,
            20..35 => self.block(on).await,
            35..43 => self.copies(on).await,
            43..50 => self.large(on).await,
            50..65 => self.reads(on).await,
            65..100 if self.is_plain => self.reads(on).await,
            65..80 => self.inserts_extended(on).await,
            80..95 => self.inserts_prepared(on).await,
            _ => self.pipeline(on).await,
        }
    }

    /// Sends, and reads the answer to it, which is counted.
    async fn ask(&mut self, on: &mut Connected, message: &[u8]) -> Result<Answer> {
        on.raw.send(message).await?;
        let answer = on.raw.read_answer().await?;
        self.totals.queries += 1;
        self.totals.transactions += u64::from(answer.transaction_state() == Some('I'));
        if self.is_plain {
            let received: u64 = answer.frames.iter().map(|frame| u64::from(frame.length) + 1).sum();
            self.totals.bytes.0 += message.len() as u64;
            self.totals.bytes.1 += received;
        }
        if let Some(error) = answer.error() {
            *self.totals.errors.entry(error.code().to_owned()).or_default() += 1;
        }
        Ok(answer)
    }

    async fn query(&mut self, on: &mut Connected, sql: &str) -> Result<Answer> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message)?;
        self.ask(on, &message).await
    }

    /// Sends what commits so many rows, and notes what came of it; false if that was an error.
    async fn write(&mut self, on: &mut Connected, message: &[u8], rows: u32, tag: &str) -> Result<bool> {
        let answer = self.ask(on, message).await;
        let lost = answer.as_ref().err().map(|error| format!("{error:#}"));
        let fields = answer.as_ref().err().and_then(|error| error.downcast_ref::<ErrorFields>()).cloned();
        let End { outcome, .. } = commit(answer, tag);
        self.ledger.note(self.sequence, rows, &outcome);
        match (fields, lost) {
            (Some(fields), _) => Err(fields.into()),
            (None, Some(lost)) => Err(anyhow::anyhow!(lost)),
            (None, None) => Ok(outcome == Outcome::Acknowledged),
        }
    }

    fn next(&mut self) -> (u32, u64) {
        self.sequence += 1;
        (self.number, self.sequence)
    }

    async fn inserts(&mut self, on: &mut Connected) -> Result<()> {
        let (client, sequence) = self.next();
        let mut message = BytesMut::new();
        frontend::query(&format!("INSERT INTO ledger VALUES ({client}, {sequence}, 0)"), &mut message)?;
        let is_there = self.write(on, &message, 1, "INSERT 0 1").await?;
        self.totals.count("inserts");
        // Whoever has written sees it, wherever it reads.
        let sql = format!("SELECT count(*) FROM ledger WHERE client = {client} AND seq = {sequence}");
        let answer = self.query(on, &sql).await?;
        if answer.error().is_none() && is_there && answer.value().as_deref() != Some("1") {
            self.totals.wrong.push(format!("client {client} does not see its write {sequence}"));
        }
        Ok(())
    }

    async fn inserts_extended(&mut self, on: &mut Connected) -> Result<()> {
        let (client, sequence) = self.next();
        let mut message = BytesMut::new();
        frontend::parse("", "INSERT INTO ledger VALUES ($1::int, $2::bigint, 0)", [], &mut message)?;
        batch("", &[&client.to_string(), &sequence.to_string()], &mut message)?;
        self.write(on, &message, 1, "INSERT 0 1").await?;
        self.totals.count("extended");
        Ok(())
    }

    /// By a named statement, which this connection has prepared once.
    async fn inserts_prepared(&mut self, on: &mut Connected) -> Result<()> {
        if !on.has_prepared {
            let mut message = BytesMut::new();
            let text = "INSERT INTO ledger SELECT $1::int, $2::bigint, n FROM generate_series(1, 3) n";
            frontend::parse("three", text, [], &mut message)?;
            frontend::sync(&mut message);
            on.has_prepared = self.ask(on, &message).await?.error().is_none();
            if !on.has_prepared {
                return Ok(());
            }
        }
        let (client, sequence) = self.next();
        let mut message = BytesMut::new();
        batch("three", &[&client.to_string(), &sequence.to_string()], &mut message)?;
        self.write(on, &message, 3, "INSERT 0 3").await?;
        self.totals.count("prepared");
        Ok(())
    }

    /// Several reads at once.
    async fn pipeline(&mut self, on: &mut Connected) -> Result<()> {
        let first = self.chance.below(1000);
        let mut message = BytesMut::new();
        for n in first..first + 5 {
            frontend::parse("", "SELECT length(body) FROM wide WHERE n = $1::int", [], &mut message)?;
            batch("", &[&(n + 1).to_string()], &mut message)?;
        }
        let mut answer = self.ask(on, &message).await?;
        for _ in 1..5 {
            self.judge_read(&answer, "960");
            answer = self.ask(on, &[]).await?;
        }
        self.judge_read(&answer, "960");
        self.totals.count("pipelines");
        Ok(())
    }

    fn judge_read(&mut self, answer: &Answer, expected: &str) {
        if answer.error().is_none() && answer.value().as_deref() != Some(expected) {
            self.totals.wrong.push(format!("client {}: {answer:?}, and not {expected}", self.number));
        }
    }

    async fn reads(&mut self, on: &mut Connected) -> Result<()> {
        let n = 1 + self.chance.below(2000);
        let answer = self.query(on, &format!("SELECT n FROM wide WHERE n = {n}")).await?;
        self.judge_read(&answer, &n.to_string());
        self.totals.count("reads");
        Ok(())
    }

    async fn large(&mut self, on: &mut Connected) -> Result<()> {
        let answer = self.query(on, &format!("SELECT n, body FROM wide LIMIT {LARGE}")).await?;
        let rows = answer.rows();
        if answer.error().is_none() && rows.len() as u64 != LARGE {
            self.totals.wrong.push(format!("client {}: {} rows of {LARGE}", self.number, rows.len()));
        }
        self.totals.count("large results");
        Ok(())
    }

    async fn block(&mut self, on: &mut Connected) -> Result<()> {
        let (client, sequence) = self.next();
        let refused = Outcome::Refused { sqlstate: String::new() };
        let rows = 1 + u32::try_from(self.chance.below(3))?;
        for number in 0..=rows {
            let sql = match number {
                0 => "BEGIN".to_owned(),
                row => format!("INSERT INTO ledger VALUES ({client}, {sequence}, {row})"),
            };
            let answer = self.query(on, &sql).await;
            if !answer.as_ref().is_ok_and(|answer| answer.error().is_none()) {
                self.ledger.note(sequence, rows, &refused);
                answer?;
                return self.query(on, "ROLLBACK").await.map(drop);
            }
        }
        if self.chance.below(4) == 0 {
            self.ledger.note(sequence, rows, &refused);
            self.totals.count("rolled back");
            return self.query(on, "ROLLBACK").await.map(drop);
        }
        let mut message = BytesMut::new();
        frontend::query("COMMIT", &mut message)?;
        self.totals.count("blocks");
        // It may be open, and aborted, where COMMIT was answered with an error.
        if !self.write(on, &message, rows, "COMMIT").await? {
            self.query(on, "ROLLBACK").await?;
        }
        Ok(())
    }

    async fn copies(&mut self, on: &mut Connected) -> Result<()> {
        let (client, sequence) = self.next();
        let mut message = BytesMut::new();
        frontend::query("COPY ledger FROM STDIN", &mut message)?;
        for row in 0..COPIED {
            let line = format!("{client}\t{sequence}\t{row}\n");
            frontend::CopyData::new(line.as_bytes())?.write(&mut message);
        }
        frontend::copy_done(&mut message);
        self.write(on, &message, COPIED, &format!("COPY {COPIED}")).await?;
        self.totals.count("COPY");
        Ok(())
    }
}

/// Bind with text parameters, Execute and Sync.
fn batch(statement: &str, parameters: &[&str], out: &mut BytesMut) -> Result<()> {
    let write = |parameter: &&str, out: &mut BytesMut| {
        out.extend_from_slice(parameter.as_bytes());
        Ok(IsNull::No)
    };
    let bound = frontend::bind("", statement, [], parameters, write, [], out);
    ensure!(bound.is_ok(), "Bind of {parameters:?}");
    frontend::execute("", 0, out)?;
    frontend::sync(out);
    Ok(())
}
