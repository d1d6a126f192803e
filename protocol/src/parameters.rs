//! Run-time parameters that clients set, in their startup packets or by SET, and how server connections come to have them.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use crate::customs::Customs;
use crate::error::ClientError;
use crate::rows::two_columns;

/// Asks a server which run-time parameters its session has set: rows for [`Parameters::carried`]. The parameters of one
/// transaction are set anew by each.
pub const IN_FORCE: &str = "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
     WHERE source OPERATOR(pg_catalog.=) 'session' AND name OPERATOR(pg_catalog.<>) ALL \
     ('{transaction_isolation,transaction_read_only,transaction_deferrable}'::pg_catalog.text[])";

/// A client's run-time parameters, names in lower case, the last value of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parameters {
    values: Vec<(String, String)>,
    /// The custom parameters that the session has set, to whatever: they may be there where it is served.
    customs: Customs,
}

impl Parameters {
    /// Takes the parameters of a startup packet, `options` taken apart.
    ///
    /// # Errors
    /// 42601 for `options` that PostgreSQL would not take either.
    pub fn new(parameters: &[(String, String)]) -> Result<Self, ClientError> {
        let mut set = Self::default();
        for (_, options) in parameters.iter().filter(|(name, _)| name == "options") {
            for (name, value) in parse_options(options)? {
                set.insert(&name, value);
            }
        }
        // PostgreSQL applies options first.
        for (name, value) in parameters.iter().filter(|(name, _)| name != "options") {
            set.insert(name, value.clone());
        }
        set.values.sort();
        for (name, _) in set.values.iter().filter(|(name, _)| is_custom(name)) {
            set.customs.add(name);
        }
        Ok(set)
    }

    /// What is to be in force wherever the session is served, by the bodies of the DataRow messages that answered
    /// [`IN_FORCE`]. Of what a server does not tell, which are custom parameters and the role, the values of the startup
    /// packet hold, unless it was asked for them. `None` if that cannot be carried: what `encoding`, the client's, has in other bytes than UTF-8, and
    /// temporary objects in search_path, which other connections do not have.
    #[must_use]
    pub fn carried(&self, rows: &[Box<[u8]>], encoding: Option<&str>) -> Option<Self> {
        let mut carried: Vec<_> = rows.iter().map(|row| read_pair(row)).collect::<Option<_>>()?;
        let is_utf8 = encoding.is_some_and(|encoding| encoding.eq_ignore_ascii_case("UTF8"));
        let is_movable = |(name, value): &(String, String)| {
            (is_utf8 || value.is_ascii())
                && !(name == "search_path" && value.to_ascii_lowercase().contains("pg_temp"))
        };
        if !carried.iter().all(is_movable) {
            return None;
        }
        let told = carried.len();
        for (name, value) in &self.values {
            let is_of_role = name == "role" || name == "session_authorization";
            let is_told = || carried.iter().take(told).any(|(told, _)| told == name);
            if is_of_role || (is_custom(name) && !is_told()) {
                carried.push((name.clone(), value.clone()));
            }
        }
        carried.sort();
        carried.dedup_by(|one, other| one.0 == other.0);
        let mut customs = self.customs.clone();
        for (name, _) in carried.iter().filter(|(name, _)| is_custom(name)) {
            customs.add(name);
        }
        Some(Self { values: carried, customs })
    }

    fn insert(&mut self, name: &str, value: String) {
        let name = name.to_ascii_lowercase();
        match self.values.iter_mut().find(|(n, _)| *n == name) {
            Some((_, v)) => *v = value,
            None => self.values.push((name, value)),
        }
    }

    /// The same without application_name, which changes no answer.
    #[must_use]
    pub fn without_application_name(&self) -> Self {
        let others = self.values.iter().filter(|(name, _)| name != "application_name");
        Self { values: others.cloned().collect(), customs: self.customs.clone() }
    }

    /// True if the same are to be in force, whatever custom ones may be there besides.
    #[must_use]
    pub fn are_in_force_with(&self, others: &Self) -> bool {
        self.values == others.values
    }

    /// The custom parameters that the session has set.
    #[must_use]
    pub const fn customs(&self) -> &Customs {
        &self.customs
    }

