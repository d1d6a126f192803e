//! The servers, as `backends.nodes` has them.

use super::draft::Draft;
use super::toml_value::Toml;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    host: String,
    port: u16,
    /// Its share of the reads, if that is another than 1.
    pub(super) weight: Option<String>,
    /// Its data directory, if that is known.
    pub(super) directory: Option<String>,
    /// True if it is never promoted.
    pub(super) is_kept_from_promotion: bool,
}

impl Server {
    /// At this address. A Unix socket is this machine's.
    pub(super) fn new(host: &str, port: Option<&str>) -> Result<Self, String> {
        let port = match port.map(str::parse) {
            None => 5432,
            Some(Ok(port)) if port != 0 => port,
            Some(_) => return Err("is left out: its port is no number from 1 to 65535".to_owned()),
        };
        let host = host.trim();
        let host = if host.is_empty() || host.starts_with(['/', '@']) { "localhost" } else { host };
        Ok(Self { host: host.to_owned(), port, weight: None, directory: None, is_kept_from_promotion: false })
    }

    /// Its host, by which it is known, and its port.
    pub(super) fn address(&self) -> (String, u16) {
        (self.host.to_ascii_lowercase(), self.port)
    }

    /// Its host and port, as people write them.
    pub(super) fn shown(&self) -> String {
        let host = self.host.trim_matches(['[', ']']);
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }

    /// The short form, without what is so by default.
    pub(super) fn entry(&self, id: u32) -> String {
        let flag = if self.is_kept_from_promotion { "DISALLOW_TO_FAILOVER" } else { "" };
        let parts = [self.weight.as_deref().unwrap_or(""), self.directory.as_deref().unwrap_or(""), flag];
        let entry = format!("{id}:{}:{}", self.shown(), parts.join(":"));
        entry.trim_end_matches(':').to_owned()
    }
}

/// Sets `backends.nodes`. Without any server there is one to be replaced, so that the rest can be checked.
pub(super) fn write(nodes: Vec<String>, remark: &str, none: &str, draft: &mut Draft) {
    if nodes.is_empty() {
        let what = format!("nodes: {none}; write yours in the place of the one that stands there");
        draft.todo("backends", &what);
        draft.remark("backends", format!("{none}: this one stands here for the others to be checked. Each is `id:host:port:weight:datadir:flag`."));
        draft.set("backends.nodes", Toml::Lines(vec!["0:localhost:5432".to_owned()]), "");
    } else {
        draft.set("backends.nodes", Toml::Lines(nodes), remark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_written_without_what_is_so_by_default() {
        let entry = |host: &str, port: Option<&str>, change: fn(&mut Server)| {
            let mut server = Server::new(host, port).unwrap();
            change(&mut server);
            server.entry(1)
        };
        assert_eq!(entry("pg01", None, |_| {}), "1:pg01:5432");
        assert_eq!(entry("/run/postgresql", Some("5433"), |_| {}), "1:localhost:5433");
        assert_eq!(entry("fe80::1", None, |it| it.weight = Some("0.5".to_owned())), "1:[fe80::1]:5432:0.5");
        let flagged = entry("pg01", None, |it| it.is_kept_from_promotion = true);
        assert_eq!(flagged, "1:pg01:5432:::DISALLOW_TO_FAILOVER");
        assert!(Server::new("a", Some("0")).and_then(|_| Server::new("a", Some("x"))).is_err());
    }
}
