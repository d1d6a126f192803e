//! Reads `backends.nodes`: the short form `id:host:port:weight:datadir:flag`, or tables.

use std::str::FromStr;

use pgherd_health::{Node, NodeId, fit_host, is_fit_directory};

use super::keys::NODE_FIELDS;
use super::nearest;
use super::raw::{Item, Value, quoted};
use super::resolve::Fault;

const FORM: &str = "`id:host:port:weight:datadir:flag`";

/// Reads the list in any of its forms, and checks that no server is in it twice.
pub(crate) fn read(value: &Value) -> Result<Vec<Node>, Vec<Fault>> {
    let (mut nodes, mut faults) = (Vec::new(), Vec::new());
    let mut take = |entry: usize, at: Option<&Item>, read: Result<Node, String>| match read {
        Ok(node) => nodes.push(node),
        Err(why) => faults
            .push(Fault { origin: at.map(|i| i.origin.clone()), message: format!("entry {entry} {why}") }),
    };
    match value {
        Value::Plain(text) | Value::Text(text) => {
            let entries = text.trim().trim_end_matches(',').split(',');
            entries.enumerate().for_each(|(at, entry)| take(at + 1, None, short(entry)));
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| {
            let read = match &item.value {
                Value::Text(text) => short(text),
                Value::Table(fields) => table(fields),
                other => Err(format!("takes {FORM} or a table, got {}", other.shown())),
            };
            take(at + 1, Some(item), read);
        }),
        other => return Err(vec![Fault::new(format!("takes a list of {FORM}, got {}", other.shown()))]),
    }
    if nodes.is_empty() && faults.is_empty() {
        faults.push(Fault::new("takes at least one server, got an empty list"));
    }
    faults.extend(twice(&nodes));
    if faults.is_empty() { Ok(nodes) } else { Err(faults) }
}

/// Reads the list as an environment variable has it.
pub(crate) fn read_text(text: &str) -> Result<Vec<Node>, Vec<String>> {
    read(&Value::plain(text)).map_err(|faults| faults.into_iter().map(|fault| fault.message).collect())
}

fn twice(nodes: &[Node]) -> Option<Fault> {
    let earlier = |at: usize, node: &Node| {
        let others = nodes.iter().take(at);
        others
            .clone()
            .find(|o| o.id == node.id || (o.host.eq_ignore_ascii_case(&node.host) && o.port == node.port))
            .cloned()
    };
    let (node, other) = nodes.iter().enumerate().find_map(|(at, node)| Some((node, earlier(at, node)?)))?;
    Some(Fault::new(if other.id == node.id {
        format!("has id {} twice: {}:{} and {}:{}", node.id, other.host, other.port, node.host, node.port)
    } else {
        format!("has {}:{} twice: as id {} and as id {}", node.host, node.port, other.id, node.id)
    }))
}

/// One entry of the short form. Later fields may be left out or empty.
fn short(entry: &str) -> Result<Node, String> {
    let entry = entry.trim();
    let in_entry = |why: String| format!("({}): {why}", quoted(entry));
    let mut fields = split(entry).map_err(in_entry)?.into_iter();
    let mut draft = Draft::default();
    for name in NODE_FIELDS {
        let Some(text) = fields.next() else { break };
        draft.set(name, text.trim()).map_err(in_entry)?;
    }
    if fields.next().is_some() {
        return Err(in_entry(format!("has more fields than {FORM}")));
    }
    draft.finish().map_err(in_entry)
}

/// Cuts at the colons that are not within the brackets of an IPv6 address.
fn split(entry: &str) -> Result<Vec<&str>, String> {
    let (mut fields, mut rest) = (Vec::new(), entry);
    loop {
        let from = match rest.trim_start().strip_prefix('[') {
            Some(_) => rest.find(']').ok_or("`[` without `]`")?,
            None => 0,
        };
        let colon = rest.get(from..).and_then(|tail| tail.find(':')).map(|at| from + at);
        let Some((field, tail)) = colon.and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?))) else {
            fields.push(rest);
            return Ok(fields);
        };
        fields.push(field);
        rest = tail;
    }
}

fn table(fields: &[(String, Item)]) -> Result<Node, String> {
    let mut draft = Draft::default();
    for (name, item) in fields {
        if !NODE_FIELDS.contains(&name.as_str()) {
            return Err(match nearest::word(name, NODE_FIELDS.iter().copied()) {
                Some(near) => format!("has an unknown field `{name}`; did you mean `{near}`?"),
                None => format!("has an unknown field `{name}`; it takes {}", NODE_FIELDS.join(", ")),
            });
        }
        let wants_number = matches!(name.as_str(), "id" | "port" | "weight");
        let text = if wants_number { item.value.number() } else { item.value.text() };
        let kind = if wants_number { "a number" } else { "a string" };
        let text = text.ok_or_else(|| format!("field `{name}` takes {kind}, got {}", item.value.shown()))?;
        draft.set(name, text)?;
    }
    draft.finish()
}

#[derive(Default)]
struct Draft {
    id: Option<u32>,
    host: Option<String>,
    port: Option<u16>,
    weight: Option<f64>,
    data_directory: Option<String>,
    may_be_promoted: Option<bool>,
}

