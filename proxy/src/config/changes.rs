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
        if self.listen.backlog != before.listen.backlog {
            self.listen.backlog = before.listen.backlog;
            kept.push("listen.backlog");
        }
        if self.listen.unix != before.listen.unix {
            self.listen.unix.clone_from(&before.listen.unix);
            kept.push("listen.unix");
        }
        if self.listen.unix_mode != before.listen.unix_mode {
            self.listen.unix_mode = before.listen.unix_mode;
            kept.push("listen.unix_mode");
        }
        if self.runtime.workers != before.runtime.workers {
            self.runtime.workers = before.runtime.workers;
            kept.push("runtime.workers");
        }
        if self.runtime.handover != before.runtime.handover {
            self.runtime.handover.clone_from(&before.runtime.handover);
            kept.push("runtime.handover");
        }
        kept
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
