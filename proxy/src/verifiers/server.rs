//! One server: a kept connection and the query.

use std::time::Instant;

use pgherd_health::{ConnectFailure, Login, Session};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::{Endpoint, Role, Settings};
use crate::config::Secret;

/// Every name is qualified, the operator too: the monitor user's search_path (its own, or the database's) must not be
/// able to put another function or table here.
const QUERY: &str = "SELECT a.rolname, a.rolpassword, a.rolcanlogin, a.rolvaliduntil \
    FROM pg_catalog.pg_authid AS a WHERE a.rolname OPERATOR(pg_catalog.=) $1";

/// A connection that is kept for the next question.
pub(super) struct Connection(Session);

/// Why a server gave no answer.
pub(super) enum AskError {
    /// The monitor user may not read `pg_authid`; says what to do.
    Forbidden(String),
    /// Anything else.
    Failed(String),
}

/// Asks a server for a role, over the kept connection if that still works.
pub(super) async fn ask(
    endpoint: &Endpoint,
    kept: Option<Connection>,
    settings: &Settings,
    user: &str,
) -> Result<(Connection, Option<Role>), AskError> {
    let asking = async {
        if let Some(connection) = kept.filter(|connection| !connection.0.is_closed())
            && let Ok(role) = connection.role(user).await
        {
            return Ok((connection, role));
        }
        let connection = Connection::open(endpoint, settings)
            .await
            .map_err(|failure| AskError::Failed(format!("{endpoint}: {failure}")))?;
        let role = connection.role(user).await.map_err(|error| described(&error, endpoint, settings))?;
        Ok((connection, role))
    };
    let timeout = settings.timing.server_timeout;
    tokio::time::timeout(timeout, asking).await.unwrap_or_else(|_| {
        Err(AskError::Failed(format!("{endpoint}: no answer within {} ms", timeout.as_millis())))
    })
}

impl Connection {
    async fn open(endpoint: &Endpoint, settings: &Settings) -> Result<Self, ConnectFailure> {
        let login = Login {
            user: &settings.login.user,
            password: settings.login.password.as_ref().map(Secret::expose),
            database: &settings.login.database,
            application_name: "pgherd passwords",
            options: &format!(
                "-c search_path=pg_catalog -c default_transaction_read_only=on -c statement_timeout={}",
                settings.timing.server_timeout.as_millis()
            ),
            tls: &settings.login.tls,
        };
        Ok(Self(login.at(&endpoint.host, endpoint.port).await?))
    }

    async fn role(&self, user: &str) -> Result<Option<Role>, tokio_postgres::Error> {
        let asked_at = Instant::now();
        let rows = self.0.client().query_typed(QUERY, &[(&user, Type::NAME)]).await?;
        // A row of another user must not be used, whatever the reason why it is here.
        for row in &rows {
            if row.try_get::<_, &str>("rolname")? == user {
                return Role::from_row(row, asked_at).map(Some);
            }
        }
        Ok(None)
    }
}

fn described(error: &tokio_postgres::Error, endpoint: &Endpoint, settings: &Settings) -> AskError {
    let Some(refusal) = error.as_db_error() else {
        return AskError::Failed(format!("{endpoint}: {}", with_cause(error)));
    };
    if refusal.code() == &SqlState::INSUFFICIENT_PRIVILEGE {
        let (user, database) = (quoted(&settings.login.user), quoted(&settings.login.database));
        return AskError::Forbidden(format!(
            "user {user} may not read pg_catalog.pg_authid on server {endpoint}, so that no password can be checked: \
             run, as a superuser in database {database} of the primary, \
             GRANT SELECT ON pg_catalog.pg_authid TO {user} (or make {user} a superuser)"
        ));
    }
    AskError::Failed(format!("{endpoint}: {} {}", refusal.code().code(), refusal.message()))
}

fn with_cause(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
