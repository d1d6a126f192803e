//! One server: a kept connection and the questions.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pgherd_health::{ConnectFailure, Login, Session};
use pgherd_protocol::auth::Verifier;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::{Database, Databases, Endpoint, LookupError, Role, Settings, Stored};
use crate::config::Secret;

// Every name is qualified, the operators too: the user's search_path (its own, or the database's) must not be able to put another
// function or table here.

/// What sessions of a role begin with, as a number that is another where that is another.
macro_rules! settings_of {
    ($role:literal) => {
        concat!(
            "(SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(s::pg_catalog.text, '' ORDER BY s.setdatabase, s.setrole), 0) \
            FROM pg_catalog.pg_db_role_setting AS s WHERE s.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[",
            $role,
            ".oid, 0])) AS settings"
        )
    };
}

/// What sessions of a role ask pgherd for, if nothing else was said to them: pairs of a database, or null for all, and a setting, the one
/// that counts most last (`process_settings()` in PostgreSQL's `postinit.c`).
macro_rules! asks_of {
    ($role:literal) => {
        concat!(
            "(SELECT pg_catalog.json_agg(pg_catalog.json_build_array(d.datname, pg_catalog.left(c.setting, 200)) \
            ORDER BY s.setrole OPERATOR(pg_catalog.<>) 0, s.setdatabase OPERATOR(pg_catalog.<>) 0)::pg_catalog.text \
            FROM pg_catalog.pg_db_role_setting AS s LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) s.setdatabase \
            CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c (setting) \
            WHERE s.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[",
            $role,
            ".oid, 0]) AND pg_catalog.starts_with(c.setting, 'pgherd.')) AS asks"
        )
    };
}

/// Roles with their stored passwords, which only who may read `pg_authid` sees.
const ROLES: &str = concat!(
    "SELECT a.rolname, a.oid, a.rolpassword, a.rolcanlogin, a.rolsuper, a.rolconnlimit, a.rolvaliduntil, ",
    settings_of!("a"),
    ", ",
    asks_of!("a"),
    " FROM pg_catalog.pg_authid AS a WHERE a.rolname OPERATOR(pg_catalog.=) ANY ($1)"
);

/// The same as anybody may see it.
const PUBLIC_ROLES: &str = concat!(
    "SELECT r.rolname, r.oid, r.rolcanlogin, r.rolsuper, r.rolconnlimit, r.rolvaliduntil, ",
    settings_of!("r"),
    ", ",
    asks_of!("r"),
    " FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) ANY ($1)"
);

/// Each role with those that it is a member of, directly or not, and itself.
const MEMBERSHIPS: &str = "WITH RECURSIVE found (member, oid) AS (\
        SELECT r.rolname, r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) ANY ($1) \
        UNION SELECT f.member, m.roleid FROM found AS f \
        JOIN pg_catalog.pg_auth_members AS m ON m.member OPERATOR(pg_catalog.=) f.oid) \
    SELECT f.member, r.rolname FROM found AS f \
    JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) f.oid";

/// The databases that do not take whoever comes; no more than anybody has.
const DATABASES: &str = "SELECT d.datname, d.datallowconn, d.datconnlimit FROM pg_catalog.pg_database AS d \
    WHERE NOT d.datallowconn OR d.datconnlimit OPERATOR(pg_catalog.<>) -1 LIMIT 10000";

/// What all servers of a cluster have in common.
const CLUSTER: &str = "SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c";

/// A connection that is kept for the next question.
pub(super) struct Connection {
    session: Session,
    /// The cluster's system identifier, if the server tells it.
    cluster: Option<u64>,
}

/// What a server said.
pub(super) struct Answer {
    /// Those of the roles asked for that there are; an error where only this one could not be read.
    pub(super) roles: HashMap<Box<str>, Result<Role, LookupError>>,
    /// The cluster's system identifier.
    pub(super) cluster: Option<u64>,
    /// See [`Databases`].
    pub(super) databases: Databases,
}

/// Why a server gave no answer.
pub(super) enum AskError {
    /// The user may not read `pg_authid`; says what to do.
    Forbidden(String),
    /// Anything else.
    Failed(String),
}

/// Asks a server for roles, over the kept connection if that still works.
pub(super) async fn ask(
    endpoint: &Endpoint,
    kept: Option<Connection>,
    settings: &Settings,
    users: &[Box<str>],
    (timeout, kept_timeout): (Duration, Duration),
) -> Result<(Connection, Answer), AskError> {
    let asking = async {
        if let Some(connection) = kept.filter(|connection| !connection.session.is_closed())
            && let Ok(Ok(answer)) =
                tokio::time::timeout(kept_timeout, connection.answer(settings, users)).await
        {
            return Ok((connection, answer));
        }
        let session = open(endpoint, settings, timeout)
            .await
            .map_err(|failure| AskError::Failed(format!("{endpoint}: {failure}")))?;
        let asked = async {
            let connection = Connection { cluster: cluster(&session).await?, session };
            let answer = connection.answer(settings, users).await?;
            Ok((connection, answer))
        };
        asked.await.map_err(|error| described(&error, endpoint, settings))
    };
    tokio::time::timeout(timeout, asking).await.unwrap_or_else(|_| {
        Err(AskError::Failed(format!("{endpoint}: no answer within {} ms", timeout.as_millis())))
    })
}

