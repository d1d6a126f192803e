//! Says what is in force, in the form in which the configuration is written.

use std::time::Duration;

use pgherd_failover::Template;
use pgherd_tls::Authorities;

use super::units::{show_duration, show_size};
use super::value::Choice;
use super::{Config, PoolOverride, UserMap, nodes};

impl Config {
    /// The value of this key; none where it has none.
    pub(crate) fn shown(&self, key: &str) -> Option<String> {
        self.describe().into_iter().find(|(name, _)| *name == key).and_then(|(_, value)| value)
    }

    /// Each key with its value; none where it has none. Secrets are shown as `<set>`.
    pub(crate) fn describe(&self) -> Vec<(&'static str, Option<String>)> {
        let mut rows = self.listen.describe();
        rows.push(("backends.nodes", Some(self.nodes.iter().map(nodes::show).collect::<Vec<_>>().join(","))));
        rows.push(("backends.discover", Some(self.discover.word().to_owned())));
        rows.extend(self.describe_server_tls());
        rows.extend([
            ("monitor.user", Some(self.monitor.user.clone())),
            ("monitor.password", self.monitor.password.as_ref().map(|_| "<set>".to_owned())),
            ("monitor.database", Some(self.monitor.database.clone())),
            ("monitor.interval", Some(show_duration(self.monitor.interval))),
            ("monitor.timeout", Some(show_duration(self.monitor.timeout))),
            ("monitor.system_identifier", self.monitor.system_identifier.map(|number| number.to_string())),
        ]);
        rows.extend(self.describe_pool());
        rows.extend(self.routing.describe());
        rows.extend(self.describe_auth());
        rows.extend(self.describe_failover());
        rows.extend(self.describe_etcd());
        rows.extend(self.http.describe());
        rows.extend([
            ("memory.limit", Some(self.memory_limit.map_or_else(|| "off".to_owned(), show_size))),
            ("runtime.workers", Some(self.runtime.workers.to_string())),
            ("runtime.drain_timeout", Some(show_duration(self.runtime.drain_timeout))),
            ("runtime.handover", self.runtime.handover.as_ref().map(|path| path.display().to_string())),
            ("admin.users", Some(self.admin.users.join(","))),
            (
                "admin.stats_users",
                (!self.admin.stats_users.is_empty()).then(|| self.admin.stats_users.join(",")),
            ),
            ("log.level", Some(self.log.level.word().to_owned())),
            ("log.format", Some(self.log.format.word().to_owned())),
        ]);
        rows.extend(self.trace.describe());
        rows
    }

    fn describe_server_tls(&self) -> Vec<(&'static str, Option<String>)> {
        let tls = self.server_tls.settings();
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let ca = tls.ca.as_ref().map(|ca| match ca {
            Authorities::System => "system".to_owned(),
            Authorities::File(path) => path.display().to_string(),
        });
        vec![
            ("backends.tls.mode", Some(tls.mode.word().to_owned())),
            ("backends.tls.ca", ca),
            ("backends.tls.cert", path(&tls.certificate)),
            ("backends.tls.key", path(&tls.key)),
            ("backends.tls.channel_binding", Some(tls.channel_binding.word().to_owned())),
        ]
    }

