//! What the servers say of a role and of a database.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use tokio_postgres::Row;
use tokio_postgres::types::Timestamp;

use super::Stored;
use crate::identities::Identity;

/// What a login needs to know of a role.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// The stored password as it is; see [`Role::stored_at`] for the one that counts.
    pub(crate) stored: Option<Stored>,
    /// When the password expires; `None` for never.
    pub(crate) valid_until: Option<SystemTime>,
    /// What the servers know of it; none where only a query of the operator's own knows the name.
    pub(crate) facts: Option<Facts>,
    /// Which role it is; none where `facts` is none.
    pub(crate) identity: Option<Identity>,
    /// The roles that it is a member of, itself included; empty where nobody wanted to know.
    pub(crate) member_of: Vec<Box<str>>,
    /// What its sessions ask pgherd for, by ALTER ROLE and ALTER DATABASE.
    pub(super) asks: Vec<Ask>,
    /// When the server was asked.
    pub(crate) fetched_at: Instant,
}

/// A database, or none for all, and a setting in it: `pgherd.reads=primary`.
pub(super) type Ask = (Option<Box<str>>, Box<str>);

/// What `pg_roles` says of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `LOGIN` or `NOLOGIN`. To be looked at after the password was found right, as PostgreSQL does.
    pub(crate) can_login: bool,
    /// Limits do not hold for it.
    pub(crate) is_superuser: bool,
    /// `CONNECTION LIMIT`; none for no limit.
    pub(crate) connection_limit: Option<usize>,
}

impl Role {
    /// What to check a password against at this time. `None` where no password can be right: the role has none, or it has
    /// expired. The client must not be told which (PostgreSQL's `get_role_password`).
    pub(crate) fn stored_at(&self, now: SystemTime) -> Option<&Stored> {
        let expired = self.valid_until.is_some_and(|until| until < now);
        if expired { None } else { self.stored.as_ref() }
    }

    /// Reads `oid`, `settings`, `rolvaliduntil`, `rolcanlogin`, `rolsuper` and `rolconnlimit`.
    pub(super) fn from_row(row: &Row, fetched_at: Instant) -> Result<Self, tokio_postgres::Error> {
        let valid_until = match row.try_get("rolvaliduntil")? {
            Some(Timestamp::Value(until)) => Some(until),
            Some(Timestamp::NegInfinity) => Some(SystemTime::UNIX_EPOCH),
            Some(Timestamp::PosInfinity) | None => None,
        };
        let facts = Facts {
            can_login: row.try_get("rolcanlogin")?,
            is_superuser: row.try_get("rolsuper")?,
            connection_limit: limit(row.try_get("rolconnlimit")?),
        };
        let identity = Identity { oid: row.try_get("oid")?, settings: row.try_get("settings")? };
        let (facts, identity) = (Some(facts), Some(identity));
        let asks: Option<&str> = row.try_get("asks")?;
        let asks = asks.and_then(|asks| serde_json::from_str(asks).ok()).unwrap_or_default();
        Ok(Self { stored: None, valid_until, facts, identity, member_of: Vec::new(), asks, fetched_at })
    }

    /// What its sessions in this database have for a parameter of pgherd's, if nothing else was said to them.
    pub(crate) fn asks_for(&self, database: &str, name: &str) -> Option<&str> {
        let here = |(its, _): &&Ask| its.as_deref().is_none_or(|its| its == database);
        let mut settings = self.asks.iter().rev().filter(here).filter_map(|(_, it)| it.split_once('='));
        settings.find(|(its, _)| its.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// A name that a query of the operator's own knows, and the servers do not.
    pub(super) const fn unknown_to_servers(fetched_at: Instant) -> Self {
        Self {
            stored: None,
            valid_until: None,
            facts: None,
            identity: None,
            member_of: Vec::new(),
            asks: Vec::new(),
            fetched_at,
        }
    }

    /// Goes on with what has been computed of the password, if that is still the same.
    pub(super) fn inherit(&mut self, before: &Self) {
        if self.stored == before.stored {
            self.stored.clone_from(&before.stored);
        }
    }
}

/// Databases that do not take whoever comes.
pub(crate) type Databases = HashMap<Box<str>, Database>;

/// A database that does not take whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Database {
    /// `ALLOW_CONNECTIONS`
    pub(crate) allows_connections: bool,
    /// `CONNECTION LIMIT`; none for no limit.
    pub(crate) connection_limit: Option<usize>,
}

impl Database {
    /// Reads a row with the database's name.
    pub(super) fn from_row(row: &Row) -> Result<(Box<str>, Self), tokio_postgres::Error> {
        let name: &str = row.try_get("datname")?;
        let database = Self {
            allows_connections: row.try_get("datallowconn")?,
            connection_limit: limit(row.try_get("datconnlimit")?),
        };
        Ok((name.into(), database))
    }
}

/// -1 is no limit. So is -2, which says that the database is broken: the server says that itself.
fn limit(connections: i32) -> Option<usize> {
    usize::try_from(connections).ok()
}
