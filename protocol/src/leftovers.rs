//! What a session has left on its server connection besides run-time parameters, as the server tells it.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::parameters::{IN_FORCE, Parameters, quote_literal, read_pair};
use crate::statement::Pin;

/// What is asked for besides parameters, but for roles: a row of two columns for each kind that there is. The first begins with
/// a character that no parameter's name begins with. Asked outside of a transaction: locks that there are then are the session's.
const KINDS: &str = " UNION ALL SELECT '=temporary', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
    WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid \
    AND d.refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
    UNION ALL SELECT '=listen', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) \
    UNION ALL SELECT '=lock', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_locks AS l \
    WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) \
    UNION ALL SELECT '=cursor', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_cursors AS c WHERE c.is_holdable) \
    UNION ALL SELECT '=prepared', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_prepared_statements AS p \
    WHERE pg_catalog.left(p.name, 7) OPERATOR(pg_catalog.<>) 'pgherd_')";

/// What a server tells of a session.
#[derive(Debug, PartialEq, Eq)]
pub struct Leftovers {
    /// What is there that other connections do not have; the worst of it.
    pub pin: Option<Pin>,
    /// The rows that say which run-time parameters are in force: for [`Parameters::carried`].
    pub parameters: Vec<Box<[u8]>>,
}

/// Asks a server which run-time parameters are in force in a session; of custom ones it tells only by their names.
#[must_use]
pub fn parameters_question<'a>(customs: impl Iterator<Item = &'a str>) -> Cow<'static, str> {
    let names: Vec<_> = customs.map(quote_literal).collect();
    if names.is_empty() {
        return Cow::Borrowed(IN_FORCE);
    }
    let names = names.join(",");
    Cow::Owned(format!(
        "{IN_FORCE} UNION ALL SELECT c.name, pg_catalog.current_setting(c.name, true) \
         FROM pg_catalog.unnest(ARRAY[{names}]::pg_catalog.text[]) AS c (name) \
         WHERE pg_catalog.current_setting(c.name, true) IS NOT NULL"
    ))
}

/// Asks a server besides for all else that a session of `user` has left, whose startup packet said `startup`.
#[must_use]
pub fn question<'a>(user: &str, startup: &Parameters, customs: impl Iterator<Item = &'a str>) -> String {
    let mut sql = parameters_question(customs).into_owned();
    sql.push_str(KINDS);
    let expected = [
        ("role", startup.get("role").unwrap_or("none")),
        ("session_authorization", startup.get("session_authorization").unwrap_or(user)),
    ];
    // Others look different to a server whose client has another encoding.
    for (name, value) in expected.into_iter().filter(|(_, value)| value.is_ascii()) {
        let value = quote_literal(value);
        let _ = write!(
            sql,
            " UNION ALL SELECT '=role', '' \
             WHERE pg_catalog.current_setting('{name}') OPERATOR(pg_catalog.<>) {value}"
        );
    }
    sql
}

impl Leftovers {
    /// Reads the bodies of the DataRow messages that answered [`question`]. `None` if they answer something else.
    #[must_use]
    pub fn read(rows: Vec<Box<[u8]>>) -> Option<Self> {
        let mut pin = None;
        let mut parameters = Vec::with_capacity(rows.len());
        for row in rows {
            let kind = match &*read_pair(&row)?.0 {
                "=temporary" => Pin::Temporary,
                "=listen" => Pin::Listen,
                "=lock" => Pin::AdvisoryLock,
                "=cursor" => Pin::HoldCursor,
                "=prepared" => Pin::SqlPrepare,
                "=role" => Pin::Role,
                _ => {
                    parameters.push(row);
                    continue;
                }
            };
            pin = Pin::worse(pin, Some(kind));
        }
        Some(Self { pin, parameters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::row_of_two as row;

    #[test]
    fn kinds_are_told_from_parameters() {
        let rows =
            vec![row("work_mem", "1MB"), row("=listen", ""), row("=temporary", ""), row("TimeZone", "UTC")];
        let left = Leftovers::read(rows).unwrap();
        assert_eq!(left.pin, Some(Pin::Temporary));
        assert_eq!(left.parameters, [row("work_mem", "1MB"), row("TimeZone", "UTC")]);
        assert_eq!(Leftovers::read(vec![]), Some(Leftovers { pin: None, parameters: vec![] }));
        assert_eq!(Leftovers::read(vec![b"\0\x01".as_slice().into()]), None);
    }

    #[test]
    fn what_is_asked_is_quoted_and_what_the_startup_packet_said_is_expected() {
        let startup = Parameters::new(&[("role".into(), "it's".into())]).unwrap();
        let sql = question("me", &startup, ["app.'y"].into_iter());
        assert!(sql.contains("<>) 'it''s'") && sql.contains("<>) 'me'"), "{sql}");
        assert!(sql.contains("ARRAY['app.''y']"), "{sql}");
        assert!(!question("né", &startup, std::iter::empty()).contains("né"));
    }
}