    fn describe_pool(&self) -> Vec<(&'static str, Option<String>)> {
        let pool = &self.pool;
        let overrides: Vec<String> = pool.overrides.iter().map(show_override).collect();
        let mut rows = vec![
            ("pool.mode", Some(pool.mode.word().to_owned())),
            ("pool.hidden_state", Some(pool.hidden_state.word().to_owned())),
            ("pool.sequences", Some(pool.sequences.word().to_owned())),
            (
                "pool.custom_parameters",
                (!pool.custom_parameters.is_empty()).then(|| pool.custom_parameters.join(",")),
            ),
            ("pool.size", Some(pool.sizes.size.to_string())),
            ("pool.min_pool_size", Some(pool.sizes.min_size.to_string())),
            ("pool.reserve_pool_size", Some(pool.sizes.reserve_size.to_string())),
            ("pool.reserve_pool_timeout", Some(or_off(pool.reserve_pool_timeout))),
            ("pool.max_db_connections", Some(pool.sizes.max_db_connections.to_string())),
            ("pool.max_user_connections", Some(pool.sizes.max_user_connections.to_string())),
            ("pool.pinned_size", Some(pool.pinned_size.to_string())),
            ("pool.replication_size", Some(pool.replication_size.to_string())),
            ("pool.max_clients", Some(pool.max_clients.to_string())),
            ("pool.max_db_client_connections", Some(pool.sizes.max_db_client_connections.to_string())),
            ("pool.max_user_client_connections", Some(pool.sizes.max_user_client_connections.to_string())),
            ("pool.query_wait_timeout", Some(or_off(pool.query_wait_timeout))),
            ("pool.query_timeout", Some(or_off(pool.timeouts.query))),
            ("pool.transaction_timeout", Some(or_off(pool.timeouts.transaction))),
            ("pool.idle_transaction_timeout", Some(or_off(pool.timeouts.idle_transaction))),
            ("pool.client_idle_timeout", Some(or_off(pool.timeouts.client_idle))),
            ("pool.cancel_wait_timeout", Some(show_duration(pool.cancel_wait_timeout))),
            ("pool.server_round_robin", Some(pool.server_round_robin.to_string())),
            ("pool.server_login_retry", Some(show_duration(pool.server_login_retry))),
            ("pool.server_connect_timeout", Some(show_duration(pool.server_connect_timeout))),
            ("pool.server_idle_timeout", Some(or_off(pool.server_idle_timeout))),
            ("pool.server_lifetime", Some(or_off(pool.server_lifetime))),
            ("pool.client_login_timeout", Some(show_duration(pool.client_login_timeout))),
        ];
        rows.extend(pool.tcp.describe());
        rows.extend([
            ("pool.prepared_statements", Some(pool.prepared_statements.to_string())),
            ("pool.prepare_unnamed", Some(pool.prepare_unnamed.word().to_owned())),
            ("pool.override", (!overrides.is_empty()).then(|| format!("[{}]", overrides.join(", ")))),
        ]);
        rows
    }

    fn describe_auth(&self) -> Vec<(&'static str, Option<String>)> {
        let auth = &self.auth;
        let path = |path: Option<&std::path::Path>| path.map(|p| p.display().to_string());
        let maps: Vec<String> = auth.user_maps.iter().map(show_map).collect();
        vec![
            ("auth.hba_file", path(auth.hba.as_ref().map(|hba| &*hba.path))),
            ("auth.ident_file", path(auth.ident_file.as_deref())),
            ("auth.userlist_file", path(auth.userlist_file.as_deref())),
            ("auth.query", auth.query.clone()),
            ("auth.query_user", auth.query_user.clone()),
            ("auth.query_password", auth.query_password.as_ref().map(|_| "<set>".to_owned())),
            ("auth.query_database", auth.query_database.clone()),
            ("auth.map", (!maps.is_empty()).then(|| format!("[{}]", maps.join(", ")))),
            ("auth.max_failures", Some(auth.max_failures.to_string())),
            ("auth.failure_window", Some(show_duration(auth.failure_window))),
        ]
    }

    fn describe_failover(&self) -> Vec<(&'static str, Option<String>)> {
        let failover = &self.failover;
        let commands = &failover.commands;
        let shown = |command: &Option<Template>| command.as_ref().map(ToString::to_string);
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
        vec![
            ("failover.mode", Some(failover.mode.word().to_owned())),
            ("failover.executor", Some(failover.executor.word().to_owned())),
            ("failover.confirm", Some(show_duration(failover.confirm))),
            ("failover.restart_grace", Some(show_duration(failover.restart_grace))),
            ("failover.start_grace", Some(show_duration(failover.start_grace))),
            ("failover.cold_grace", Some(show_duration(failover.cold_grace))),
            ("failover.max_data_loss", Some(show_size(failover.max_data_loss))),
            ("failover.reclone", Some(failover.reclone.to_string())),
            ("failover.min_interval", Some(show_duration(failover.min_interval))),
            ("failover.switchover_timeout", Some(show_duration(failover.switchover_timeout))),
            ("failover.write_wait", Some(show_duration(failover.write_wait))),
            ("failover.max_waiting", Some(failover.max_waiting.to_string())),
            ("failover.ssh.user", Some(failover.ssh.user.clone())),
            ("failover.ssh.port", Some(failover.ssh.port.to_string())),
            ("failover.ssh.key", path(&failover.ssh.key)),
            ("failover.ssh.known_hosts", path(&failover.ssh.known_hosts)),
            ("failover.ssh.connect_timeout", Some(show_duration(failover.ssh.connect_timeout))),
            ("failover.repmgr.binary", Some(failover.repmgr.binary.clone())),
            ("failover.repmgr.config", Some(failover.repmgr.config.clone())),
            ("failover.repmgr.pg_bindir", failover.repmgr.pg_bindir.clone()),
            ("failover.command.promote", shown(&commands.promote)),
            ("failover.command.fence", shown(&commands.fence)),
            ("failover.command.follow", shown(&commands.follow)),
            ("failover.command.rejoin", shown(&commands.rejoin)),
            ("failover.command.clone", shown(&commands.clone)),
            ("failover.command.stop", shown(&commands.stop)),
            ("failover.command.start", shown(&commands.start)),
        ]
    }
}

