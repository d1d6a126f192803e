//! The commands of pgpool-II that stand where SQL does.

use super::lexer::{Lexer, Token};
use crate::rows::{Column, Type};

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
    /// PGPOOL SHOW of one parameter.
    Parameter(PoolParameter),
    /// PGPOOL SET of one. No client changes what is for all: it is an error.
    Set(PoolParameter),
    /// PGPOOL RESET, of one or all: none is ever set.
    Reset,
}

/// The parameters of pgpool that say something of pgherd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are what pgpool's manual says of their names")]
pub enum PoolParameter {
    AuthenticationTimeout,
    ClientIdleLimit,
    ConnectTimeout,
    ConnectionCache,
    ConnectionLifeTime,
    EnablePoolHba,
    ListenAddresses,
    LoadBalanceMode,
    LogMinMessages,
    MemoryCacheEnabled,
    NumInitChildren,
    Port,
    Ssl,
    UnixSocketDirectories,
    UseWatchdog,
}

impl PoolParameter {
    /// Each, with the column that shows it.
    pub const ALL: [(Column, Self); 15] = [
        (text("authentication_timeout"), Self::AuthenticationTimeout),
        (text("client_idle_limit"), Self::ClientIdleLimit),
        (text("connect_timeout"), Self::ConnectTimeout),
        (text("connection_cache"), Self::ConnectionCache),
        (text("connection_life_time"), Self::ConnectionLifeTime),
        (text("enable_pool_hba"), Self::EnablePoolHba),
        (text("listen_addresses"), Self::ListenAddresses),
        (text("load_balance_mode"), Self::LoadBalanceMode),
        (text("log_min_messages"), Self::LogMinMessages),
        (text("memory_cache_enabled"), Self::MemoryCacheEnabled),
        (text("num_init_children"), Self::NumInitChildren),
        (text("port"), Self::Port),
        (text("ssl"), Self::Ssl),
        (text("unix_socket_directories"), Self::UnixSocketDirectories),
        (text("use_watchdog"), Self::UseWatchdog),
    ];

    /// The one column that shows it.
    #[must_use]
    pub fn columns(self) -> &'static [Column] {
        static ALL: [(Column, PoolParameter); 15] = PoolParameter::ALL;
        ALL.iter().find(|(_, it)| *it == self).map_or(&[], |(column, _)| std::slice::from_ref(column))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.columns().first().map_or("", |column| column.name)
    }
}

const fn text(name: &'static str) -> Column {
    Column::new(name, Type::Text)
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

    /// Whether a text's first letters are those of SHOW or PGPOOL; true where it does not begin with a letter.
    #[must_use]
    pub fn may_be_asked_for(text: &[u8]) -> bool {
        match text.trim_ascii_start() {
            [first, second, ..] if first.is_ascii_alphabetic() => {
                matches!([first | 0x20, second | 0x20], [b's', b'h'] | [b'p', b'g'])
            }
            _ => true,
        }
    }

    /// The name of a view, in small letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, view)| *view == self).map_or("", |(name, _)| name)
    }
}

/// What a text asks for that is one command of pgpool's and nothing else.
pub(super) fn pool_view(text: &[u8]) -> Option<PoolView> {
    // A Query's text comes with its end.
    let mut lexer = Lexer::new(text.strip_suffix(b"\0").unwrap_or(text));
    let mut tokens = std::iter::from_fn(|| lexer.next()).skip_while(|token| *token == Token::Semicolon);
    let mut word =
        || tokens.next().and_then(|token| if let Token::Word(word) = token { Some(word) } else { None });
    let (first, second) = (word()?, word()?);
    let view = if first.is("show") {
        PoolView::ALL.iter().find(|(known, _)| second.is(known)).map(|(_, view)| *view)?
    } else if first.is("pgpool") {
        let name = word()?;
        let known = PoolParameter::ALL.iter().find(|(column, _)| name.is(column.name)).map(|(_, it)| *it);
        if second.is("show") {
            // What pgpool lists is what SHOW POOL_STATUS does.
            if name.is("all") { PoolView::Status } else { PoolView::Parameter(known?) }
        } else if second.is("reset") {
            known.map(|_| PoolView::Reset).or_else(|| name.is("all").then_some(PoolView::Reset))?
        } else if second.is("set") {
            // The value may be anything but another statement.
            while tokens.next().is_some_and(|token| token != Token::Semicolon) {}
            PoolView::Set(known?)
        } else {
            return None;
        }
    } else {
        return None;
    };
    tokens.all(|token| token == Token::Semicolon).then_some(view)
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
                assert!(PoolView::may_be_asked_for(text.as_bytes()), "{text}");
            }
        }
        for (column, parameter) in PoolParameter::ALL {
            let name = column.name;
            let asked = |text: &str| {
                assert!(PoolView::may_be_asked_for(text.as_bytes()), "{text}");
                scan(text.as_bytes()).view
            };
            assert_eq!((parameter.name(), parameter.columns()), (name, &[column][..]));
            assert_eq!(asked(&format!("PGPOOL SHOW {name};")), Some(PoolView::Parameter(parameter)));
            assert_eq!(asked(&format!("pgpool reset {name}")), Some(PoolView::Reset));
            for value in ["= 5", "TO 'a;b'", "TO DEFAULT;"] {
                assert_eq!(asked(&format!("PGPOOL SET {name} {value}")), Some(PoolView::Set(parameter)));
            }
        }
        assert_eq!(scan(b"PGPOOL SHOW ALL").view, Some(PoolView::Status));
        assert_eq!(scan(b"PGPOOL RESET ALL").view, Some(PoolView::Reset));
        for text in [
            "PGPOOL",
            "PGPOOL SHOW",
            "PGPOOL SHOW nothing",
            "PGPOOL SHOW port, ssl",
            "PGPOOL SET port = 1; SELECT 1",
            "PGPOOL SET nothing = 1",
            "PGPOOL RESET",
            "PGPOOL EXPLAIN port",
            "SELECT pgpool",
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
        for text in ["SELECT 1", "begin", " set a = 1", "prepare"] {
            assert!(!PoolView::may_be_asked_for(text.as_bytes()), "{text}");
        }
        assert!(PoolView::may_be_asked_for(b";-- so\nSHOW pool_nodes"));
    }
}
