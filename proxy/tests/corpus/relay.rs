//! Stands between psql and the primary, and has a session on the standby beside each of psql's.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pgherd_protocol::statement::{Effect, Place, RecentScans, Scan, Why};
use pgherd_testkit::client::{Answer, Frame, RawClient};
use pgherd_testkit::{Context, Result, Server, bail, ensure};
use tokio::net::{TcpListener, TcpStream};

use crate::Corpus;
use crate::compare::{Likeness, compare, difference};

const PATIENCE: Duration = Duration::from_secs(60);
/// Version 3.0.
const PROTOCOL: [u8; 4] = [0, 3, 0, 0];

pub(crate) async fn serve(listener: TcpListener, corpus: Arc<Corpus>) {
    while let Ok((stream, _)) = listener.accept().await {
        let corpus = Arc::clone(&corpus);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &corpus).await {
                eprintln!("corpus: a session ended: {error:#}");
            }
        });
    }
}

/// One of psql's sessions.
struct Relayed<'a> {
    corpus: &'a Corpus,
    client: RawClient,
    /// The session itself.
    primary: RawClient,
    /// One like it on the standby.
    standby: RawClient,
    pair: Pair,
    /// Asks the primary for the catalogue.
    catalogue: RawClient,
    recent: RecentScans,
    database: String,
    /// It is not in a transaction block.
    is_idle: bool,
    /// It has something that no other session has.
    is_pinned: bool,
}

async fn converse(stream: TcpStream, corpus: &Corpus) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut client = RawClient::over(stream);
    let Some(packet) = startup_packet(&mut client).await? else { return Ok(()) };
    let mut primary = RawClient::connect(address(&corpus.primary)).await?;
    primary.send(&packet).await?;
    // A cancel request has no answer.
    if packet.get(4..8) != Some(&PROTOCOL) || !log_in(&mut client, &mut primary).await? {
        return Ok(());
    }
    let mut fields = fields(&packet);
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let user = field("user").unwrap_or_default();
    let database = field("database").unwrap_or_else(|| user.clone());
    let own = async |server, database: &str| {
        RawClient::login(address(server), "repmgr", database, &corpus.password).await
    };
    let mut pair = Pair {
        primary: own(&corpus.primary, "postgres").await?,
        standby: own(&corpus.standby, "postgres").await?,
    };
    pair.wait_caught_up().await?;
    // With the same settings, and as somebody whose password is known.
    let mut standby = RawClient::connect(address(&corpus.standby)).await?;
    fields.retain(|(name, _)| name != "user");
    fields.push(("user".to_owned(), "repmgr".to_owned()));
    standby.send(&packet_of(&fields)).await?;
    standby.authenticate("repmgr", &corpus.password).await?;
    if user != "repmgr" {
        standby.query(&format!("SET SESSION AUTHORIZATION \"{user}\"")).await?;
    }
    let mut catalogue = own(&corpus.primary, &database).await?;
    catalogue.query("SET search_path = pg_catalog, pg_temp; SET jit = off").await?;
    let recent = RecentScans::default();
    let (is_idle, is_pinned) = (true, false);
    let mut relayed =
        Relayed { corpus, client, primary, standby, pair, catalogue, recent, database, is_idle, is_pinned };
    while let Some(frame) = relayed.client.read_frame().await? {
        match frame.tag {
            b'Q' => relayed.on_query(&frame).await?,
            b'X' => break,
            // A large object, which is for the primary; and what psql asks of a text that it does not run.
            b'F' | b'S' => relayed.pass(&frame).await.map(drop)?,
            b'P' | b'B' | b'D' | b'E' | b'C' => relayed.primary.send(&bytes(&frame)).await?,
            _ => bail!("psql has sent {frame:?}"),
        }
    }
    Ok(())
}

