//! The commands of pgpool-II that stand where SQL does.

use super::lexer::{Lexer, Token};

/// What a client wants to see of pgherd itself, as it would of pgpool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolView {
    /// SHOW POOL_NODES
    Nodes,
    /// SHOW POOL_PROCESSES
    Processes,
    /// SHOW POOL_POOLS
    Pools,
    /// SHOW POOL_VERSION
    Version,
    /// SHOW POOL_STATUS
    Status,
    /// SHOW POOL_CACHE
    Cache,
    /// SHOW POOL_HEALTH_CHECK_STATS
    HealthCheckStats,
    /// SHOW POOL_BACKEND_STATS
    BackendStats,
}

impl PoolView {
    const ALL: [(&str, Self); 8] = [
        ("pool_nodes", Self::Nodes),
        ("pool_processes", Self::Processes),
        ("pool_pools", Self::Pools),
        ("pool_version", Self::Version),
        ("pool_status", Self::Status),
        ("pool_cache", Self::Cache),
        ("pool_health_check_stats", Self::HealthCheckStats),
        ("pool_backend_stats", Self::BackendStats),
    ];

    /// What is shown, in small letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, view)| *view == self).map_or("", |(name, _)| name)
    }
}

/// What a text asks for that is one SHOW of pgpool's and nothing else.
pub(super) fn pool_view(text: &[u8]) -> Option<PoolView> {
    // A Query's text comes with its end.
    let mut lexer = Lexer::new(text.strip_suffix(b"\0").unwrap_or(text));
    let mut tokens = std::iter::from_fn(|| lexer.next()).skip_while(|token| *token == Token::Semicolon);
    match (tokens.next()?, tokens.next()?) {
        (Token::Word(show), Token::Word(name)) if show.is("show") => {
            let view = PoolView::ALL.iter().find(|(known, _)| name.is(known)).map(|(_, view)| *view);
            view.filter(|_| tokens.all(|token| token == Token::Semicolon))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::scan;

    #[test]
    fn what_is_asked_of_pgpool_is_told_from_what_is_asked_of_a_server() {
        for (name, view) in PoolView::ALL {
            for text in [
                format!("SHOW {name}"),
                format!("SHOW {name}\0"),
                format!(" show/**/{};; -- x", name.to_ascii_uppercase()),
            ] {
                assert_eq!(scan(text.as_bytes()).view, Some(view), "{text}");
            }
        }
        for text in [
            "SHOW pool_node",
            "SHOW pool_nodes, a",
            "SHOW pool_nodes; SELECT 1",
            "SELECT pool_nodes",
            "SHOW \"pool_nodes\"",
            "SHOW a.pool_nodes",
            "SHOW",
            "",
            "SHOW ALL",
        ] {
            assert_eq!(scan(text.as_bytes()).view, None, "{text}");
        }
    }
}