impl Draft {
    /// Takes one field; an empty one counts as left out.
    fn set(&mut self, field: &str, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let takes = |what: &str| format!("field `{field}` takes {what}, got {}", quoted(text));
        match field {
            "id" => self.id = Some(digits(text).ok_or_else(|| takes("a whole number from 0"))?),
            "host" => {
                self.host =
                    Some(fit_host(text).ok_or_else(|| takes("a host name, an IPv4 or an [IPv6] address"))?);
            }
            "port" => {
                let port = digits(text).filter(|port| *port != 0);
                self.port = Some(port.ok_or_else(|| takes("a number from 1 to 65535"))?);
            }
            "weight" => {
                let weight = text.parse().ok().filter(|weight: &f64| weight.is_finite() && *weight >= 0.0);
                self.weight = Some(weight.ok_or_else(|| takes("a number from 0"))?);
            }
            "data_directory" => {
                let fit = is_fit_directory(text);
                self.data_directory =
                    Some(fit.then(|| text.to_owned()).ok_or_else(|| takes("an absolute path"))?);
            }
            _ => {
                self.may_be_promoted = Some(match text.to_ascii_uppercase().as_str() {
                    "ALLOW_TO_FAILOVER" => true,
                    "DISALLOW_TO_FAILOVER" => false,
                    _ => return Err(takes("ALLOW_TO_FAILOVER or DISALLOW_TO_FAILOVER")),
                });
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Node, String> {
        let missing = |field: &str| format!("lacks the field `{field}`");
        let id = NodeId(self.id.ok_or_else(|| missing("id"))?);
        let host = self.host.ok_or_else(|| missing("host"))?;
        let node = Node::new(id, host, self.port.unwrap_or(5432));
        Ok(Node {
            weight: self.weight.unwrap_or(node.weight),
            data_directory: self.data_directory.unwrap_or_else(|| "/data".to_owned()),
            may_be_promoted: self.may_be_promoted.unwrap_or(node.may_be_promoted),
            ..node
        })
    }
}

/// A number of digits only: no sign.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The short form of a server, as [`read`] takes it.
pub(crate) fn show(node: &Node) -> String {
    let host = if node.host.contains(':') { format!("[{}]", node.host) } else { node.host.clone() };
    let flag = if node.may_be_promoted { "ALLOW_TO_FAILOVER" } else { "DISALLOW_TO_FAILOVER" };
    format!("{}:{host}:{}:{}:{}:{flag}", node.id, node.port, node.weight, node.data_directory)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> Result<Vec<Node>, String> {
        read_text(text).map_err(|faults| faults.join("\n"))
    }

    #[test]
    fn the_old_systems_list_is_read_with_its_defaults() {
        let nodes = list(
            "0:pg01:5432:1:/data:ALLOW_TO_FAILOVER, 1:[::1]:5433:0.5:/d:disallow_to_failover,2:10.0.0.3",
        )
        .unwrap();
        let shown: Vec<String> = nodes.iter().map(show).collect();
        assert_eq!(
            shown,
            [
                "0:pg01:5432:1:/data:ALLOW_TO_FAILOVER",
                "1:[::1]:5433:0.5:/d:DISALLOW_TO_FAILOVER",
                "2:10.0.0.3:5432:1:/data:ALLOW_TO_FAILOVER",
            ]
        );
    }

    #[test]
    fn a_wrong_entry_is_named_with_its_field() {
        let cases = [
            (
                "0:pg01,1:pg02:54x2",
                "entry 2 (`1:pg02:54x2`): field `port` takes a number from 1 to 65535, got `54x2`",
            ),
            ("0:pg01:0", "entry 1 (`0:pg01:0`): field `port` takes a number from 1 to 65535, got `0`"),
            ("pg01:5432", "entry 1 (`pg01:5432`): field `id` takes a whole number from 0, got `pg01`"),
            ("0", "entry 1 (`0`): lacks the field `host`"),
            ("0:a:5432:-1", "entry 1 (`0:a:5432:-1`): field `weight` takes a number from 0, got `-1`"),
            (
                "0:a:5432:1:data",
                "entry 1 (`0:a:5432:1:data`): field `data_directory` takes an absolute path, got `data`",
            ),
            ("0:[::1:5432", "entry 1 (`0:[::1:5432`): `[` without `]`"),
            ("0:a,1:a:5432", "has a:5432 twice: as id 0 and as id 1"),
            ("0:a,0:b", "has id 0 twice: a:5432 and b:5432"),
        ];
        for (text, message) in cases {
            assert_eq!(list(text).unwrap_err(), message);
        }
        assert!(list("0:a;reboot").unwrap_err().contains("`host` takes a host name"));
        assert!(list("0:a:1:1:/d:YES").unwrap_err().contains("DISALLOW_TO_FAILOVER, got `YES`"));
        assert!(list("0:a:1:1:/d::x").unwrap_err().contains("has more fields"));
    }

    #[test]
    fn every_wrong_entry_is_reported_at_once() {
        assert_eq!(list("x:a,0:b,1:c:99999").unwrap_err().lines().count(), 2);
    }

    proptest! {
        #[test]
        fn no_list_makes_the_parser_panic(text in "\\PC*", near in "[0-9:,\\[\\]a-z./ é]{0,60}") {
            let _ = (list(&text), list(&near));
        }

        #[test]
        fn what_is_shown_reads_as_the_same(id: u32, port in 1_u16.., weight in 0.0_f64..1e6, v6: bool, allow: bool) {
            let host = if v6 { "fe80::2" } else { "pg-1.example" }.to_owned();
            let node = Node { weight, data_directory: "/d".into(), may_be_promoted: allow, ..Node::new(NodeId(id), host, port) };
            prop_assert_eq!(list(&show(&node)).unwrap(), vec![node]);
        }
    }
}
