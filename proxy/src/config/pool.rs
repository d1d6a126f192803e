//! `[pool]`: the pools of server connections, and what differs for some databases or users.

use std::time::Duration;

use pgherd_protocol::prepared::Plans;
use pgherd_protocol::session::SequencePolicy;

use super::Tcp;
use super::value::Choice;

/// When a session holds a server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolMode {
    /// From its login, or its first statement, until the client leaves.
    Session,
    /// From the begin of a transaction to its end, or while the session is pinned.
    Transaction,
    /// As `Transaction`, and a client that opens a transaction block is sent away.
    Statement,
}

impl PoolMode {
    /// As it is written in the configuration.
    pub(crate) fn name(self) -> &'static str {
        self.word()
    }
}

/// Whether a server is asked what a session has left there that its texts do not show. The numbers are those of
/// [`Outlook`](crate::hidden::Outlook).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum HiddenState {
    /// Where a text names something that may leave anything, by the database's catalogue.
    Auto,
    /// Where a text may do more than read.
    Check,
    /// Never.
    Off,
}

/// Whether what clients parse again and again without a name is prepared once on each server connection, and how PostgreSQL plans it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrepareUnnamed {
    /// It is not.
    Off,
    /// For the values of its parameters, each time.
    Custom,
    /// As any prepared statement.
    Auto,
}

impl PrepareUnnamed {
    /// The same for the protocol.
    pub(crate) const fn plans(self) -> Option<Plans> {
        match self {
            Self::Off => None,
            Self::Custom => Some(Plans::Custom),
            Self::Auto => Some(Plans::Auto),
        }
    }
}

/// The pools of server connections: one per server, database and user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    /// Pooling mode where no override says otherwise.
    pub(crate) mode: PoolMode,
    /// Whether servers are asked for what texts do not show, where no override says otherwise.
    pub(crate) hidden_state: HiddenState,
    /// When sessions keep their connections for numbers of sequences, where no override says otherwise.
    pub(crate) sequences: SequencePolicy,
    /// Custom parameters that may be there in any session, if only empty, where no override says otherwise.
    pub(crate) custom_parameters: Vec<String>,
    /// How many connections and clients there may be, where no override says otherwise.
    pub(crate) sizes: Sizes,
    /// A client that has waited for so long gets a connection of the reserve; none does if none.
    pub(crate) reserve_pool_timeout: Option<Duration>,
    /// The most connections of one pool for pinned sessions, besides `size`.
    pub(crate) pinned_size: usize,
    /// The most replication connections, each of which has a server connection of its own.
    pub(crate) replication_size: usize,
    /// The most clients; one more is refused with 53300.
    pub(crate) max_clients: usize,
    /// How long a client waits for a server connection, where no override says otherwise; without end if none.
    pub(crate) query_wait_timeout: Option<Duration>,
    /// How long a session may do what it does, where no override says otherwise.
    pub(crate) timeouts: Timeouts,
    /// How long a server may take to act on a cancel request.
    pub(crate) cancel_wait_timeout: Duration,
    /// Server connections are lent in the order in which they were given back.
    pub(crate) server_round_robin: bool,
    /// Pause before a server that could not be reached is tried again.
    pub(crate) server_login_retry: Duration,
    /// How long a connect and login to a server may take.
    pub(crate) server_connect_timeout: Duration,
    /// An idle server connection is closed after this time; never if none.
    pub(crate) server_idle_timeout: Option<Duration>,
    /// A server connection is not used again after this time; used without end if none.
    pub(crate) server_lifetime: Option<Duration>,
    /// How long a client may take to log in.
    pub(crate) client_login_timeout: Duration,
    /// Options of the connections with clients and servers.
    pub(crate) tcp: Tcp,
    /// The most protocol-level prepared statements kept on one server connection; 0 keeps none.
    pub(crate) prepared_statements: usize,
    /// Whether unnamed statements are kept with them.
    pub(crate) prepare_unnamed: PrepareUnnamed,
    /// Exceptions, the first that matches counts.
    pub(crate) overrides: Vec<PoolOverride>,
}

/// How many server connections and clients there may be. 0 is no bound where one is not required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The most connections of one pool.
    pub(crate) size: usize,
    /// So many are kept open.
    pub(crate) min_size: usize,
    /// The most connections beyond `size` for clients that have waited for long.
    pub(crate) reserve_size: usize,
    /// The most connections of all pools of one server to a database.
    pub(crate) max_db_connections: usize,
    /// The most connections of all pools of one server of a user.
    pub(crate) max_user_connections: usize,
    /// The most clients of a database.
    pub(crate) max_db_client_connections: usize,
    /// The most clients of a user.
    pub(crate) max_user_client_connections: usize,
}

/// How long a session may do what it does; without end if none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Timeouts {
    /// Wait for the answer to what it has sent.
    pub(crate) query: Option<Duration>,
    /// Be in one transaction, be it of a single statement.
    pub(crate) transaction: Option<Duration>,
    /// Do nothing in a transaction.
    pub(crate) idle_transaction: Option<Duration>,
    /// Do nothing outside of one.
    pub(crate) client_idle: Option<Duration>,
}

