//! Which cluster is ours: the system identifier that a member must have.

use std::collections::BTreeMap;

use crate::member::row_of;
use crate::{Knowledge, Node, Report};

/// What speaks for one identifier.
#[derive(Debug, Default)]
struct Voices {
    servers: usize,
    writable: bool,
    /// A server of it knows most of the configured ones by repmgr: an empty cluster in a lost one's place does not.
    vouched: bool,
}

/// The right system identifier: the configured one, else that of the accepted lineage, else the one whose `repmgr.nodes`
/// name most of the configured servers, else that of the most servers, a writable one among them unless more than half
/// of all configured servers agree. None before anybody answered. Servers that were found have no say: they are there on the word
/// of one that was configured.
///
/// # Errors
/// Why it cannot be told, in words for an operator.
pub fn system_identifier(knowledge: &Knowledge) -> Result<Option<u64>, String> {
    if let Some(right) = settled(knowledge) {
        return Ok(Some(right));
    }
    let votes = votes(knowledge);
    let most = votes.values().map(|voices| voices.servers).max().unwrap_or(0);
    let mut leading = votes.iter().filter(|(_, voices)| voices.servers == most);
    let (Some((identifier, voices)), None) = (leading.next(), leading.next()) else {
        return if votes.is_empty() { Ok(None) } else { Err(undecided(&votes)) };
    };
    let writable_elsewhere = votes.values().any(|voices| voices.writable);
    if voices.writable || !writable_elsewhere { Ok(Some(*identifier)) } else { Err(undecided(&votes)) }
}

/// The right identifier, if it does not depend on who has yet to answer.
#[must_use]
pub fn settled(knowledge: &Knowledge) -> Option<u64> {
    let known = knowledge.accepted().map(|lineage| lineage.system_identifier);
    if let Some(right) = knowledge.configured_identifier().or(known) {
        return Some(right);
    }
    let votes = votes(knowledge);
    let only = |such: &dyn Fn(&Voices) -> bool| {
        let mut those = votes.iter().filter(|(_, voices)| such(voices)).map(|(identifier, _)| *identifier);
        those.next().filter(|_| those.next().is_none())
    };
    let most = configured(knowledge).count() / 2;
    only(&|voices| voices.vouched).or_else(|| only(&|voices| voices.servers > most))
}

fn votes(knowledge: &Knowledge) -> BTreeMap<u64, Voices> {
    let mut votes: BTreeMap<u64, Voices> = BTreeMap::new();
    for node in configured(knowledge) {
        if let Some(dated) = knowledge.seen(node.id).and_then(|seen| seen.report.as_ref()) {
            let voices = votes.entry(dated.report.system_identifier).or_default();
            voices.servers += 1;
            voices.writable |= dated.report.is_writable();
            voices.vouched |= names_most(knowledge, &dated.report);
        }
    }
    votes
}

fn configured(knowledge: &Knowledge) -> impl Iterator<Item = &Node> {
    knowledge.nodes().iter().filter(|node| node.discovered.is_none())
}

fn names_most(knowledge: &Knowledge, report: &Report) -> bool {
    let named = configured(knowledge).filter(|node| row_of(node, &report.repmgr_nodes).is_some()).count();
    named * 2 > configured(knowledge).count()
}

fn undecided(votes: &BTreeMap<u64, Voices>) -> String {
    let seen: Vec<String> = votes.keys().map(u64::to_string).collect();
    format!(
        "the servers belong to different clusters (system identifiers {}), and no majority tells which is right: \
         set monitor.system_identifier",
        seen.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::fixtures::{herd, primary, report, row};
    use crate::{NodeId, ProbeOutcome, RepmgrNode};

    const OURS: u64 = 1;
    const EMPTY: u64 = 2;

    fn rows(of: u32) -> Vec<RepmgrNode> {
        (0..of).map(row).collect()
    }

    fn answers(knowledge: &mut Knowledge, node: u32, system_identifier: u64, rows: Vec<RepmgrNode>) {
        let now = Instant::now();
        let report = report(system_identifier, primary(1), rows);
        knowledge.observe(NodeId(node), now, now, ProbeOutcome::Answered(Box::new(report)));
    }

    #[test]
    fn one_of_several_servers_settles_nothing_by_itself() {
        let mut knowledge = herd(3);
        assert_eq!(system_identifier(&knowledge), Ok(None));
        answers(&mut knowledge, 0, EMPTY, Vec::new());
        assert_eq!((settled(&knowledge), system_identifier(&knowledge)), (None, Ok(Some(EMPTY))));
        answers(&mut knowledge, 1, OURS, Vec::new());
        assert!(system_identifier(&knowledge).is_err());
        answers(&mut knowledge, 2, OURS, Vec::new());
        assert_eq!(settled(&knowledge), Some(OURS));
    }

    #[test]
    fn a_server_that_knows_the_others_by_repmgr_settles_it() {
        let mut knowledge = herd(3);
        answers(&mut knowledge, 0, EMPTY, rows(1));
        assert_eq!(settled(&knowledge), None);
        answers(&mut knowledge, 1, OURS, rows(3));
        assert_eq!(settled(&knowledge), Some(OURS));
    }

    #[test]
    fn servers_that_were_found_settle_nothing() {
        let mut knowledge = herd(3);
        let found = |node: &Node| match node.id {
            NodeId(0) => node.clone(),
            _ => Node { discovered: Some(1), ..node.clone() },
        };
        knowledge.set_nodes(knowledge.nodes().iter().map(found).collect());
        answers(&mut knowledge, 1, EMPTY, rows(3));
        answers(&mut knowledge, 2, EMPTY, rows(3));
        assert_eq!((settled(&knowledge), system_identifier(&knowledge)), (None, Ok(None)));
        answers(&mut knowledge, 0, OURS, Vec::new());
        assert_eq!(settled(&knowledge), Some(OURS));
    }

    #[test]
    fn a_herd_of_one_is_settled_by_its_server() {
        let mut knowledge = herd(1);
        answers(&mut knowledge, 0, OURS, Vec::new());
        assert_eq!(settled(&knowledge), Some(OURS));
    }
}