/// The startup packet, or a cancel request.
async fn startup_packet(client: &mut RawClient) -> Result<Option<Bytes>> {
    let mut packet = Vec::new();
    let mut len = 4;
    while packet.len() < len {
        let Some(byte) = client.read_byte().await? else { return Ok(None) };
        packet.push(byte);
        if let (4, Some(bytes)) = (packet.len(), packet.first_chunk()) {
            len = usize::try_from(u32::from_be_bytes(*bytes))?;
        }
    }
    Ok(Some(packet.into()))
}

fn fields(packet: &[u8]) -> Vec<(String, String)> {
    let words: Vec<_> =
        packet.get(8..).unwrap_or_default().split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let pairs = words.as_chunks::<2>().0.iter().filter(|[name, _]| !name.is_empty());
    pairs.map(|[name, value]| (name.clone().into_owned(), value.clone().into_owned())).collect()
}

fn packet_of(fields: &[(String, String)]) -> Vec<u8> {
    let pairs: String = fields.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
    let len = u32::try_from(pairs.len() + 9).unwrap_or_default();
    [&len.to_be_bytes()[..], &PROTOCOL, pairs.as_bytes(), b"\0"].concat()
}

/// Passes the login on; false if it was refused.
async fn log_in(client: &mut RawClient, primary: &mut RawClient) -> Result<bool> {
    loop {
        let frame = primary.expect_frame().await?;
        client.send(&bytes(&frame)).await?;
        let request = frame.payload.first_chunk().map_or(0, |request| u32::from_be_bytes(*request));
        match frame.tag {
            // A password, SASL and its continuation.
            b'R' if matches!(request, 3 | 5 | 10 | 11) => {
                let Some(reply) = client.read_frame().await? else { return Ok(false) };
                primary.send(&bytes(&reply)).await?;
            }
            b'E' => return Ok(false),
            b'Z' => return Ok(true),
            _ => {}
        }
    }
}

fn bytes(frame: &Frame) -> Vec<u8> {
    [&[frame.tag], &frame.length.to_be_bytes()[..], &frame.payload].concat()
}

fn address(server: &Server) -> (Ipv4Addr, u16) {
    (server.address(), server.port())
}

/// Sessions that tell how far the servers are.
struct Pair {
    primary: RawClient,
    standby: RawClient,
}

impl Pair {
    /// How far the primary has written.
    async fn position(&mut self) -> Result<String> {
        self.primary.query("SELECT pg_current_wal_insert_lsn()").await?.value().context("a position")
    }

