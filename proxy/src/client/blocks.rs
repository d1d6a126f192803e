//! Transaction blocks that only read, on standbys: how they come to the primary.

use std::time::{Duration, Instant};

use pgherd_protocol::error::ClientError;
use pgherd_protocol::rows::one_column;
use pgherd_protocol::session::{Loss, Passage, Refusal, Transaction, bound_to_standby};
use pgherd_protocol::statement::{Isolation, Why};
use pgherd_protocol::write;

use super::acquire::{Attempt, Held};
use super::relay::{Event, Front, Lost};
use super::session::Session;
use super::turns::Turn;
use crate::buffer::Buffers;
use crate::server::connection::ServerConnection;
use crate::traffic::Reason;

/// One whose transaction block has gone to the primary begins the next there for so long.
const KEEPS_BLOCKS: Duration = Duration::from_secs(10);

/// Whether a session begins its transaction blocks that only read on the primary.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum KeepsBlocks {
    /// On a standby.
    #[default]
    No,
    /// On the primary, until then.
    Until(Instant),
    /// On the primary: one could not go there.
    Always,
}

impl KeepsBlocks {
    /// The next may need the primary, too.
    fn for_a_while() -> Self {
        Self::Until(Instant::now() + KEEPS_BLOCKS)
    }
}

/// A standby that has not ended a block by then is not waited for: its connection is closed.
const MOST_WAITED: Duration = Duration::from_secs(1);

/// Tells the level of a block that has asked for none, when it has ended.
const DEFAULT_LEVEL: &str = "SHOW default_transaction_isolation";

/// A transaction that had one elsewhere has a snapshot then, too.
const QUERY: &str = "SELECT 1";

/// Fails a transaction that has failed elsewhere. What it says is for nobody but the server's log.
const FAIL: &str = "ROLLBACK TO SAVEPOINT lost_with_a_standby";

impl Front {
    /// True if the session begins its transaction blocks on the primary, whatever they do: a standby would not have the last one.
    pub(super) fn keeps_blocks(&self) -> bool {
        !self.has_blocks
            || match self.keeps_blocks {
                KeepsBlocks::No => false,
                KeepsBlocks::Until(end) => Instant::now() < end,
                KeepsBlocks::Always => true,
            }
    }
}

impl Session {
    /// What the client has sent is not for the standby that it was sent to, or would be. Gives the lease with which it goes on.
    pub(super) async fn away_from_standby(&mut self, held: Held, event: &Event) -> Result<Held, Turn> {
        match event {
            Event::Refused(refusal) => self.on_refused(held, *refusal).await,
            _ => self.leave_standby(held).await,
        }
    }

    /// A block that a standby has refused something in stays there: the next goes to the primary, if it may say the same again.
    pub(super) fn keep_blocks(&mut self, refusal: Refusal) {
        self.front.keeps_blocks =
            if refusal == Refusal::ForGood { KeepsBlocks::Always } else { KeepsBlocks::for_a_while() };
    }

    /// What the client asks for next in its block on a standby is for the primary: so the block is begun anew there, if the client cannot notice.
    async fn leave_standby(&mut self, mut held: Held) -> Result<Held, Turn> {
        let lookup = self.worker.lookup(&self.access.sequences);
        let (_, (input, _), _) = self.front.up.uncut();
        let passage = self.front.machine.passage(input, lookup);
        let server = held.server.node.to_string();
        let ended = match held.lease.connection() {
            Some(connection) => in_time(end_block(connection, &self.worker.buffers)).await,
            None => None,
        };
        // What it has said besides would be taken for the next one's words.
        if ended.is_some() && !self.front.down.has_input() {
            let _ = self.give_back(held).await;
        } else {
            drop(held);
            self.front.down.forget_uncut(&self.worker.buffers);
        }
        self.go_to_primary(passage, ended, &server).await
    }

