//! The names that operators have for servers.

use pgherd_health::{Node, NodeId, Topology};

/// The server that is meant: by its number in `backends.nodes`, its host, host and port, or repmgr's name of it.
///
/// # Errors
/// That there is none, or more than one.
pub(crate) fn server(nodes: &[Node], topology: &Topology, name: &str) -> Result<NodeId, String> {
    if let Some(node) = nodes.iter().find(|node| node.id.to_string() == name) {
        return Ok(node.id);
    }
    let repmgr = |node: &Node| topology.member(node.id)?.repmgr.as_ref().map(|row| row.node_name.as_str());
    let mut meant = nodes.iter().filter(|node| {
        node.host.eq_ignore_ascii_case(name) || address(node) == name || repmgr(node) == Some(name)
    });
    match (meant.next(), meant.next()) {
        (Some(node), None) => Ok(node.id),
        (None, _) => Err(format!("there is no server \"{name}\"")),
        (Some(_), Some(_)) => {
            Err(format!("\"{name}\" may be several servers: name its number, or its port as well"))
        }
    }
}

/// Host and port, as they are written.
pub(crate) fn address(node: &Node) -> String {
    let Node { host, port, .. } = node;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
