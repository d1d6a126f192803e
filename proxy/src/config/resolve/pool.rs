//! The bridge of `[pool]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::{Pool, Sizes, Timeouts, overrides, value};
use super::{Bridge, TIMEOUT};

/// A server is tried at least so often, or a failover would take longer than it needs.
const RETRY: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);

impl Bridge<'_> {
    // As in the other functions, all keys are read before the first `?`.

    pub(super) fn pool(&mut self) -> Option<Pool> {
        let mode = self.get("pool.mode", value::choice);
        let hidden_state = self.get("pool.hidden_state", value::choice);
        let sequences = self.get("pool.sequences", value::choice);
        let custom_parameters =
            self.get("pool.custom_parameters", value::custom_parameters).unwrap_or_default();
        let sizes = self.sizes();
        let reserve_pool_timeout = self.get("pool.reserve_pool_timeout", value::duration_or_off(TIMEOUT));
        let pinned_size = self.get("pool.pinned_size", value::integer(0..=10_000));
        let replication_size = self.get("pool.replication_size", value::integer(0..=10_000));
        let max_clients = self.get("pool.max_clients", value::integer(1..=1_000_000));
        let query_wait_timeout = self.get("pool.query_wait_timeout", value::duration_or_off(TIMEOUT));
        let timeouts = self.timeouts();
        let cancel_wait_timeout = self.get("pool.cancel_wait_timeout", value::duration(TIMEOUT));
        let server_round_robin = self.get("pool.server_round_robin", value::boolean);
        let server_login_retry = self.get("pool.server_login_retry", value::duration(RETRY));
        let server_connect_timeout = self.get("pool.server_connect_timeout", value::duration(TIMEOUT));
        let server_idle_timeout = self.get("pool.server_idle_timeout", value::duration_or_off(TIMEOUT));
        let server_lifetime = self.get("pool.server_lifetime", value::duration_or_off(TIMEOUT));
        let client_login_timeout = self.get("pool.client_login_timeout", value::duration(TIMEOUT));
        let tcp = self.tcp();
        let prepared_statements = self.get("pool.prepared_statements", value::integer(0..=10_000));
        let prepare_unnamed = self.get("pool.prepare_unnamed", value::choice);
        let overrides = self.read("pool.override", overrides::read).map(|(_, overrides)| overrides);
        Some(Pool {
            mode: mode?,
            hidden_state: hidden_state?,
            sequences: sequences?,
            custom_parameters,
            sizes: sizes?,
            reserve_pool_timeout: reserve_pool_timeout?,
            pinned_size: pinned_size?,
            replication_size: replication_size?,
            max_clients: max_clients?,
            query_wait_timeout: query_wait_timeout?,
            timeouts: timeouts?,
            cancel_wait_timeout: cancel_wait_timeout?,
            server_round_robin: server_round_robin?,
            server_login_retry: server_login_retry?,
            server_connect_timeout: server_connect_timeout?,
            server_idle_timeout: server_idle_timeout?,
            server_lifetime: server_lifetime?,
            client_login_timeout: client_login_timeout?,
            tcp: tcp?,
            prepared_statements: prepared_statements?,
            prepare_unnamed: prepare_unnamed?,
            overrides: overrides.unwrap_or_default(),
        })
    }

    fn sizes(&mut self) -> Option<Sizes> {
        let size = self.get("pool.size", value::integer(overrides::SIZE));
        let min_size = self.get("pool.min_pool_size", value::integer(overrides::OR_NONE));
        let reserve_size = self.get("pool.reserve_pool_size", value::integer(overrides::OR_NONE));
        let max_db_connections = self.get("pool.max_db_connections", value::integer(overrides::BOUND));
        let max_user_connections = self.get("pool.max_user_connections", value::integer(overrides::BOUND));
        let max_db_client_connections =
            self.get("pool.max_db_client_connections", value::integer(overrides::BOUND));
        let max_user_client_connections =
            self.get("pool.max_user_client_connections", value::integer(overrides::BOUND));
        Some(Sizes {
            size: size?,
            min_size: min_size?,
            reserve_size: reserve_size?,
            max_db_connections: max_db_connections?,
            max_user_connections: max_user_connections?,
            max_db_client_connections: max_db_client_connections?,
            max_user_client_connections: max_user_client_connections?,
        })
    }

    fn timeouts(&mut self) -> Option<Timeouts> {
        let query = self.get("pool.query_timeout", value::duration_or_off(TIMEOUT));
        let transaction = self.get("pool.transaction_timeout", value::duration_or_off(TIMEOUT));
        let idle_transaction = self.get("pool.idle_transaction_timeout", value::duration_or_off(TIMEOUT));
        let client_idle = self.get("pool.client_idle_timeout", value::duration_or_off(TIMEOUT));
        Some(Timeouts {
            query: query?,
            transaction: transaction?,
            idle_transaction: idle_transaction?,
            client_idle: client_idle?,
        })
    }
}
