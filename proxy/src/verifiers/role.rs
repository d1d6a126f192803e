//! A role as `pg_authid` has it.

use std::time::{Duration, Instant, SystemTime};

use pgherd_protocol::auth::Verifier;
use tokio_postgres::Row;
use tokio_postgres::types::Timestamp;

/// What a login needs to know of a role.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// The stored password as it is; see [`Role::verifier_at`] for the one that counts.
    pub(crate) verifier: Option<Verifier>,
    /// `LOGIN` or `NOLOGIN`. To be looked at after the password was found right, as PostgreSQL does.
    pub(crate) can_login: bool,
    /// When the password expires; `None` for never.
    pub(crate) valid_until: Option<SystemTime>,
    /// When the server was asked.
    pub(crate) fetched_at: Instant,
}

impl Role {
    /// The verifier to check a password against at this time. `None` where no password can be right: the role has none,
    /// or it has expired. The client must not be told which (PostgreSQL's `get_role_password`).
    pub(crate) fn verifier_at(&self, now: SystemTime) -> Option<&Verifier> {
        let expired = self.valid_until.is_some_and(|until| until < now);
        if expired { None } else { self.verifier.as_ref() }
    }

    /// How old this knowledge is.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.fetched_at)
    }

    /// Reads a row of the query in [`super::server`].
    pub(super) fn from_row(row: &Row, fetched_at: Instant) -> Result<Self, tokio_postgres::Error> {
        let valid_until = match row.try_get("rolvaliduntil")? {
            Some(Timestamp::Value(until)) => Some(until),
            Some(Timestamp::NegInfinity) => Some(SystemTime::UNIX_EPOCH),
            Some(Timestamp::PosInfinity) | None => None,
        };
        Ok(Self {
            verifier: row.try_get::<_, Option<&str>>("rolpassword")?.and_then(Verifier::parse),
            can_login: row.try_get("rolcanlogin")?,
            valid_until,
            fetched_at,
        })
    }
}
