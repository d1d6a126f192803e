//! libpq's connection strings, in both of their forms.

use std::fmt;

const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];
const DEFAULT_PORT: u16 = 5432;
/// Keywords that say where the server is, or which of several is meant.
const PLACE: [&str; 5] = ["host", "hostaddr", "port", "target_session_attrs", "load_balance_hosts"];

/// A connection string that was read: its keywords and their values, in their order. May hold a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Conninfo(Vec<(String, String)>);

impl Conninfo {
    /// Reads `host=pg01 user=repmgr` or `postgresql://repmgr@pg01`; none if it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start();
        match SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => uri(rest.trim_end()),
            None => keywords(text),
        }
    }

    /// The value of a keyword; that of the last, as for libpq, if there are several. An empty one is none.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        let (_, value) = self.0.iter().rev().find(|(name, _)| name == keyword)?;
        (!value.is_empty()).then_some(value)
    }

    /// Gives a keyword this value and no other.
    pub fn set(&mut self, keyword: &str, value: impl Into<String>) {
        self.0.retain(|(name, _)| name != keyword);
        self.0.push((keyword.to_owned(), value.into()));
    }

    /// The same towards this server, and no other.
    #[must_use]
    pub fn towards(mut self, host: &str, port: u16) -> Self {
        self.0.retain(|(name, _)| !PLACE.contains(&name.as_str()));
        self.set("host", host);
        self.set("port", port.to_string());
        self
    }

    /// `host` (else `hostaddr`) and `port`; port 5432 where it names none. None if it names no host.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        let host = self.get("host").or_else(|| self.get("hostaddr"))?;
        let port = self.get("port").map_or(Some(DEFAULT_PORT), |port| port.parse().ok())?;
        Some((host.to_owned(), port))
    }
}

/// With every value in quotes, as libpq reads it.
impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (keyword, value)) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            let escaped = value.replace('\\', r"\\").replace('\'', r"\'");
            write!(f, "{space}{keyword}='{escaped}'")?;
        }
        Ok(())
    }
}

/// Without the values: one may be a password.
impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(keyword, _)| keyword)).finish()
    }
}

fn keywords(text: &str) -> Option<Conninfo> {
    let (mut found, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (keyword, after) = rest.split_once('=')?;
        let keyword = keyword.trim_end();
        if !is_keyword(keyword) {
            return None;
        }
        let (value, after) = value(after.trim_start())?;
        found.push((keyword.to_owned(), value));
        rest = after.trim_start();
    }
    Some(Conninfo(found))
}

/// As all of libpq's are. What is read in one form can then be written and read in the other.
fn is_keyword(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

/// One value, quoted or not, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut found = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => found.push(characters.next()?.1),
            '\'' if quoted => return Some((found, text.get(at + 1..)?)),
            _ if !quoted && character.is_whitespace() => return Some((found, text.get(at..)?)),
            _ => found.push(character),
        }
    }
    (!quoted).then_some((found, ""))
}

/// What follows the scheme: `user:password@host:port,host:port/dbname?keyword=value&...`, all parts of which may be left out.
fn uri(text: &str) -> Option<Conninfo> {
    let (text, parameters) = text.split_once('?').unwrap_or((text, ""));
    let (authority, database) = text.split_once('/').unwrap_or((text, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (hosts, ports): (Vec<_>, Vec<_>) =
        hosts.split(',').map(host_of_uri).collect::<Option<Vec<_>>>()?.into_iter().unzip();
    let port = if ports.iter().all(|port| port.is_empty()) { String::new() } else { ports.join(",") };
    let parts = [
        ("user", decode(user)?),
        ("password", decode(password)?),
        ("host", decode(&hosts.join(","))?),
        ("port", port),
        ("dbname", decode(database)?),
    ];
    let given = parts.into_iter().filter(|(_, value)| !value.is_empty());
    let mut found: Vec<(String, String)> = given.map(|(name, value)| (name.to_owned(), value)).collect();
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (keyword, value) = parameter.split_once('=')?;
        let keyword = decode(keyword)?;
        if !is_keyword(&keyword) {
            return None;
        }
        found.push((keyword, decode(value)?));
    }
    Some(Conninfo(found))
}

/// The host, which may be an address in brackets, and its port or nothing.
fn host_of_uri(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            Some((host, rest.strip_prefix(':').unwrap_or(rest)))
        }
        None => Some(text.split_once(':').unwrap_or((text, ""))),
    }
}

/// Undoes the percent-encoding of a part of a URI.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_and_port(text: &str) -> Option<(String, u16)> {
        Conninfo::parse(text)?.host_and_port()
    }

    #[test]
    fn finds_the_server_that_repmgr_registered() {
        for (conninfo, host, port) in [
            ("host=pg01 user=repmgr dbname=repmgr", "pg01", 5432),
            ("user = repmgr  port= 5433 host ='pg 02' password='it\\'s'", "pg 02", 5433),
            ("hostaddr=10.0.0.1 host='' port=''", "10.0.0.1", 5432),
            ("password='host=evil' host=pg\\01", "pg01", 5432),
            ("postgresql://repmgr:p%40ss@pg01:5433/repmgr?connect_timeout=2", "pg01", 5433),
            ("postgres://[fd00::1]/repmgr", "fd00::1", 5432),
            ("postgresql:///repmgr?host=pg01", "pg01", 5432),
        ] {
            assert_eq!(host_and_port(conninfo), Some((host.to_owned(), port)), "{conninfo}");
        }
    }

    #[test]
    fn names_no_server_where_the_string_does_not() {
        for conninfo in [
            "",
            "user=repmgr",
            "host='pg01",
            "host=pg01 port=x",
            "postgresql://",
            "postgresql://pg%0/x",
            "postgresql://[::1/x",
            "postgresql://pg01/x?a%3D1%20host=pg02",
            "postgresql://pg01/x?=pg02",
            "host=a\\",
            "host=pg01 postgresql://port=5432",
        ] {
            assert_eq!(host_and_port(conninfo), None, "{conninfo}");
        }
    }

    #[test]
    fn a_string_towards_another_server_keeps_all_but_the_place() {
        for (conninfo, expected) in [
            (
                "host=pg01 port=5433 user=repmgr application_name='pg 02' passfile=/x sslmode=verify-full",
                "user='repmgr' application_name='pg 02' passfile='/x' sslmode='verify-full' host='pg03' port='5434'",
            ),
            (
                "hostaddr=10.0.0.1 user='o\\'x' password='a\\\\b'",
                r"user='o\'x' password='a\\b' host='pg03' port='5434'",
            ),
            (
                "postgresql://me:se%20cret@a:1,b:2/x?target_session_attrs=primary&sslmode=require",
                "user='me' password='se cret' dbname='x' sslmode='require' host='pg03' port='5434'",
            ),
            ("", "host='pg03' port='5434'"),
        ] {
            let turned = Conninfo::parse(conninfo).unwrap().towards("pg03", 5434);
            assert_eq!(turned.to_string(), expected, "{conninfo}");
            assert_eq!(Conninfo::parse(expected), Some(turned), "it is read as it was written");
        }
    }

    #[test]
    fn nothing_of_a_password_is_shown() {
        let conninfo = Conninfo::parse("host=pg01 password=secret").unwrap();
        assert_eq!(format!("{conninfo:?}"), r#"{"host", "password"}"#);
    }
}
