//! What `synchronous_standby_names` says: for how many of which standbys a commit waits.

/// A parsed `synchronous_standby_names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Synchronous {
    /// How many standbys a commit waits for.
    pub(crate) needed: usize,
    /// Their names; `*` stands for every standby.
    pub(crate) names: Vec<String>,
}

impl Synchronous {
    /// Reads the setting; none where no commit waits for a standby.
    pub(crate) fn parse(setting: &str) -> Option<Self> {
        let text = setting.trim();
        if text.is_empty() {
            return None;
        }
        let (head, list) = match text.split_once('(') {
            Some((head, list)) => (head.trim(), list.trim_end().trim_end_matches(')')),
            None => ("", text),
        };
        let upper = head.to_ascii_uppercase();
        let count = upper.trim_start_matches("FIRST").trim_start_matches("ANY").trim();
        let needed = count.parse().unwrap_or(1);
        let names: Vec<String> =
            list.split(',').map(|name| name.trim().trim_matches('"').to_ascii_lowercase()).collect();
        Some(Self { needed, names })
    }

    /// The same without a server that cannot be its own standby: one list may serve all servers.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.names.retain(|listed| *listed != name.to_ascii_lowercase());
        self
    }

    /// True if the standby of this name may be waited for.
    pub(crate) fn lists(&self, name: &str) -> bool {
        self.names.iter().any(|listed| listed == "*" || *listed == name.to_ascii_lowercase())
    }

    /// How many of the listed standbys must be frozen so that no commit can be acknowledged any more, and so that
    /// one of them has every acknowledged one: n-k+1. `registered` is how many standbys `*` stands for.
    pub(crate) fn to_freeze(&self, registered: usize) -> usize {
        let listed = if self.names.iter().any(|name| name == "*") { registered } else { self.names.len() };
        (listed + 1).saturating_sub(self.needed).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_setting_is_read() {
        let cases = [
            ("pg02", 1, 1),
            ("pg02, pg03", 1, 2),
            ("*", 1, 2),
            ("1 (pg02, pg03)", 1, 2),
            ("FIRST 2 (pg02, pg03)", 2, 1),
            ("any 1 (\"pg02\",pg03,pg04)", 1, 3),
            ("ANY 2 (*)", 2, 1),
        ];
        for (setting, needed, to_freeze) in cases {
            let parsed = Synchronous::parse(setting).unwrap();
            assert_eq!(parsed.needed, needed, "{setting}");
            assert_eq!(parsed.to_freeze(2), to_freeze, "{setting}");
            assert!(parsed.lists("PG02"), "{setting}");
        }
        assert_eq!(Synchronous::parse("  "), None);
    }

    #[test]
    fn a_primary_is_not_its_own_standby() {
        let these = Synchronous::parse("ANY 1 (pg01, PG02, pg03)").unwrap();
        assert_eq!(these.to_freeze(2), 3);
        assert_eq!(these.without("pg01").to_freeze(2), 2);
        assert_eq!(Synchronous::parse("ANY 1 (*)").unwrap().without("pg01").to_freeze(2), 2);
    }
}
