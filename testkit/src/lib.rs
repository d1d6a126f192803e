//! Real PostgreSQL, repmgr and sshd clusters for tests and for `make up`, their faults and their clients.
//!
//! A [`Cluster`] is a primary and its streaming standbys, registered with repmgr, each with an sshd of its own. It
//! lives on loopback addresses of its own, or in network namespaces where a test needs partitions. [`Pgherd`] is the
//! program under test before it; [`client`] has the clients, [`history`] the check that nothing acknowledged is lost.
//!
//! It needs root: servers run as the operating system's user `postgres`, and sshd listens on port 222. Whatever
//! happens to the process that owns a cluster, a reaper ends the servers and removes their files.
//!
//! ```no_run
//! # async fn example() -> pgherd_testkit::Result<()> {
//! use pgherd_testkit::{Cluster, Pgherd};
//! let cluster = Cluster::builder().servers(3).start().await?;
//! let pgherd = Pgherd::builder(&cluster).start().await?;
//! cluster.primary().await?.kill9().await?;
//! # Ok(()) }
//! ```

// A drop that fails can only be told to whoever runs the test.
#![allow(clippy::print_stderr)]

mod certificates;
mod chance;
pub mod client;
mod cluster;
mod command;
mod credentials;
pub mod differential;
pub mod endurance;
mod etcd;
pub mod faults;
mod files;
pub mod history;
pub mod hostile;
mod lease;
mod log_tail;
mod network;
mod pgherd;
mod postgres;
mod processes;
mod repmgr;
mod server;
mod server_changes;
mod server_tls;
pub mod soak;
mod sshd;
mod template;
mod wait;

pub use anyhow::{Context, Error, Result, anyhow, bail, ensure};
pub use certificates::{Authority, Identity, Purpose};
pub use cluster::{Cluster, ClusterBuilder};
pub use credentials::Credentials;
pub use etcd::Etcd;
pub use log_tail::LogTail;
pub use network::{Network, Party};
pub use pgherd::{Asked, Pgherd, PgherdBuilder};
pub use server::Server;
pub use wait::eventually;