impl Config {
    fn describe_etcd(&self) -> Vec<(&'static str, Option<String>)> {
        let etcd = &self.failover.etcd;
        let endpoints: Vec<String> = etcd.endpoints.iter().map(ToString::to_string).collect();
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let ca = etcd.ca.as_ref().map(|ca| match ca {
            Authorities::System => "system".to_owned(),
            Authorities::File(path) => path.display().to_string(),
        });
        vec![
            ("failover.etcd.endpoints", (!endpoints.is_empty()).then(|| endpoints.join(","))),
            ("failover.etcd.prefix", Some(etcd.prefix.clone())),
            ("failover.etcd.ttl", Some(show_duration(etcd.ttl))),
            ("failover.etcd.user", etcd.user.clone()),
            ("failover.etcd.password", etcd.password.as_ref().map(|_| "<set>".to_owned())),
            ("failover.etcd.ca", ca),
            ("failover.etcd.cert", path(&etcd.certificate)),
            ("failover.etcd.key", path(&etcd.key)),
        ]
    }
}

fn or_off(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "off".to_owned(), show_duration)
}

fn show_map(it: &UserMap) -> String {
    let text = |name: &str, value: &Option<String>| value.as_ref().map(|v| format!("{name} = {v:?}"));
    let fields = [
        text("database", &it.database),
        text("user", &it.user),
        text("server_user", &it.server_user),
        it.password.as_ref().map(|_| "server_password = <set>".to_owned()),
    ];
    format!("{{ {} }}", fields.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn show_override(it: &PoolOverride) -> String {
    let text = |name: &str, value: &Option<String>| value.as_ref().map(|v| format!("{name} = {v:?}"));
    let number = |name: &str, value: Option<usize>| value.map(|value| format!("{name} = {value}"));
    let time = |name: &str, value: Option<Option<Duration>>| {
        value.map(|limit| format!("{name} = {:?}", or_off(limit)))
    };
    let fields = [
        text("database", &it.database),
        text("user", &it.user),
        it.mode.map(|mode| format!("mode = {:?}", mode.word())),
        it.hidden_state.map(|wanted| format!("hidden_state = {:?}", wanted.word())),
        it.sequences.map(|sequences| format!("sequences = {:?}", sequences.word())),
        it.custom_parameters.as_ref().map(|names| format!("custom_parameters = {:?}", names.join(","))),
        number("size", it.size),
        number("min_pool_size", it.min_pool_size),
        number("reserve_pool_size", it.reserve_pool_size),
        number("max_db_connections", it.max_db_connections),
        number("max_user_connections", it.max_user_connections),
        number("max_db_client_connections", it.max_db_client_connections),
        number("max_user_client_connections", it.max_user_client_connections),
        time("server_lifetime", it.server_lifetime),
        time("query_wait_timeout", it.query_wait_timeout),
        time("query_timeout", it.query_timeout),
        time("transaction_timeout", it.transaction_timeout),
        time("idle_transaction_timeout", it.idle_transaction_timeout),
        time("client_idle_timeout", it.client_idle_timeout),
    ];
    format!("{{ {} }}", fields.into_iter().flatten().collect::<Vec<_>>().join(", "))
}
