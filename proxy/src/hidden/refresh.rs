//! Reads the catalogues of the databases that are used. One task does it, on the first worker, over connections of the pools.

use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use pgherd_protocol::catalogue::{BEGIN, Catalogue, FINGERPRINT, MOST_ROWS, places_question, question};
use pgherd_protocol::parameters::Parameters;
use tokio::time::MissedTickBehavior;

use super::{Due, Reading};
use crate::client::acquire::{Access, Held, connect};
use crate::config::PoolMode;
use crate::seat::Seat;
use crate::server::connection::ServerConnection;
use crate::worker::{Stage, Worker};

/// How often it is looked whether a catalogue is to be read.
const INTERVAL: Duration = Duration::from_millis(250);
/// Who has not used a connection for so long will not miss it.
const RESTED: Duration = Duration::from_millis(200);
/// How long the task waits among clients for a connection.
const WAITS: Duration = Duration::from_secs(5);

/// Ends when the worker begins to drain.
pub(crate) async fn keep_read(worker: &Worker) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while worker.stage() == Stage::Serving {
        // Neither loses anything if the other is first: a tick comes again, and that somebody has come is kept.
        tokio::select! {
            _ = interval.tick() => {}
            () = worker.shared.catalogues.unknown_used.notified() => {}
        }
        for due in
            worker.shared.catalogues.due(Instant::now(), worker.shared.statements.catalogue_generation())
        {
            read(worker, due).await;
        }
    }
}

/// Where the catalogue is read.
enum Source {
    /// A connection of a pool.
    Lent(Held),
    /// One that belongs to no pool.
    Own(Box<ServerConnection>),
}

impl Source {
    fn connection(&mut self) -> Option<&mut ServerConnection> {
        match self {
            Self::Lent(held) => held.lease.connection(),
            Self::Own(connection) => Some(connection),
        }
    }

    fn give_back(self) {
        if let Self::Lent(held) = self {
            held.lease.give_back();
        }
    }
}

async fn read(worker: &Worker, Due { database, users, before, is_urgent }: Due) {
    let shared = &worker.shared;
    // Before the question: what changes meanwhile is read again.
    let generation = shared.statements.catalogue_generation();
    let mut source = None;
    for user in users {
        source = connection(worker, (&database, &user), is_urgent).await;
        if source.is_some() {
            break;
        }
    }
    // Where there is none to be had it stays due.
    let Some(mut source) = source else { return shared.catalogues.on_no_connection(&database) };
    let Some(connection) = source.connection() else { return };
    let begun = Instant::now();
    match ask(connection, worker, before).await {
        Ok(Some(reading)) => {
            source.give_back();
            let names = reading.names.known.len();
            shared.catalogues.on_read(&database, Reading { generation, ..reading }, begun.elapsed());
            tracing::debug!(%database, names, "the catalogue was read");
        }
        // The connection is closed: what is open there is rolled back.
        Ok(None) => {
            shared.catalogues.on_failure(&database, "the server refused the question, or it took too long");
        }
        Err(error) => shared.catalogues.on_failure(&database, &error.to_string()),
    }
}

/// What the catalogue says, if that can be told. It is what was known before if nothing has changed.
async fn ask(
    connection: &mut ServerConnection,
    worker: &Worker,
    before: Option<Reading>,
) -> io::Result<Option<Reading>> {
    let buffers = &worker.buffers;
    if !matches!(connection.run_all([BEGIN], buffers).await?, [Ok(())]) {
        return Ok(None);
    }
    let mut buffer = buffers.take();
    let Some(fingerprint) = connection.ask(FINGERPRINT, 1, &mut buffer).await?.rows else { return Ok(None) };
    let reading = match before.filter(|before| before.fingerprint == fingerprint) {
        Some(unchanged) => Reading { is_doubtful: false, ..unchanged },
        None => {
            let Some(hidden) = connection.ask(&question(), MOST_ROWS, &mut buffer).await?.rows else {
                return Ok(None);
            };
            let places = connection.ask(&places_question(), MOST_ROWS, &mut buffer).await?.rows;
            let Some(catalogue) = places.and_then(|places| Catalogue::read(&hidden, &places)) else {
                return Ok(None);
            };
            let (names, parameters) = catalogue.into_names(worker.shared.catalogues.number());
            Reading {
                names: Arc::new(names),
                parameters: parameters.into(),
                generation: 0,
                fingerprint,
                is_doubtful: false,
            }
        }
    };
    buffers.give(buffer);
    let ended = connection.run_all(["COMMIT"], buffers).await?;
    Ok(matches!(ended, [Ok(())]).then_some(reading))
}

/// A connection of the pool of this database and user. Who uses the pool is not to notice: one that nobody has used for a moment; and
/// where it is urgent, as soon as it is the task's turn. In session mode that may never come, and who begins another session is to get another
/// process: there one is opened beside the pool.
async fn connection(worker: &Worker, (database, user): (&str, &str), is_urgent: bool) -> Option<Source> {
    let mode = worker.shared.config.load().pool.mode_for(database, user);
    let (database, user) = (Arc::<str>::from(database), Arc::<str>::from(user));
    let parameters = worker.shared.parameters.share(Parameters::default());
    let seat = Arc::new(Seat::internal(&database, &user, &parameters));
    let mut access = Access::new(parameters, seat, Arc::default());
    if let Some(held) = access.rested(worker, RESTED).await {
        return Some(Source::Lent(held));
    }
    if !is_urgent {
        return None;
    }
    if mode == PoolMode::Session {
        let primary = worker.shared.backends.primary()?;
        return connect(&primary, (&database, &user), &[], worker).await.ok().map(Source::Own);
    }
    let first = access.try_now(worker);
    let held =
        tokio::time::timeout(WAITS, access.persist(worker, first, || Poll::Pending)).await.ok()?.ok()?;
    Some(Source::Lent(held))
}
