//! What differs between two configurations.

use super::Config;

impl Config {
    /// Keeps the values of `before` where a running pgherd cannot change them; the keys where that makes a difference.
    pub(crate) fn keep_fixed(&mut self, before: &Self) -> Vec<&'static str> {
        let mut kept = Vec::new();
        if self.listen.address != before.listen.address {
            self.listen.address = before.listen.address;
            kept.push("listen.address");
        }
        if self.runtime.workers != before.runtime.workers {
            self.runtime.workers = before.runtime.workers;
            kept.push("runtime.workers");
        }
        kept
    }

    /// The keys whose values are not those of `before`.
    pub(crate) fn changes_since(&self, before: &Self) -> Vec<&'static str> {
        let then = before.describe();
        let is_new = |(key, value): &(&'static str, Option<String>)| {
            let secret = *key == "monitor.password" && self.monitor.password != before.monitor.password;
            secret || !then.iter().any(|(name, old)| name == key && old == value)
        };
        let mut changed: Vec<_> = self.describe().into_iter().filter(is_new).map(|(key, _)| key).collect();
        if self.server_tls != before.server_tls && !changed.iter().any(|key| key.starts_with("backends.tls"))
        {
            changed.push("the files of backends.tls");
        }
        changed
    }
}
