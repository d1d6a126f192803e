//! `PG_BACKEND_NODE_LIST`.

use pgherd::input;

/// Any list.
pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let nodes = match input::nodes(&text) {
        Ok(nodes) => nodes,
        Err(wrong) => {
            assert!(
                !wrong.is_empty()
                    && wrong.iter().all(|why| !why.is_empty() && !why.contains(char::is_control)),
                "{wrong:?}"
            );
            // No more is told of an entry than fits into a line.
            assert!(wrong.iter().all(|why| why.chars().count() < 1500), "{wrong:?}");
            return;
        }
    };
    for node in &nodes {
        let host = &node.host;
        let is_fit = |it: char| it.is_ascii_alphanumeric() || "-_.:%".contains(it);
        assert!(!host.is_empty() && !host.starts_with('-') && host.chars().all(is_fit), "{host}");
        assert!(node.port != 0 && node.weight >= 0.0 && node.weight.is_finite(), "{node:?}");
        assert!(node.data_directory.starts_with('/') && !node.data_directory.contains(char::is_control));
        let same = |other: &&pgherd_health::Node| other.id == node.id || other.is_at(host, node.port);
        assert_eq!(nodes.iter().filter(same).count(), 1, "{text}");
    }
    let shown: Vec<String> = nodes.iter().map(input::show_node).collect();
    assert_eq!(input::nodes(&shown.join(",")), Ok(nodes), "{text} is shown as {shown:?}");
}
