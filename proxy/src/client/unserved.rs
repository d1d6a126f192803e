//! What clients are told for whom there is no server connection.

use pgherd_protocol::error::ClientError;

use super::acquire::Access;
use crate::server::pool::Pool;
use crate::server::table::Target;
use crate::worker::Worker;

/// What a client is told whose statement was cancelled before any server had it.
pub(super) fn cancelled() -> ClientError {
    ClientError::new("57014", "canceling statement due to user request")
}

pub(super) fn no_primary(worker: &Worker) -> ClientError {
    let table = worker.shared.backends.load();
    let reason = match &table.writes {
        Target::Held { reason, .. } => reason.to_string(),
        Target::Open(server) => format!("{} cannot be reached", server.node),
    };
    ClientError::new("57P03", format!("no primary is available: {reason}"))
        .hint("Try again later. The operator can see more with pgherd's log.")
}

/// What a client is told that has waited for a connection of this pool for too long.
pub(super) fn pool_is_full(access: &Access, pool: &Pool, worker: &Worker) -> ClientError {
    let (database, user) = (access.database(), access.user());
    let limit = worker.shared.config.load().pool.query_wait_timeout_for(database, user);
    let why = pool.why_full();
    ClientError::new("53300", "no server connection became free in time")
        .detail(format!(
            "The connections of the pool of database \"{database}\" and user \"{user}\" were in use for {:?}. {why}",
            limit.unwrap_or_default()
        ))
        .hint(
            "Raise pool.size or pool.query_wait_timeout, or max_connections where the server takes no more, or hold \
             transactions for a shorter time.",
        )
}

/// What a client is told whose login waits for a server for too long.
pub(super) fn not_in_time(worker: &Worker, access: &Access) -> ClientError {
    if matches!(worker.shared.backends.load().writes, Target::Open(_)) {
        let (database, user) = (access.database(), access.user());
        return ClientError::new("53300", "no server connection became free in time").detail(format!(
            "The login needs one of the pool of database \"{database}\" and user \"{user}\", and they were in use for \
             {:?}.",
            worker.shared.config.load().pool.client_login_timeout
        ));
    }
    no_primary(worker)
}
