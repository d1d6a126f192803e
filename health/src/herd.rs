//! Which servers there are: those that are configured, and those that `repmgr.nodes` names beside them.

use std::sync::Arc;

use crate::member::{repmgr_rows, row_of};
use crate::{Knowledge, Node, NodeId, RepmgrNode, RepmgrNodeType, fit_host, identity};

/// More servers are not watched, whatever is registered.
pub const MOST_SERVERS: usize = 64;

/// repmgr's rows as the best witness of our cluster has them; none as long as it cannot be told which cluster that is.
#[must_use]
pub fn witness(knowledge: &Knowledge) -> Arc<Vec<RepmgrNode>> {
    match identity::system_identifier(knowledge) {
        Ok(Some(right)) => repmgr_rows(knowledge, Some(right)),
        _ => Arc::default(),
    }
}

/// The servers that are configured, and those that `rows` name beside them. A server that was found before and that no row
/// names stays if it `stays`. Who is there keeps its number.
#[must_use]
pub fn herd(configured: &[Node], present: &[Node], rows: &[RepmgrNode], stays: bool) -> Vec<Node> {
    let known_as = |node: &Node| present.iter().find(|old| old.is_same(node))?.known_as.clone();
    let mut nodes: Vec<Node> =
        configured.iter().map(|node| Node { known_as: known_as(node), ..node.clone() }).collect();
    let found: Vec<&Node> = present.iter().filter(|node| node.discovered.is_some()).collect();
    let Some(pattern) = configured.first() else { return nodes };
    for row in rows.iter().filter(|row| row.node_type != RepmgrNodeType::Witness) {
        let is_configured = |node: &Node| row_of(node, rows).is_some_and(|its| its.node_id == row.node_id);
        let Some(host) = fit_host(&row.host).filter(|_| row.port != 0) else { continue };
        if nodes.iter().any(|node| is_configured(node) || node.is_at(&host, row.port)) {
            continue;
        }
        let before = found.iter().find(|node| node.discovered == Some(row.node_id));
        let kept = before.map(|node| node.id).filter(|id| !nodes.iter().any(|node| node.id == *id));
        let id = kept.unwrap_or_else(|| number(row.node_id, (&nodes, &found, rows)));
        let same = before.filter(|node| node.is_at(&host, row.port));
        nodes.push(Node {
            data_directory: same.map_or(&pattern.data_directory, |node| &node.data_directory).clone(),
            discovered: Some(row.node_id),
            ..Node::new(id, host, row.port)
        });
    }
    for node in found.into_iter().filter(|_| stays) {
        let is_there = |other: &Node| other.id == node.id || other.is_at(&node.host, node.port);
        if !nodes.iter().any(is_there) {
            nodes.push(node.clone());
        }
    }
    nodes.truncate(MOST_SERVERS.max(configured.len()));
    nodes
}

/// repmgr's own number if no other has it, else the lowest that nobody has or is to have.
fn number(node_id: i32, (nodes, found, rows): (&[Node], &[&Node], &[RepmgrNode])) -> NodeId {
    let taken = |id: NodeId| nodes.iter().chain(found.iter().copied()).any(|node| node.id == id);
    let wanted = |id: NodeId| rows.iter().any(|row| u32::try_from(row.node_id) == Ok(id.0));
    let own = u32::try_from(node_id).ok().map(NodeId).filter(|id| !taken(*id));
    let free = || (0..u32::MAX).map(NodeId).find(|id| !taken(*id) && !wanted(*id));
    own.or_else(free).unwrap_or(NodeId(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn node(id: u32, host: &str) -> Node {
        let mut nodes = fixtures::herd(1).nodes().to_vec();
        Node { id: NodeId(id), host: host.to_owned(), ..nodes.remove(0) }
    }

    fn row(node_id: i32, host: &str) -> RepmgrNode {
        let name = format!("name{node_id}");
        RepmgrNode { node_id, node_name: name, host: host.to_owned(), ..fixtures::row(0) }
    }

    fn shown(nodes: &[Node]) -> Vec<String> {
        nodes.iter().map(|node| format!("{}={}", node.id, node.host)).collect()
    }

    #[test]
    fn the_others_are_found_and_the_configured_one_is_not_found_again() {
        let configured = [node(0, "pg1")];
        let mut rows = vec![row(1, "pg1"), row(2, "pg2"), row(3, "pg3")];
        rows[2].node_type = RepmgrNodeType::Witness;
        rows.push(row(4, "pg4"));
        let nodes = herd(&configured, &configured, &rows, false);
        assert_eq!(shown(&nodes), ["0=pg1", "2=pg2", "4=pg4"]);
        assert_eq!(nodes.iter().map(|node| node.discovered).collect::<Vec<_>>(), [None, Some(2), Some(4)]);
        // One that is configured by repmgr's name of it.
        let by_name = [node(7, "name2")];
        assert_eq!(shown(&herd(&by_name, &by_name, &rows, false)), ["7=name2", "1=pg1", "4=pg4"]);
    }

    #[test]
    fn numbers_collide_with_none_and_stay() {
        let configured = [node(2, "pg1")];
        let first = herd(&configured, &configured, &[row(1, "pg1"), row(2, "pg2")], false);
        assert_eq!(shown(&first), ["2=pg1", "0=pg2"]);
        let rows = [row(1, "pg1"), row(2, "pg2"), row(3, "pg3")];
        let second = herd(&configured, &first, &rows, false);
        assert_eq!(shown(&second), ["2=pg1", "0=pg2", "3=pg3"]);
        assert_eq!(shown(&herd(&configured, &second, &rows[1..], false)), ["2=pg1", "0=pg2", "3=pg3"]);
    }

    #[test]
    fn who_is_in_no_row_goes_or_stays_and_who_moves_is_followed() {
        let configured = [node(0, "pg1")];
        let before = herd(&configured, &configured, &[row(2, "pg2"), row(3, "pg3")], false);
        let rows = [row(3, "elsewhere")];
        assert_eq!(shown(&herd(&configured, &before, &rows, true)), ["0=pg1", "3=elsewhere", "2=pg2"]);
        assert_eq!(shown(&herd(&configured, &before, &rows, false)), ["0=pg1", "3=elsewhere"]);
    }

    #[test]
    fn one_that_is_known_by_another_address_is_not_found_again() {
        let configured = [node(0, "10.0.0.1")];
        let present = [Node { known_as: Some(("pg1".to_owned(), 5432)), ..configured[0].clone() }];
        let nodes = herd(&configured, &present, &[row(1, "pg1"), row(2, "pg2")], false);
        assert_eq!(shown(&nodes), ["0=10.0.0.1", "2=pg2"]);
        assert_eq!(nodes[0], present[0]);
    }

    #[test]
    fn what_is_no_address_is_left_out_and_more_than_the_most_are_not_taken() {
        let configured = [node(0, "pg1")];
        let mut rows = vec![row(-1, "pg2"), row(2, "/run"), row(3, "a;b"), row(4, ""), row(5, "pg2")];
        rows[0].port = 0;
        assert_eq!(shown(&herd(&configured, &configured, &rows, false)), ["0=pg1", "5=pg2"]);
        let many: Vec<RepmgrNode> = (1..200).map(|id| row(id, &format!("host{id}"))).collect();
        assert_eq!(herd(&configured, &configured, &many, false).len(), MOST_SERVERS);
    }
}
