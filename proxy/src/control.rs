//! What of the configuration concerns the control loop and the reader of stored passwords, in their own terms.

use std::sync::Arc;

use pgherd_failover::actor::ControlSettings;
use pgherd_failover::{EtcdSettings, ExecutorSettings, Means, Mode, RepmgrSettings, SshSettings};
use pgherd_health::{Password, ProberSettings};

use crate::config::{Config, Executor, FailoverMode};
use crate::verifiers;

/// How the servers are watched and acted on.
pub(crate) fn settings(config: &Config) -> ControlSettings {
    let Config { monitor, failover, .. } = config;
    let password = monitor.password.as_ref().map(|secret| Password::new(secret.expose().to_owned()));
    let prober = ProberSettings {
        timeout: monitor.timeout,
        tls: Arc::clone(&config.server_tls),
        ..ProberSettings::new(monitor.user.clone(), password, monitor.database.clone(), monitor.interval)
    };
    ControlSettings {
        nodes: config.nodes.clone(),
        etcd: None,
        aside: false,
        system_identifier: monitor.system_identifier,
        machine: decisions(config),
        prober,
        executor: ExecutorSettings {
            means: match failover.executor {
                Executor::Ssh => Means::Ssh,
                Executor::Sql => Means::Sql,
                Executor::Command => Means::Command,
            },
            commands: failover.commands.clone(),
            ssh: SshSettings {
                user: failover.ssh.user.clone(),
                port: failover.ssh.port,
                key: failover.ssh.key.clone(),
                known_hosts: failover.ssh.known_hosts.clone(),
                trust_first_use: false,
                connect_timeout: failover.ssh.connect_timeout,
            },
            repmgr: RepmgrSettings {
                binary: failover.repmgr.binary.clone(),
                config: failover.repmgr.config.clone(),
                pg_bindir: failover.repmgr.pg_bindir.clone(),
            },
        },
    }
}

fn decisions(config: &Config) -> pgherd_failover::Settings {
    let failover = &config.failover;
    pgherd_failover::Settings {
        discover: config.discovers(),
        mode: match failover.mode {
            FailoverMode::Automatic => Mode::Automatic,
            FailoverMode::Manual => Mode::Manual,
        },
        interval: config.monitor.interval,
        confirm: failover.confirm,
        restart_grace: failover.restart_grace,
        start_grace: failover.start_grace,
        cold_grace: failover.cold_grace,
        max_data_loss: failover.max_data_loss,
        reclone: failover.reclone,
        min_interval: failover.min_interval,
        switchover_timeout: failover.switchover_timeout,
        needs_repmgr: failover.executor == Executor::Ssh,
        ..pgherd_failover::Settings::default()
    }
}

/// Where the lease is that one of several pgherds holds, and as whom this one holds it.
pub(crate) fn lease(config: &Config) -> Option<EtcdSettings> {
    let etcd = &config.failover.etcd;
    let password = etcd.password.as_ref().map_or("", |secret| secret.expose());
    (!etcd.endpoints.is_empty()).then(|| EtcdSettings {
        endpoints: etcd.endpoints.clone(),
        prefix: etcd.prefix.clone(),
        ttl: etcd.ttl,
        login: etcd.user.clone().map(|user| (user, Password::new(password.to_owned()))),
        tls: etcd.tls.clone(),
        identity: identity(),
    })
}

/// A name that no other process has, by which people find this one.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random: u32 = rand::random();
    // In etcd a space follows it.
    let host = host.split_whitespace().collect::<Vec<_>>().join("-");
    format!("{host}:{}:{random:08x}", std::process::id())
}

/// As whom stored passwords are read, and how.
pub(crate) fn who_asks(config: &Config) -> verifiers::Settings {
    let Config { monitor, auth, server_tls, .. } = config;
    let mut settings = verifiers::Settings {
        user: monitor.user.clone(),
        password: monitor.password.clone(),
        database: monitor.database.clone(),
        tls: Arc::clone(server_tls),
        query: auth.query.clone(),
        memberships: auth.asks_for_memberships(),
    };
    if auth.query.is_some() {
        // Another user has no use for the monitor's password.
        if let Some(user) = &auth.query_user {
            settings.user.clone_from(user);
            settings.password.clone_from(&auth.query_password);
        }
        if let Some(database) = &auth.query_database {
            settings.database.clone_from(database);
        }
    }
    settings
}
