//! What differs between two configurations.

use super::Config;

/// The keys that a running pgherd cannot change.
pub(crate) const FIXED: [&str; 21] = [
    "listen.address",
    "listen.backlog",
    "listen.unix",
    "listen.unix_mode",
    "http.address",
    "runtime.workers",
    "runtime.handover",
    "failover.etcd.endpoints",
    "failover.etcd.prefix",
    "failover.etcd.ttl",
    "failover.etcd.user",
    "failover.etcd.password",
    "failover.etcd.ca",
    "failover.etcd.cert",
    "failover.etcd.key",
    "http.anonymous",
    "http.trusted_proxies",
    "http.user_header",
    "http.tls.cert",
    "http.tls.key",
    "http.docker_socket",
];

impl Config {
    /// Keeps the values of `before` where a running pgherd cannot change them; the keys where that makes a difference.
    pub(crate) fn keep_fixed(&mut self, before: &Self) -> Vec<&'static str> {
        let [address, backlog, unix, unix_mode, http, workers, handover, etcd, ..] = FIXED;
        let kept = [
            keep(address, &mut self.listen.address, &before.listen.address),
            keep(backlog, &mut self.listen.backlog, &before.listen.backlog),
            keep(unix, &mut self.listen.unix, &before.listen.unix),
            keep(unix_mode, &mut self.listen.unix_mode, &before.listen.unix_mode),
            keep(http, &mut self.http, &before.http),
            keep(workers, &mut self.runtime.workers, &before.runtime.workers),
            keep(handover, &mut self.runtime.handover, &before.runtime.handover),
            keep(etcd, &mut self.failover.etcd, &before.failover.etcd),
        ];
        kept.into_iter().flatten().collect()
    }

    /// The keys whose values are not those of `before`.
    pub(crate) fn changes_since(&self, before: &Self) -> Vec<&'static str> {
        let then = before.describe();
        let is_new = |(key, value): &(&'static str, Option<String>)| {
            self.differs_unseen(before, key) || !then.iter().any(|(name, old)| name == key && old == value)
        };
        let mut changed: Vec<_> = self.describe().into_iter().filter(is_new).map(|(key, _)| key).collect();
        if self.server_tls != before.server_tls && !changed.iter().any(|key| key.starts_with("backends.tls"))
        {
            changed.push("the files of backends.tls");
        }
        changed
    }

    /// True if the value of this key is another, though it is shown as it was: a secret, or what a file says.
    fn differs_unseen(&self, before: &Self, key: &str) -> bool {
        let (now, then) = (&self.auth, &before.auth);
        match key {
            "monitor.password" => self.monitor.password != before.monitor.password,
            "auth.hba_file" => now.hba != then.hba,
            "auth.ident_file" => now.maps != then.maps,
            "auth.userlist_file" => now.userlist != then.userlist,
            "auth.query_password" => now.query_password != then.query_password,
            "auth.map" => now.user_maps != then.user_maps,
            _ => false,
        }
    }
}

/// The key, if that makes a difference.
fn keep<T: Clone + PartialEq>(key: &'static str, now: &mut T, before: &T) -> Option<&'static str> {
    let differs = now != before;
    now.clone_from(before);
    differs.then_some(key)
}
