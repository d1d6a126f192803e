//! What a session costs in time, measured by the clock that its event loop reads once a turn.

use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::SpanContext;

use super::acquire::Access;
use super::relay::Front;
use crate::reactor;
use crate::server::table::Server;
use crate::traces::{Told, Transaction};
use crate::traffic::{Counter, Reason, Shard, Timed};
use crate::worker::{Stage, Worker};

/// Times in microseconds of [`reactor::micros`], 0 for none.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The server has been at work since then.
    busy_since: u64,
    /// The transaction has been under way since then.
    begun_at: u64,
    /// When the client has asked for something last.
    pub(super) asked_at: u64,
    /// How long the server has worked, of what was not told yet.
    query_time: u64,
    /// The same of transactions.
    transaction_time: u64,
    /// Queries that were not told yet.
    queries: u32,
    /// The same of transactions.
    transactions: u32,
    /// Of the transaction that has begun, where something is traced.
    pub(super) lead: Option<Box<Lead>>,
}

/// What a trace begins with.
#[derive(Debug, Default)]
pub(super) struct Lead {
    /// The client's own span.
    pub(super) parent: Option<SpanContext>,
    /// How long the transaction has waited for a server connection, in microseconds.
    pub(super) waited: u64,
}

/// What has ended, and was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    queries: u32,
    transactions: u32,
    /// How long the transactions took together, in microseconds; from the moment when they had a server connection.
    time: u64,
}

impl Meter {
    /// The client has asked for something.
    #[inline]
    pub(super) fn begin(&mut self) {
        if self.busy_since == 0 {
            let now = reactor::micros();
            self.busy_since = now;
            self.asked_at = now;
            if self.begun_at == 0 {
                self.begun_at = now;
            }
        }
    }

    /// The server owes nothing; `idle`: nor is a transaction open.
    #[inline]
    pub(super) fn rest(&mut self, idle: bool) {
        if self.busy_since > 0 {
            let now = reactor::micros();
            self.query_time += now - self.busy_since;
            self.busy_since = 0;
            if idle {
                self.transaction_time += now - self.begun_at;
                self.begun_at = 0;
            }
        }
    }

    /// So many queries and transactions have ended. Tells of them, with how long they took, as soon as the server owes nothing: how long
    /// those of a pipeline take is known at its end only.
    #[inline]
    pub(super) fn tell(&mut self, (queries, transactions): (u32, u32), shard: &Shard) -> Ended {
        self.queries = self.queries.saturating_add(queries);
        self.transactions = self.transactions.saturating_add(transactions);
        if self.busy_since > 0 {
            return Ended::default();
        }
        let (query_time, time) = (take(&mut self.query_time), take(&mut self.transaction_time));
        let (queries, transactions) = (take(&mut self.queries), take(&mut self.transactions));
        shard.add_time((Counter::QueryTime, Timed::Query), query_time, queries.into());
        shard.add_time((Counter::TransactionTime, Timed::Transaction), time, transactions.into());
        Ended { queries, transactions, time }
    }

    /// The server connection has gone, whatever was under way.
    pub(super) const fn stop(&mut self) {
        self.busy_since = 0;
        self.begun_at = 0;
    }
}

/// Has what was done on this server counted; `leases` have ended.
pub(super) fn count(
    front: &mut Front,
    (access, worker, server): (&Access, &Worker, &Arc<Server>),
    leases: u64,
) {
    if let Some(shard) = access.account.shard(worker.id) {
        shard.add(Counter::Assignments, leases);
        let reason = if server.is_primary() { front.reason } else { Reason::Read };
        let (reads, ended) = front.count(shard, reason);
        if let Some(shard) = server.account.shard(worker.id).filter(|_| reads > 0) {
            shard.add(Counter::Reads, reads.into());
        }
        if ended.transactions > 0 && worker.shared.traces.is_on() {
            trace(&mut front.meter, (access, worker, server), (reason, ended));
        }
    }
    let card = access.seat.card();
    card.prepared.store(front.machine.prepared() as u64, Ordering::Relaxed);
    card.asked_at.store(front.meter.asked_at, Ordering::Relaxed);
}

/// Has what has ended traced, if it is to be.
#[cold]
fn trace(
    meter: &mut Meter,
    (access, worker, server): (&Access, &Worker, &Arc<Server>),
    (reason, ended): (Reason, Ended),
) {
    let Lead { parent, waited } = meter.lead.take().map(|lead| *lead).unwrap_or_default();
    let traces = &worker.shared.traces;
    if !traces.takes(parent.as_ref()) {
        return;
    }
    traces.tell(Told::Transaction(Box::new(Transaction {
        parent,
        ended: SystemTime::now(),
        took: Duration::from_micros(waited + ended.time),
        waited: Duration::from_micros(waited),
        database: Arc::clone(access.database()),
        user: Arc::clone(access.user()),
        client: access.peer().to_string(),
        server: Arc::clone(server),
        reason,
        queries: ended.queries,
        transactions: ended.transactions,
    })));
}

/// How far a session is to go: as far as its worker, unless somebody has ended it.
#[inline]
pub(super) fn stage(worker: &Worker, access: &Access) -> Stage {
    if access.seat.is_dismissed() { Stage::Ending } else { worker.stage() }
}