/// One `[[pool.override]]`: other values for some databases or users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolOverride {
    /// The database it is for; every one if none.
    pub(crate) database: Option<String>,
    /// The user it is for; every one if none.
    pub(crate) user: Option<String>,
    /// Pooling mode instead of `pool.mode`.
    pub(crate) mode: Option<PoolMode>,
    /// Instead of `pool.hidden_state`.
    pub(crate) hidden_state: Option<HiddenState>,
    /// Instead of `pool.sequences`.
    pub(crate) sequences: Option<SequencePolicy>,
    /// Instead of `pool.custom_parameters`.
    pub(crate) custom_parameters: Option<Vec<String>>,
    /// Instead of what [`Sizes`] says, here and below.
    pub(crate) size: Option<usize>,
    pub(crate) min_pool_size: Option<usize>,
    pub(crate) reserve_pool_size: Option<usize>,
    pub(crate) max_db_connections: Option<usize>,
    pub(crate) max_user_connections: Option<usize>,
    pub(crate) max_db_client_connections: Option<usize>,
    pub(crate) max_user_client_connections: Option<usize>,
    /// Instead of `pool.server_lifetime`.
    pub(crate) server_lifetime: Option<Option<Duration>>,
    /// Instead of `pool.query_wait_timeout`; `Some(None)` is without end, here and below.
    pub(crate) query_wait_timeout: Option<Option<Duration>>,
    /// Instead of `pool.query_timeout`.
    pub(crate) query_timeout: Option<Option<Duration>>,
    /// Instead of `pool.transaction_timeout`.
    pub(crate) transaction_timeout: Option<Option<Duration>>,
    /// Instead of `pool.idle_transaction_timeout`.
    pub(crate) idle_transaction_timeout: Option<Option<Duration>>,
    /// Instead of `pool.client_idle_timeout`.
    pub(crate) client_idle_timeout: Option<Option<Duration>>,
}

impl Pool {
    /// The pooling mode of this database and user.
    pub(crate) fn mode_for(&self, database: &str, user: &str) -> PoolMode {
        self.overriding(database, user).find_map(|o| o.mode).unwrap_or(self.mode)
    }

    /// Whether servers are asked what sessions of this database and user have left there.
    pub(crate) fn hidden_state_for(&self, database: &str, user: &str) -> HiddenState {
        self.overriding(database, user).find_map(|o| o.hidden_state).unwrap_or(self.hidden_state)
    }

    /// When sessions of this database and user keep their connections for numbers of sequences.
    pub(crate) fn sequences_for(&self, database: &str, user: &str) -> SequencePolicy {
        self.overriding(database, user).find_map(|o| o.sequences).unwrap_or(self.sequences)
    }

    /// Custom parameters that may be there in any session of this database and user.
    pub(crate) fn custom_parameters_for(&self, database: &str, user: &str) -> &[String] {
        let other = self.overriding(database, user).find_map(|o| o.custom_parameters.as_ref());
        other.unwrap_or(&self.custom_parameters)
    }

    /// How many connections one server's pool of this database and user may have, alone and with others.
    pub(crate) fn sizes_for(&self, database: &str, user: &str) -> Sizes {
        let find = |of: fn(&PoolOverride) -> Option<usize>, general| {
            self.overriding(database, user).find_map(of).unwrap_or(general)
        };
        Sizes {
            size: find(|o| o.size, self.sizes.size),
            min_size: find(|o| o.min_pool_size, self.sizes.min_size),
            reserve_size: find(|o| o.reserve_pool_size, self.sizes.reserve_size),
            max_db_connections: find(|o| o.max_db_connections, self.sizes.max_db_connections),
            max_user_connections: find(|o| o.max_user_connections, self.sizes.max_user_connections),
            max_db_client_connections: find(
                |o| o.max_db_client_connections,
                self.sizes.max_db_client_connections,
            ),
            max_user_client_connections: find(
                |o| o.max_user_client_connections,
                self.sizes.max_user_client_connections,
            ),
        }
    }

    /// True if a session may do for too long what it does.
    pub(crate) fn has_timeouts(&self) -> bool {
        self.timeouts != Timeouts::default() || !self.overrides.is_empty()
    }

    /// True if a pool may have connections that nobody has asked for.
    pub(crate) fn keeps_any(&self) -> bool {
        self.sizes.min_size > 0 || self.overrides.iter().any(|it| it.min_pool_size.is_some_and(|min| min > 0))
    }

    /// The most connections of one pool, for whatever reason, where no override says otherwise.
    pub(crate) const fn most_connections(&self) -> usize {
        self.sizes.size + self.sizes.reserve_size + self.pinned_size
    }

    /// How long its server connections live.
    pub(crate) fn server_lifetime_for(&self, database: &str, user: &str) -> Option<Duration> {
        self.overriding(database, user).find_map(|o| o.server_lifetime).unwrap_or(self.server_lifetime)
    }

    /// How long its clients wait for a server connection.
    pub(crate) fn query_wait_timeout_for(&self, database: &str, user: &str) -> Option<Duration> {
        self.overriding(database, user).find_map(|o| o.query_wait_timeout).unwrap_or(self.query_wait_timeout)
    }

    /// How long its sessions may do what they do.
    pub(crate) fn timeouts_for(&self, database: &str, user: &str) -> Timeouts {
        let find = |of: fn(&PoolOverride) -> Option<Option<Duration>>, general| {
            self.overriding(database, user).find_map(of).unwrap_or(general)
        };
        Timeouts {
            query: find(|o| o.query_timeout, self.timeouts.query),
            transaction: find(|o| o.transaction_timeout, self.timeouts.transaction),
            idle_transaction: find(|o| o.idle_transaction_timeout, self.timeouts.idle_transaction),
            client_idle: find(|o| o.client_idle_timeout, self.timeouts.client_idle),
        }
    }

    fn overriding(&self, database: &str, user: &str) -> impl Iterator<Item = &PoolOverride> {
        let fits = |wanted: &Option<String>, actual: &str| wanted.as_deref().is_none_or(|w| w == actual);
        self.overrides.iter().filter(move |o| fits(&o.database, database) && fits(&o.user, user))
    }
}
