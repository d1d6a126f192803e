//! One client of a soak: it connects, does a few things by chance, leaves in one way or another, and comes again.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::time::Instant;

use super::{Account, Common};
use crate::chance::Chance;
use crate::client::{Answer, RawClient};

/// No server connection came free in time: there are more clients than a pool has room for.
const NO_ROOM: &str = "53300";
const CANCELLED: &str = "57014";

/// A client and what it knows.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) common: Arc<Common>,
    pub(super) owner: u32,
    pub(super) account: Account,
    pub(super) chance: Chance,
    /// The key of the connection that it has now.
    pub(super) key: Vec<u8>,
    nonce: u64,
}

/// Whether the connection can be used for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Over,
}

impl Client {
    pub(super) fn new(common: Arc<Common>, owner: u32, seed: u64, account: Account) -> Self {
        Self { common, owner, account, chance: Chance::new(seed), key: Vec::new(), nonce: seed }
    }

    /// Goes on until the time is over; gives back who it is and what its counter must be.
    pub(super) async fn live(mut self, until: Instant) -> Result<(u32, Account)> {
        while Instant::now() < until {
            let mut connection = self.connect().await.context("login")?;
            for _ in 0..1 + self.chance.below(30) {
                match self.act(connection).await? {
                    Some(still) => connection = still,
                    None => break,
                }
                if Instant::now() >= until {
                    break;
                }
            }
        }
        Ok((self.owner, self.account))
    }

    /// True for those that send cancel requests: nobody else may ever be cancelled.
    pub(super) const fn cancels(&self) -> bool {
        self.owner.is_multiple_of(2)
    }

    /// A number that no other answer has.
    pub(super) const fn nonce(&mut self) -> u64 {
        self.nonce = (self.nonce + 1) & 0x7fff_ffff_ffff;
        self.nonce
    }

    async fn connect(&mut self) -> Result<RawClient> {
        let mut connection = RawClient::connect(self.common.address).await?;
        let frames = connection.start("app", "app", &self.common.password).await?;
        let key = frames.iter().find(|frame| frame.tag == b'K').context("no cancel key")?;
        self.key = key.payload.to_vec();
        self.common.count("connections");
        Ok(connection)
    }

    /// Sends a query and looks at each row of its answer: the first two columns are the owner and the nonce.
    pub(super) async fn ask(&self, connection: &mut RawClient, sql: &str, nonce: u64) -> Result<Told> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message)?;
        connection.send(&message).await?;
        let answer = connection.read_answer().await?;
        self.judge(&answer, nonce).with_context(|| sql.to_owned())
    }

    /// Whether an answer is this client's own, and what it amounts to.
    pub(super) fn judge(&self, answer: &Answer, nonce: u64) -> Result<Told> {
        let own = [self.owner.to_string(), nonce.to_string()];
        for row in answer.rows() {
            let says = |at: usize| row.get(at).and_then(Option::as_deref).map(String::from_utf8_lossy);
            ensure!(
                own.iter().enumerate().all(|(at, own)| says(at).as_deref() == Some(own)),
                "a row of another: {row:?} and not {own:?}"
            );
        }
        let transaction = answer.frames.last().and_then(|frame| frame.payload.first()).copied();
        match answer.error() {
            None => Ok(Told { rows: answer.rows().len(), error: None, transaction }),
            Some(fields) => {
                let code = fields.code().to_owned();
                match code.as_str() {
                    NO_ROOM => self.common.count("  no server connection in time"),
                    CANCELLED if self.cancels() => self.common.count("  cancelled"),
                    "22012" => self.common.count("  errors that were asked for"),
                    _ => bail!("{} {}", code, fields.message()),
                }
                Ok(Told { rows: 0, error: Some(code), transaction })
            }
        }
    }

    /// Judges everything that comes up to so many ReadyForQuery.
    pub(super) async fn judge_batches(
        &self,
        connection: &mut RawClient,
        nonces: &[u64],
    ) -> Result<Vec<Told>> {
        let mut told = Vec::new();
        for nonce in nonces {
            let answer = connection.read_answer().await?;
            told.push(self.judge(&answer, *nonce)?);
        }
        Ok(told)
    }
}

/// What an answer amounted to.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) rows: usize,
    pub(super) error: Option<String>,
    transaction: Option<u8>,
}

impl Told {
    /// True if no transaction is open.
    pub(super) fn is_idle(&self) -> bool {
        self.transaction == Some(b'I')
    }
}

/// Takes so many messages of an answer, which is about to be cut, or fewer if it ends before.
pub(super) async fn swallow(connection: &mut RawClient, messages: u64) -> Result<()> {
    for _ in 0..messages {
        if connection.read_frame().await?.is_none_or(|frame| frame.tag == b'Z') {
            break;
        }
    }
    Ok(())
}
