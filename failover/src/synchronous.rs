//! What `synchronous_standby_names` says: for how many of which standbys a commit waits, and whether there are so many.

use pgherd_health::{MemberState, WalSender};

use crate::Machine;

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

/// Why commits on the primary wait, if fewer standbys stream than it waits for. The setting is an operator's: it is never made
/// weaker, since whoever set it would rather wait than lose a commit.
pub(crate) fn shortage(machine: &Machine) -> Option<String> {
    let primary = machine.topology.member(machine.state.epoch()?.primary)?;
    if primary.state != MemberState::Primary {
        return None;
    }
    let these = Synchronous::parse(&primary.report()?.synchronous_standby_names)?;
    let own = primary.repmgr.as_ref().map_or("", |row| row.node_name.as_str());
    let senders: Vec<&WalSender> = primary.senders().collect();
    these.without(own).shortage(&senders).map(|why| format!("commits on node {} wait: {why}", primary.node))
}

impl Synchronous {
    fn shortage(&self, senders: &[&WalSender]) -> Option<String> {
        // What the primary itself says of each: it counts those that stream and are not asynchronous.
        let counted: Vec<&str> = senders
            .iter()
            .filter(|sender| sender.state == "streaming" && sender.sync_state != "async")
            .map(|sender| sender.application_name.as_str())
            .collect();
        let (have, needed) = (counted.len(), self.needed);
        if have >= needed {
            return None;
        }
        let any = self.names.iter().any(|name| name == "*");
        if !any && self.names.len() < needed {
            return Some(format!(
                "synchronous_standby_names asks for {needed} standbys, and names only {} beside the primary itself: an operator must \
                 change it there",
                self.names.len()
            ));
        }
        let is_there = |name: &String| counted.iter().any(|it| it.eq_ignore_ascii_case(name));
        let missing: Vec<&str> =
            self.names.iter().filter(|name| *name != "*" && !is_there(name)).map(String::as_str).collect();
        let missing = if any { String::new() } else { format!("; missing: {}", missing.join(", ")) };
        Some(format!("synchronous_standby_names asks for {needed} standbys and has {have}{missing}"))
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

    fn sender(name: &str, state: &str, sync_state: &str) -> WalSender {
        WalSender {
            application_name: name.to_owned(),
            state: state.to_owned(),
            sync_state: sync_state.to_owned(),
            flush: None,
            replay: None,
        }
    }

    #[test]
    fn too_few_standbys_are_told_of_with_the_names_of_those_that_are_missing() {
        let of = |setting: &str, senders: &[WalSender]| {
            let senders: Vec<&WalSender> = senders.iter().collect();
            Synchronous::parse(setting).unwrap().without("pg01").shortage(&senders)
        };
        let two = [sender("pg02", "streaming", "quorum"), sender("pg03", "streaming", "quorum")];
        for setting in ["ANY 1 (pg01, pg02, pg03)", "FIRST 2 (pg01, PG02, pg03)", "pg02", "2 (*)"] {
            assert_eq!(of(setting, &two), None, "{setting}");
        }
        let one = [sender("pg02", "streaming", "sync"), sender("pg03", "catchup", "potential")];
        assert_eq!(
            of("FIRST 2 (pg01, pg02, pg03)", &one).unwrap(),
            "synchronous_standby_names asks for 2 standbys and has 1; missing: pg03"
        );
        assert_eq!(of("2 (*)", &one).unwrap(), "synchronous_standby_names asks for 2 standbys and has 1");
        // A standby under another name does not count, and the primary is no standby of its own.
        let other = [sender("backup", "streaming", "async")];
        assert!(of("pg02", &other).unwrap().ends_with("missing: pg02"));
        assert!(of("pg01", &other).unwrap().contains("names only 0 beside the primary itself"));
    }

    #[test]
    fn a_primary_is_not_its_own_standby() {
        let these = Synchronous::parse("ANY 1 (pg01, PG02, pg03)").unwrap();
        assert_eq!(these.to_freeze(2), 3);
        assert_eq!(these.without("pg01").to_freeze(2), 2);
        assert_eq!(Synchronous::parse("ANY 1 (*)").unwrap().without("pg01").to_freeze(2), 2);
    }
}
