//! `pool.tcp_...`: how soon a peer is missed whose machine is gone.

use std::time::Duration;

use super::resolve::Bridge;
use super::units::show_duration;
use super::value;

/// Options of the connections with clients and servers. What is none is left to the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tcp {
    /// Whether idle connections are probed.
    pub(crate) keepalive: bool,
    /// So many probes without an answer end a connection.
    pub(crate) keepalive_count: Option<u32>,
    /// A connection is probed when it was idle for so long.
    pub(crate) keepalive_idle: Option<Duration>,
    /// Time between two probes.
    pub(crate) keepalive_interval: Option<Duration>,
    /// What was sent may stay unacknowledged for so long.
    pub(crate) user_timeout: Option<Duration>,
}

/// What the kernel takes as times of probes (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`).
const PROBES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(32_767);
const ACKNOWLEDGED: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(86_400);

impl Bridge<'_> {
    pub(super) fn tcp(&mut self) -> Option<Tcp> {
        let keepalive = self.get("pool.tcp_keepalive", value::boolean);
        let count = self.get("pool.tcp_keepcnt", value::integer(0..=127));
        let idle = self.get("pool.tcp_keepidle", value::duration_or_off(PROBES));
        let interval = self.get("pool.tcp_keepintvl", value::duration_or_off(PROBES));
        let user_timeout = self.get("pool.tcp_user_timeout", value::duration_or_off(ACKNOWLEDGED));
        Some(Tcp {
            keepalive: keepalive?,
            keepalive_count: u32::try_from(count?).ok().filter(|count| *count > 0),
            keepalive_idle: idle?,
            keepalive_interval: interval?,
            user_timeout: user_timeout?,
        })
    }
}

impl Tcp {
    /// Each key with its value.
    pub(super) fn describe(&self) -> Vec<(&'static str, Option<String>)> {
        let or_off = |it: Option<Duration>| Some(it.map_or_else(|| "off".to_owned(), show_duration));
        vec![
            ("pool.tcp_keepalive", Some(self.keepalive.to_string())),
            ("pool.tcp_keepcnt", Some(self.keepalive_count.unwrap_or_default().to_string())),
            ("pool.tcp_keepidle", or_off(self.keepalive_idle)),
            ("pool.tcp_keepintvl", or_off(self.keepalive_interval)),
            ("pool.tcp_user_timeout", or_off(self.user_timeout)),
        ]
    }
}
