//! Traces, for those who collect them with OpenTelemetry: of transactions, and of changes of the primary. Nothing of this is done
//! unless `trace.endpoint` says where they are sent.

mod changes;
mod context;
mod courier;
mod export;
mod spans;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::SpanContext;
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc;

use crate::config::Trace;
use crate::server::table::Server;
use crate::traffic::Reason;

pub(crate) use changes::follow;
pub(crate) use context::context_in;
pub(crate) use export::export;

/// So many wait to be sent. Those beyond are dropped, and counted.
const WAITING: usize = 4096;

/// What sessions ask whether something is traced, and tell of what is.
#[derive(Debug)]
pub(crate) struct Traces {
    is_on: AtomicBool,
    /// The part of the transactions that is traced, of [`u64::MAX`].
    share: AtomicU64,
    queue: mpsc::Sender<Told>,
    sent: AtomicUsize,
    dropped: AtomicUsize,
    failed: AtomicUsize,
}

/// What is told of.
#[derive(Debug)]
pub(crate) enum Told {
    /// A transaction, made into spans by who sends them.
    Transaction(Box<Transaction>),
    /// Spans of a change of the primary.
    Change(Vec<SpanData>),
}

/// What is known at the end of a transaction that is traced; of several, if the client has sent them at once.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// The client's span that it is part of.
    pub(crate) parent: Option<SpanContext>,
    /// When it ended.
    pub(crate) ended: SystemTime,
    /// How long it took, with `waited`.
    pub(crate) took: Duration,
    /// How long it waited for a server connection.
    pub(crate) waited: Duration,
    /// Its database and user.
    pub(crate) database: Arc<str>,
    pub(crate) user: Arc<str>,
    /// The address of its client.
    pub(crate) client: String,
    /// Where it ran.
    pub(crate) server: Arc<Server>,
    /// Why it ran there.
    pub(crate) reason: Reason,
    pub(crate) queries: u32,
    pub(crate) transactions: u32,
}

/// How spans came to an end, for metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// The collector has them.
    Sent,
    /// Too many waited.
    Dropped,
    /// The collector did not take them.
    Failed,
}

impl Fate {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Sent, Self::Dropped, Self::Failed];

    /// One word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

impl Traces {
    /// The handle, and what [`export`] sends.
    pub(crate) fn new(config: &Trace) -> (Self, mpsc::Receiver<Told>) {
        let (queue, told) = mpsc::channel(WAITING);
        let traces = Self {
            is_on: AtomicBool::default(),
            share: AtomicU64::default(),
            queue,
            sent: AtomicUsize::default(),
            dropped: AtomicUsize::default(),
            failed: AtomicUsize::default(),
        };
        traces.reconfigure(config);
        (traces, told)
    }

    /// Does from now on as the configuration says.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of all: 0 to 1"
    )]
    pub(crate) fn reconfigure(&self, config: &Trace) {
        self.share.store((config.ratio * u64::MAX as f64) as u64, Ordering::Relaxed);
        self.is_on.store(config.endpoint.is_some(), Ordering::Relaxed);
    }

    /// Something may be traced.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Whether a transaction is traced: as its client says of its own span, else as chance has it.
    pub(crate) fn takes(&self, parent: Option<&SpanContext>) -> bool {
        match parent {
            Some(parent) => parent.is_sampled(),
            None => {
                let share = self.share.load(Ordering::Relaxed);
                share > 0 && rand::random::<u64>() <= share
            }
        }
    }

    /// Has something sent. It never waits.
    pub(crate) fn tell(&self, told: Told) {
        if let Err(error) = self.queue.try_send(told) {
            let dropped = match error.into_inner() {
                Told::Transaction(_) => 1,
                Told::Change(spans) => spans.len(),
            };
            self.count(Fate::Dropped, dropped);
        }
    }

    /// Spans that have come to this end; of those that were dropped, the transactions.
    pub(crate) fn counted(&self, fate: Fate) -> usize {
        self.counter(fate).load(Ordering::Relaxed)
    }

    fn count(&self, fate: Fate, spans: usize) {
        self.counter(fate).fetch_add(spans, Ordering::Relaxed);
    }

    const fn counter(&self, fate: Fate) -> &AtomicUsize {
        match fate {
            Fate::Sent => &self.sent,
            Fate::Dropped => &self.dropped,
            Fate::Failed => &self.failed,
        }
    }
}