    /// The block has ended on a standby, like this. It goes on on the primary.
    pub(super) async fn go_to_primary(
        &mut self,
        passage: Passage,
        ended: Option<Ended>,
        server: &str,
    ) -> Result<Held, Turn> {
        let (level, undone) = ended.map(|ended| (ended.level, ended.undone)).unzip();
        let undone = undone.unwrap_or_default();
        let is_free = match passage {
            Passage::Free => true,
            Passage::ByDefault => level.is_some_and(Isolation::is_anew_for_each_statement),
            Passage::Barred => false,
        };
        self.front.keeps_blocks = if is_free { KeepsBlocks::for_a_while() } else { KeepsBlocks::Always };
        if !is_free {
            return Err(self.refuse_block(bound_to_standby(server), &undone).await);
        }
        let held = match self.access.try_now(&self.worker) {
            Attempt::Held(held) => Ok(held),
            other => self.persist(other).await,
        };
        let mut held = match held {
            Ok(held) => held,
            Err(failure) => match self.refusal(failure) {
                Some(error) => return Err(self.refuse_block(error, &undone).await),
                None => return Err(Turn::End),
            },
        };
        let begin = self.front.machine.begin_anew();
        let is_failed = self.front.machine.transaction() == Transaction::Failed;
        let is_past_first_query = self.front.machine.is_past_first_query();
        if !self.join(&mut held) {
            return Err(Turn::End);
        }
        let Some(connection) = held.lease.connection() else { return Err(Turn::End) };
        // What it has heard of meanwhile, if it is the session's own, comes before the answers.
        let mut buffer = self.worker.buffers.take();
        let begun = if is_failed {
            connection
                .run_and_hear([&begin, FAIL], &mut buffer)
                .await
                .map(|([begun, _], heard)| (begun, heard))
        } else if is_past_first_query {
            let run = connection.run_and_hear([&begin, QUERY], &mut buffer).await;
            run.map(|([begun, queried], heard)| (begun.and(queried), heard))
        } else {
            connection.run_and_hear([&begin], &mut buffer).await.map(|([begun], heard)| (begun, heard))
        };
        let begun = self.hear(begun, buffer);
        self.front.meter.begin();
        self.front.reason = Reason::Text(Why::Transaction);
        match begun {
            Ok(Ok(())) => Ok(held),
            // What the session has left there is lost with it.
            Ok(Err(_)) if self.front.machine.has_home() => {
                Err(Box::pin(self.part(held, Lost::because("the transaction could not be begun there")))
                    .await)
            }
            Err(error) if self.front.machine.has_home() => {
                Err(Box::pin(self.part(held, Lost::because(error))).await)
            }
            Ok(Err(body)) => Err(self.refuse_block(ClientError::from_server(&body), &undone).await),
            Err(error) => {
                let loss = Loss { server: held.server.node.to_string(), cause: error.to_string() };
                drop(held);
                Err(self.refuse_block(loss.rolled_back(), &undone).await)
            }
        }
    }

    /// The block goes on nowhere: the client is told why with its next statement, and what is in force again without it.
    async fn refuse_block(&mut self, error: ClientError, undone: &[(Box<str>, Box<str>)]) -> Turn {
        tracing::debug!(peer = %self.peer(), error = %error.message, "a transaction that only reads was given up");
        let detached = self.front.machine.abandon_block(&error);
        let told = self.front.down.append();
        undone.iter().for_each(|(name, value)| write::parameter_status(told, name, value));
        self.serve_detached(detached).await
    }
}

/// What comes of what a standby is asked to clear up, unless it takes too long.
pub(super) async fn in_time<T>(work: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::time::timeout(MOST_WAITED, work).await.ok().flatten()
}

/// A block that has ended on a standby.
#[derive(Debug)]
pub(super) struct Ended {
    /// The level that transactions have there if they ask for none.
    level: Isolation,
    /// What the server has reported to be in force again.
    undone: Vec<(Box<str>, Box<str>)>,
}

/// Ends the block on a standby; none if the connection is not to be used any more.
pub(super) async fn end_block(connection: &mut ServerConnection, buffers: &Buffers) -> Option<Ended> {
    let before = connection.state.parameters.clone();
    let [ended] = connection.run_all(["ROLLBACK"], buffers).await.ok()?;
    ended.ok()?;
    let rows = connection.ask_alone(DEFAULT_LEVEL, 1, buffers).await?.rows?;
    let level = one_column(rows.first()?).and_then(Isolation::named)?;
    let now = connection.state.parameters.iter();
    let undone = now.filter(|(name, value)| before.get(*name) != Some(*value));
    Some(Ended { level, undone: undone.map(|(name, value)| (name.clone(), value.clone())).collect() })
}