    /// The names of those that have values.
    pub fn custom_names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| name.as_str()).filter(|name| is_custom(name))
    }

    /// The same of a session that has set these custom parameters besides.
    #[must_use]
    pub fn with_customs(mut self, customs: &Customs) -> Self {
        self.customs.add_all(customs);
        self
    }

    /// True if each parameter has the value that a server reports for it without being told.
    #[must_use]
    pub fn change_nothing_of(&self, reported: &BTreeMap<Box<str>, Box<str>>) -> bool {
        self.values.iter().all(|(name, value)| {
            let same_name = |reported: &str| reported.eq_ignore_ascii_case(name);
            reported.iter().any(|(reported, its)| same_name(reported) && **its == **value)
        })
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// True if a transaction of the session only reads where it does not say otherwise.
    #[must_use]
    pub fn read_by_default(&self) -> bool {
        self.get("default_transaction_read_only") == Some("on")
    }

    /// Takes one out that is not for servers; its value.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.values.iter().position(|(n, _)| n == name)?;
        self.customs.remove(name);
        Some(self.values.remove(at).1)
    }

    #[cfg(test)]
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.values
    }

    /// True if there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A number that is the same for sessions whose statements mean the same. Custom parameters are no matter: a statement reads
    /// them when it is run.
    #[must_use]
    pub fn scope(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let is_no_matter = |name: &str| name == "application_name" || is_custom(name);
        for pair in self.values.iter().filter(|(name, _)| !is_no_matter(name)) {
            pair.hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The statement that sets them on a connection without any; none if there are none.
    #[must_use]
    pub fn to_sql(&self) -> Option<String> {
        let mut sql = String::new();
        for (name, value) in &self.values {
            let separator = if sql.is_empty() { "SELECT " } else { ", " };
            let (name, value) = (quote_literal(name), quote_literal(value));
            let _ = write!(sql, "{separator}pg_catalog.set_config({name}, {value}, false)");
        }
        (!sql.is_empty()).then_some(sql)
    }

    /// The statement that sets those again that RESET or DISCARD ALL has taken back to the server's defaults. What the
    /// client has set itself since stays as it is. `is_local`: until the transaction ends.
    #[must_use]
    pub fn to_sql_after_reset(&self, is_local: bool) -> String {
        let mut values = String::new();
        for (name, value) in &self.values {
            let separator = if values.is_empty() { "" } else { ", " };
            let _ = write!(values, "{separator}({}, {})", quote_literal(name), quote_literal(value));
        }
        // Placeholders of custom parameters are not in the view; RESET leaves them empty. Nor is the role, which it leaves
        // at none.
        format!(
            "SELECT pg_catalog.set_config(v.name, v.value, {is_local}) FROM (VALUES {values}) AS v (name, value) \
             LEFT JOIN pg_catalog.pg_settings AS s ON pg_catalog.lower(s.name COLLATE pg_catalog.\"C\") OPERATOR(pg_catalog.=) v.name \
             WHERE COALESCE(s.source OPERATOR(pg_catalog.<>) 'session', \
             pg_catalog.current_setting(v.name, true) OPERATOR(pg_catalog.=) \
             CASE WHEN v.name OPERATOR(pg_catalog.=) 'role' THEN 'none' ELSE '' END)"
        )
    }
}

/// True for the name of a custom parameter, or of one of an extension.
fn is_custom(name: &str) -> bool {
    name.contains('.')
}

/// The name, in lower case, and the value.
pub(crate) fn read_pair(row: &[u8]) -> Option<(String, String)> {
    let [name, value] = two_columns(row)?;
    let (mut name, value) = (String::from_utf8(name.to_vec()).ok()?, String::from_utf8(value.to_vec()).ok()?);
    name.make_ascii_lowercase();
    Some((name, value))
}

/// Works whatever standard_conforming_strings says.
pub(crate) fn quote_literal(value: &str) -> String {
    if value.contains('\\') {
        format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}

/// Takes `options` apart as PostgreSQL's `pg_split_opts()` and `process_postgres_switches()` do: `-c name=value`,
/// `-cname=value` and `--name=value`, a backslash before what would end an argument.
fn parse_options(options: &str) -> Result<Vec<(String, String)>, ClientError> {
    let mut arguments = split_options(options).into_iter();
    let mut parameters = Vec::new();
    while let Some(argument) = arguments.next() {
        let setting = if argument == "-c" {
            arguments.next()
        } else {
            argument.strip_prefix("--").or_else(|| argument.strip_prefix("-c")).map(str::to_owned)
        };
        let parameter = setting.as_deref().and_then(|setting| setting.split_once('='));
        let Some((name, value)) = parameter.filter(|(name, _)| !name.is_empty()) else {
            return Err(ClientError::new(
                "42601",
                format!("invalid command-line argument for server process: {argument}"),
            ));
        };
        parameters.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(parameters)
}

fn split_options(options: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut current: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            c if c.is_ascii_whitespace() => arguments.extend(current.take()),
            '\\' => current.get_or_insert_default().extend(characters.next()),
            c => current.get_or_insert_default().push(c),
        }
    }
    arguments.extend(current);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(list: &[(&str, &str)]) -> Parameters {
        let owned: Vec<_> = list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Parameters::new(&owned).unwrap()
    }

    #[test]
    fn options_are_taken_apart_as_postgresql_does() {
        let set =
            parameters(&[("options", r"-c a.b=1 --work-mem=2MB -csearch_path=x\ y"), ("TimeZone", "UTC")]);
        assert_eq!(set.get("a.b"), Some("1"));
        assert_eq!(set.get("work_mem"), Some("2MB"));
        assert_eq!(set.get("search_path"), Some("x y"));
        assert_eq!(set.get("timezone"), Some("UTC"));
        assert!(Parameters::new(&[("options".into(), "-x".into())]).is_err());
    }

    #[test]
    fn what_is_taken_out_is_as_if_it_had_never_been_there() {
        let mut set = parameters(&[("app.x", "1"), ("app.y", "2")]);
        assert_eq!([set.take("app.x"), set.take("app.x")], [Some("1".to_owned()), None]);
        assert_eq!(set, parameters(&[("app.y", "2")]));
    }

    #[test]
    fn what_is_hostile_is_quoted() {
        let set = parameters(&[("b", "2"), ("c", r"'); DROP \")]);
        assert_eq!(
            set.to_sql().unwrap(),
            r"SELECT pg_catalog.set_config('b', '2', false), pg_catalog.set_config('c', E'''); DROP \\', false)"
        );
        assert_eq!(parameters(&[]).to_sql(), None);
    }

    #[test]
    fn what_a_server_reports_anyway_changes_nothing() {
        let reported =
            BTreeMap::from([("DateStyle".into(), "ISO, MDY".into()), ("TimeZone".into(), "UTC".into())]);
        assert!(parameters(&[("datestyle", "ISO, MDY")]).change_nothing_of(&reported));
        assert!(parameters(&[]).change_nothing_of(&reported));
        for other in [("DateStyle", "ISO"), ("TimeZone", "utc"), ("work_mem", "4MB")] {
            assert!(!parameters(&[("TimeZone", "UTC"), other]).change_nothing_of(&reported), "{other:?}");
        }
    }

    #[test]
    fn what_a_server_tells_is_carried_with_what_it_does_not_tell() {
        let row = |name: &str, value: &str| -> Box<[u8]> {
            let column =
                |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
            [vec![0, 2], column(name), column(value)].concat().into()
        };
        let startup = parameters(&[("work_mem", "1MB"), ("app.x", "1"), ("role", "r")]);
        let carried = startup.carried(&[row("TimeZone", "UTC"), row("app.x", "1")], None).unwrap();
        assert_eq!(
            carried,
            parameters(&[("app.x", "1"), ("role", "r"), ("timezone", "UTC")]),
            "work_mem was reset"
        );
        let odd = row("search_path", "schéma");
        assert!(startup.carried(std::slice::from_ref(&odd), Some("UTF8")).is_some());
        assert_eq!(startup.carried(&[odd], Some("LATIN1")), None);
        assert_eq!(startup.carried(&[row("search_path", "\"PG_temp\", x")], Some("UTF8")), None);
        for bad in [
            &b"\0\x02\0\0"[..],
            b"\0\x01\0\0\0\x01a",
            b"\0\x02\0\0\0\x01\xff\0\0\0\x01a",
            b"\0\x02\xff\xff\xff\xff",
        ] {
            assert_eq!(startup.carried(&[bad.into()], Some("UTF8")), None, "{bad:?}");
        }
    }

    #[test]
    fn application_name_does_not_keep_statements_apart() {
        let a = parameters(&[("application_name", "a"), ("search_path", "s")]);
        let b = parameters(&[("application_name", "b"), ("search_path", "s")]);
        assert_eq!(a.scope(), b.scope());
        assert_ne!(a.scope(), parameters(&[]).scope());
    }
}