    /// Waits until the standby has all that was committed.
    async fn wait_caught_up(&mut self) -> Result<()> {
        let flushed = self.primary.query("SELECT pg_current_wal_flush_lsn()").await?;
        let question =
            format!("SELECT pg_last_wal_replay_lsn() >= '{}'", flushed.value().context("a position")?);
        let until = Instant::now() + PATIENCE;
        while self.standby.query(&question).await?.value().as_deref() != Some("t") {
            ensure!(Instant::now() < until, "the standby does not catch up");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

impl Relayed<'_> {
    async fn on_query(&mut self, frame: &Frame) -> Result<()> {
        let text = frame.text();
        let scan = self.recent.scan(text.as_bytes());
        if !self.is_idle {
            self.corpus.count("in a transaction block");
            return self.pass(frame).await.map(drop);
        }
        let may_read = matches!(scan.place, Place::Standby | Place::Primary(Why::Function));
        if !may_read || matches!(scan.effect, Effect::Begin | Effect::Empty) {
            return self.on_other(frame, scan).await;
        }
        let suspects = self.corpus.knowledge.suspects(&self.database, &mut self.catalogue).await?;
        match self.recent.judge(text.as_bytes(), &suspects).place {
            Place::Standby => self.on_read(frame, &text).await,
            Place::Primary(_) => self.on_other(frame, scan).await,
        }
    }

    /// What is for the primary. What it does to the session's parameters is done on the standby, too.
    async fn on_other(&mut self, frame: &Frame, scan: Scan) -> Result<()> {
        let what = match scan.place {
            Place::Standby => "transactions that only read",
            Place::Primary(why) => why.word(),
        };
        self.corpus.count(what);
        let answer = self.pass(frame).await?;
        self.corpus.knowledge.outdate();
        self.is_pinned |= scan.pin.is_some();
        if answer.error().is_none() && (scan.alters || scan.pin.is_some()) {
            let text = frame.text();
            let begins = |word: &str| text.get(..word.len()).is_some_and(|it| it.eq_ignore_ascii_case(word));
            if begins("set") || begins("reset") || text.contains("set_config") {
                self.pair.wait_caught_up().await?;
                self.standby.query(&text).await?;
            }
        }
        Ok(())
    }

    async fn on_read(&mut self, frame: &Frame, text: &str) -> Result<()> {
        self.pair.wait_caught_up().await?;
        let before = self.pair.position().await?;
        let first = self.pass(frame).await?;
        let changed = self.changed_since(&before).await?;
        // A session that has used temporary tables truncates them at each commit, if they are to be.
        if !changed.is_empty() && !self.is_pinned {
            self.corpus.wrong(text, &format!("changed something: {changed}"));
        }
        self.standby.send(&bytes(frame)).await?;
        let there = self.standby.read_answer().await?;
        match compare(&first, &there) {
            Likeness::Same => self.corpus.count("the same"),
            Likeness::InOtherOrder => self.corpus.count("the same in another order"),
            Likeness::Different => self.on_different(frame, text, &first, &there).await?,
        }
        Ok(())
    }

    /// It may be that it gives something else each time, or that only this session has what it names.
    async fn on_different(
        &mut self,
        frame: &Frame,
        text: &str,
        first: &Answer,
        there: &Answer,
    ) -> Result<()> {
        let code = there.error().map(|error| error.code().to_owned()).unwrap_or_default();
        // What is temporary may have the name of something else.
        if self.is_pinned && code != "25006" {
            self.corpus.count("of a pinned session");
            return Ok(());
        }
        self.primary.send(&bytes(frame)).await?;
        let again = self.primary.read_answer().await?;
        if code.is_empty() && compare(first, &again) == Likeness::Different {
            self.corpus.count("different each time");
        } else {
            self.corpus.wrong(text, &difference(first, there));
        }
        Ok(())
    }

    /// Has the primary run it, and psql see the answer.
    async fn pass(&mut self, frame: &Frame) -> Result<Answer> {
        self.primary.send(&bytes(frame)).await?;
        let mut frames = Vec::new();
        loop {
            let frame = self.primary.expect_frame().await?;
            self.client.send(&bytes(&frame)).await?;
            match frame.tag {
                b'G' => loop {
                    let data = self.client.expect_frame().await?;
                    self.primary.send(&bytes(&data)).await?;
                    if matches!(data.tag, b'c' | b'f') {
                        break;
                    }
                },
                b'Z' => {
                    self.is_idle = frame.payload.first() == Some(&b'I');
                    frames.push(frame);
                    return Ok(Answer { frames });
                }
                _ => {}
            }
            frames.push(frame);
        }
    }

    /// What the primary has written since, but for what reading writes anywhere (hints, pruning) and what it writes by itself.
    async fn changed_since(&mut self, before: &str) -> Result<String> {
        let question = format!("SELECT pg_current_wal_flush_lsn() > '{before}'");
        if self.pair.primary.query(&question).await?.value().as_deref() != Some("t") {
            return Ok(String::new());
        }
        let records = format!(
            "SELECT string_agg(resource_manager || ' ' || record_type, ', ') FROM pg_get_wal_records_info_till_end_of_wal('{before}')
             WHERE resource_manager NOT IN ('Standby', 'XLOG') AND record_type NOT IN ('PRUNE', 'VISIBLE', 'DELETE_UNUSED')"
        );
        match self.corpus.primary.scalar(&format!("SELECT coalesce(({records}), '')")).await {
            Ok(records) => Ok(records),
            // It has not been flushed: nothing was committed.
            Err(error) if format!("{error:#}").contains("could not find a valid record") => Ok(String::new()),
            Err(error) => Err(error),
        }
    }
}
