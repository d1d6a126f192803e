//! Commands of an operator: a program and its arguments, with places for what differs between servers.

use std::fmt;

use pgherd_health::Node;

/// What may stand in a command, and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Host,
    Port,
    Node,
    Name,
    DataDirectory,
    UpstreamHost,
    UpstreamPort,
    UpstreamNode,
    UpstreamName,
}

impl Place {
    const ALL: [(&'static str, Self); 9] = [
        ("host", Self::Host),
        ("port", Self::Port),
        ("node", Self::Node),
        ("name", Self::Name),
        ("data_directory", Self::DataDirectory),
        ("upstream_host", Self::UpstreamHost),
        ("upstream_port", Self::UpstreamPort),
        ("upstream_node", Self::UpstreamNode),
        ("upstream_name", Self::UpstreamName),
    ];

    const fn is_of_upstream(self) -> bool {
        matches!(self, Self::UpstreamHost | Self::UpstreamPort | Self::UpstreamNode | Self::UpstreamName)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// A program and its arguments. It runs without a shell: what stands for a place stays one argument, whatever is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Vec<Part>>);

impl Template {
    /// Reads the words of a command. `upstream`: its step has another server than the one that it is for.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>, upstream: bool) -> Result<Self, String> {
        let words = words.map(|word| parts(word, upstream)).collect::<Result<Vec<_>, _>>()?;
        match words.first().map(Vec::as_slice) {
            Some([Part::Text(program)]) if program.starts_with('/') => Ok(Self(words)),
            _ => Err("begins with a program, by its absolute path".to_owned()),
        }
    }

    /// The program and its arguments for a step.
    pub(super) fn fill(&self, values: &Values<'_>) -> Vec<String> {
        let word = |parts: &Vec<Part>| {
            let text = |part: &Part| match part {
                Part::Text(text) => text.clone(),
                Part::Place(place) => values.of(*place).unwrap_or_default(),
            };
            parts.iter().map(text).collect()
        };
        self.0.iter().map(word).collect()
    }
}

/// As it is written in the configuration.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.iter().map(|parts| {
            let text = |part: &Part| match part {
                Part::Text(text) => text.clone(),
                Part::Place(place) => {
                    let name = Place::ALL.iter().find(|(_, it)| it == place).map_or("", |(name, _)| name);
                    format!("{{{name}}}")
                }
            };
            parts.iter().map(text).collect::<String>()
        });
        f.debug_list().entries(words).finish()
    }
}

/// One server of a step.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) node: &'a Node,
    /// repmgr's name of it, if it has one.
    pub(super) name: Option<&'a str>,
}

/// What the places stand for in one step.
pub(super) struct Values<'a> {
    pub(super) server: Subject<'a>,
    pub(super) upstream: Option<Subject<'a>>,
}

impl Values<'_> {
    /// Variables for the program's environment, one for each place.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        Place::ALL.iter().filter_map(|(name, place)| {
            Some((format!("PGHERD_COMMAND_{}", name.to_ascii_uppercase()), self.of(*place)?))
        })
    }

    fn of(&self, place: Place) -> Option<String> {
        let subject = if place.is_of_upstream() { self.upstream? } else { self.server };
        let Subject { node, name } = subject;
        Some(match place {
            Place::Host | Place::UpstreamHost => node.host.clone(),
            Place::Port | Place::UpstreamPort => node.port.to_string(),
            Place::Node | Place::UpstreamNode => node.id.to_string(),
            Place::Name | Place::UpstreamName => name.unwrap_or(&node.host).to_owned(),
            Place::DataDirectory => node.data_directory.clone(),
        })
    }
}

fn parts(word: &str, upstream: bool) -> Result<Vec<Part>, String> {
    if word.contains('\0') {
        return Err("has a zero byte in it".to_owned());
    }
    let (mut parts, mut rest) = (Vec::new(), word);
    while let Some(at) = rest.find(['{', '}']) {
        let (text, place) = rest.split_at(at);
        let end = place.find('}').filter(|end| *end > 0);
        let (place, after) = end.and_then(|end| place.split_at_checked(end + 1)).unwrap_or((place, ""));
        let name = place.trim_start_matches('{').trim_end_matches('}');
        let known = Place::ALL.iter().filter(|(_, place)| upstream || !place.is_of_upstream());
        let found = known.clone().find(|(known, _)| format!("{{{known}}}") == place);
        let Some((_, found)) = found else {
            let known: Vec<String> = known.map(|(name, _)| format!("{{{name}}}")).collect();
            return Err(format!("has no place `{name}`; there are {}", known.join(", ")));
        };
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        parts.push(Part::Place(*found));
        rest = after;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use pgherd_health::NodeId;

    use super::*;

    fn node(id: u32, host: &str) -> Node {
        Node { data_directory: "/data".to_owned(), ..Node::new(NodeId(id), host.to_owned(), 5432) }
    }

    #[test]
    fn what_stands_for_a_place_stays_one_argument() {
        let words = ["/bin/x", "--to={upstream_host}:{upstream_port}", "{name}", "{host}{node}", "", "a b"];
        let template = Template::parse(words.into_iter(), true).unwrap();
        let (server, upstream) = (node(1, "{node}"), node(2, "a; b"));
        let values = Values {
            server: Subject { node: &server, name: Some("it's") },
            upstream: Some(Subject { node: &upstream, name: None }),
        };
        assert_eq!(template.fill(&values), ["/bin/x", "--to=a; b:5432", "it's", "{node}1", "", "a b"]);
        assert_eq!(template.to_string(), format!("{words:?}"));
    }

    #[test]
    fn an_unknown_place_is_an_error_that_names_the_known_ones() {
        for word in ["{hots}", "{", "}", "{}", "{{host}}", "{host", "{upstream_host}"] {
            let error = Template::parse(["/bin/x", word].into_iter(), false).unwrap_err();
            assert!(
                error.contains("there are {host}, {port}, {node}, {name}, {data_directory}"),
                "{word}: {error}"
            );
        }
    }

    #[test]
    fn the_program_has_an_absolute_path() {
        for words in [&["x"][..], &["{host}"], &[""], &[]] {
            assert!(Template::parse(words.iter().copied(), false).is_err(), "{words:?}");
        }
    }
}
