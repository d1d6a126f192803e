//! Which cluster is ours: the system identifier that a member must have.

use std::collections::BTreeMap;

use crate::Knowledge;

/// The right system identifier: the configured one, else that of the accepted lineage, else that of the most servers,
/// a writable one among them unless more than half of all configured servers agree. None before anybody answered.
///
/// # Errors
/// Why it cannot be told, in words for an operator.
pub fn system_identifier(knowledge: &Knowledge) -> Result<Option<u64>, String> {
    let known = knowledge.accepted().map(|lineage| lineage.system_identifier);
    if let Some(right) = knowledge.configured_identifier().or(known) {
        return Ok(Some(right));
    }
    let mut votes: BTreeMap<u64, (usize, bool)> = BTreeMap::new();
    for node in knowledge.nodes() {
        if let Some(dated) = knowledge.seen(node.id).and_then(|seen| seen.report.as_ref()) {
            let (count, writable) = votes.entry(dated.report.system_identifier).or_default();
            *count += 1;
            *writable |= dated.report.is_writable();
        }
    }
    let most = votes.values().map(|(count, _)| *count).max().unwrap_or(0);
    let mut leading = votes.iter().filter(|(_, (count, _))| *count == most);
    let (Some((identifier, (count, writable))), None) = (leading.next(), leading.next()) else {
        return if votes.is_empty() { Ok(None) } else { Err(undecided(&votes)) };
    };
    let majority = count * 2 > knowledge.nodes().len();
    let writable_elsewhere = votes.values().any(|(_, writable)| *writable);
    if majority || *writable || !writable_elsewhere { Ok(Some(*identifier)) } else { Err(undecided(&votes)) }
}

fn undecided(votes: &BTreeMap<u64, (usize, bool)>) -> String {
    let seen: Vec<String> = votes.keys().map(u64::to_string).collect();
    format!(
        "the servers belong to different clusters (system identifiers {}), and no majority tells which is right: \
         set monitor.system_identifier",
        seen.join(", ")
    )
}