async fn open(
    endpoint: &Endpoint,
    settings: &Settings,
    timeout: Duration,
) -> Result<Session, ConnectFailure> {
    let mut options =
        format!("-c default_transaction_read_only=on -c statement_timeout={}", timeout.as_millis());
    if settings.query.is_none() {
        options.push_str(" -c search_path=pg_catalog");
    }
    let login = Login {
        user: &settings.user,
        password: settings.password.as_ref().map(Secret::expose),
        database: &settings.database,
        application_name: "pgherd passwords",
        options: &options,
        tls: &settings.tls,
        notice: None,
    };
    login.at(&endpoint.host, endpoint.port).await
}

/// Who may not ask for it can do without.
async fn cluster(session: &Session) -> Result<Option<u64>, tokio_postgres::Error> {
    match session.client().query_typed(CLUSTER, &[]).await {
        Ok(rows) => Ok(rows.first().and_then(|row| row.try_get(0).ok()).map(i64::cast_unsigned)),
        Err(error) if error.as_db_error().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// True if the server has no letters for a name in its database's encoding: no role is called so.
fn cannot_be_a_name(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("22"))
}

impl Connection {
    /// Asks for all at once, or where that is in vain for a name's sake, one by one.
    async fn answer(&self, settings: &Settings, users: &[Box<str>]) -> Result<Answer, tokio_postgres::Error> {
        match self.answer_all(settings, users).await {
            Err(error) if cannot_be_a_name(&error) => {
                let mut all = self.answer_all(settings, &[]).await?;
                for user in users {
                    match self.answer_all(settings, std::slice::from_ref(user)).await {
                        Ok(one) => all.roles.extend(one.roles),
                        Err(error) if cannot_be_a_name(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(all)
            }
            answered => answered,
        }
    }

    async fn answer_all(
        &self,
        settings: &Settings,
        users: &[Box<str>],
    ) -> Result<Answer, tokio_postgres::Error> {
        let asked_at = Instant::now();
        let names: Vec<&str> = users.iter().map(|user| &**user).collect();
        let roles = self.rows(if settings.query.is_some() { PUBLIC_ROLES } else { ROLES }, &names);
        let databases = self.session.client().query_typed(DATABASES, &[]);
        let memberships = async {
            if settings.memberships { self.rows(MEMBERSHIPS, &names).await } else { Ok(Vec::new()) }
        };
        let stored = async { Ok(self.stored(settings.query.as_deref(), &names).await) };
        let (roles, databases, memberships, stored) =
            tokio::try_join!(roles, databases, memberships, stored)?;
        let mut found = read_roles(&roles, settings.query.is_none(), asked_at)?;
        for row in &memberships {
            if let Some(role) = found.get_mut(row.try_get::<_, &str>("member")?) {
                role.member_of.push(row.try_get::<_, &str>("rolname")?.into());
            }
        }
        // A row of another user must not be used, whatever the reason why it is here.
        let mut roles: HashMap<Box<str>, _> =
            users.iter().filter_map(|user| Some((user.clone(), Ok(found.remove(user)?)))).collect();
        for (user, stored) in users.iter().zip(stored) {
            match (stored, roles.get_mut(user)) {
                (Ok(None), _) => {}
                (Ok(stored), Some(Ok(role))) => role.stored = stored,
                (Ok(stored), _) => {
                    let role = Role { stored, ..Role::unknown_to_servers(asked_at) };
                    roles.insert(user.clone(), Ok(role));
                }
                (Err(error), _) => {
                    roles.insert(user.clone(), Err(error));
                }
            }
        }
        let databases = databases.iter().map(Database::from_row).collect::<Result<_, _>>()?;
        Ok(Answer { roles, cluster: self.cluster, databases })
    }

    async fn rows(&self, query: &str, names: &[&str]) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.session.client().query_typed(query, &[(&names as &(dyn ToSql + Sync), Type::NAME_ARRAY)]).await
    }

    /// What the operator's own query says of each, if there is one. An error spoils only the name that causes it.
    async fn stored(&self, query: Option<&str>, names: &[&str]) -> Vec<Result<Option<Stored>, LookupError>> {
        let Some(query) = query else { return Vec::new() };
        let ask = async |name: &&str| {
            let rows = self
                .session
                .client()
                .query_typed(query, &[(name as &(dyn ToSql + Sync), Type::TEXT)])
                .await?;
            for row in &rows {
                if row.try_get::<_, Option<&str>>(0)? == Some(*name) {
                    return Ok(row.try_get::<_, Option<&str>>(1)?.and_then(Stored::parse));
                }
            }
            Ok(None)
        };
        let failed = |error: tokio_postgres::Error| {
            LookupError::Unavailable(format!("auth.query: {}", with_cause(&error)).into())
        };
        join_all(names.iter().map(ask)).await.into_iter().map(|asked| asked.map_err(failed)).collect()
    }
}

fn read_roles(
    rows: &[Row],
    with_passwords: bool,
    asked_at: Instant,
) -> Result<HashMap<Box<str>, Role>, tokio_postgres::Error> {
    let mut roles = HashMap::new();
    for row in rows {
        let mut role = Role::from_row(row, asked_at)?;
        if with_passwords {
            let password: Option<&str> = row.try_get("rolpassword")?;
            role.stored = password.and_then(Verifier::parse).map(Stored::Verifier);
        }
        roles.insert(row.try_get::<_, &str>("rolname")?.into(), role);
    }
    Ok(roles)
}

fn described(error: &tokio_postgres::Error, endpoint: &Endpoint, settings: &Settings) -> AskError {
    let Some(refusal) = error.as_db_error() else {
        return AskError::Failed(format!("{endpoint}: {}", with_cause(error)));
    };
    if refusal.code() == &SqlState::INSUFFICIENT_PRIVILEGE && settings.query.is_none() {
        let (user, database) = (quoted(&settings.user), quoted(&settings.database));
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
