//! The targets.

#[cfg(feature = "proxy")]
mod config;
#[cfg(feature = "proxy")]
mod console;
#[cfg(feature = "herd")]
mod failover;
mod frames;
#[cfg(feature = "proxy")]
mod hba;
#[cfg(feature = "manager")]
mod http;
mod judge;
mod md5;
#[cfg(feature = "proxy")]
mod migrate;
#[cfg(feature = "proxy")]
mod nodes;
#[cfg(feature = "herd")]
mod reports;
mod scram;
#[cfg(feature = "proxy")]
mod scratch;
mod session;
mod startup;
mod statement;
#[cfg(feature = "herd")]
mod topology;

use crate::Target;

const fn target(name: &'static str, run: fn(&[u8]), longest: usize) -> Target {
    Target { name, run, longest }
}

/// What `protocol` reads.
pub(crate) const PROTOCOL: &[Target] = &[
    target("frontend", frames::frontend, 4096),
    target("backend", frames::backend, 4096),
    target("startup", startup::run, 2048),
    target("session", session::run, 4096),
    target("scram_client", scram::client, 1200),
    target("scram_server", scram::server, 1200),
    target("md5", md5::run, 512),
    target("statement", statement::run, 1024),
];

/// What `health` and `failover` are told.
#[cfg(feature = "herd")]
pub(crate) const HERD: &[Target] =
    &[target("topology", topology::run, 2048), target("failover", failover::run, 2048)];
#[cfg(not(feature = "herd"))]
pub(crate) const HERD: &[Target] = &[];

/// What the manager is asked.
#[cfg(feature = "manager")]
pub(crate) const MANAGER: &[Target] = &[target("http", http::run, 1024)];
#[cfg(not(feature = "manager"))]
pub(crate) const MANAGER: &[Target] = &[];

/// What operators write, for the proxy.
#[cfg(feature = "proxy")]
pub(crate) const PROXY: &[Target] = &[
    target("hba", hba::run, 1024),
    target("config", config::run, 2048),
    target("migrate", migrate::run, 2048),
    target("nodes", nodes::run, 512),
    target("console", console::run, 512),
];
#[cfg(not(feature = "proxy"))]
pub(crate) const PROXY: &[Target] = &[];
