//! What is asked of a database's catalogue: what may leave something in a session, and (by `places`) what decides where a text may run.
//!
//! A function is suspect if its source, in whatever language but C, has one of these: the words TEMP, TEMPORARY, `pg_temp`, LISTEN,
//! PREPARE, HOLD, or EXECUTE (which may run any text); SET where a statement may begin, but for SET LOCAL, TRANSACTION and
//! CONSTRAINTS; `set_config` without `true` for its last argument; a function for session-level advisory locks; what
//! loads a library or opens a connection to another server. Words count wherever they stand, in literals and comments too.
//!
//! What uses something suspect is suspect: a function whose source has its name; a table by its triggers, rules, defaults,
//! constraints and policies; a view of it; the table that it is a partition of; one whose foreign keys lead to it.

mod places;

use std::collections::HashMap;

use crate::customs::MOST as MOST_CUSTOMS;
use crate::rows::two_columns;
use crate::statement::{Named, Names, Pin, SetsCustom, untold_functions};
pub use places::places_question;

/// More names are not kept: every text may have one then.
const MOST_NAMES: usize = 10_000;
/// So many rows may answer.
pub const MOST_ROWS: usize = 2 * places::MOST_NAMES + 256;

/// What the questions are asked in. Its names mean what they mean to PostgreSQL itself, whatever there is in other schemas.
pub const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '8s'; \
    SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL standard_conforming_strings = on; SET LOCAL jit = off";

/// Changes when a function, a trigger, a rule or what hangs on tables does, and with the names of tables that matter.
pub const FINGERPRINT: &str = "SELECT count(*)::text, coalesce(sum(seen.x::bigint), 0)::text FROM (\
    SELECT xmin::text FROM pg_proc WHERE oid >= 16384 UNION ALL SELECT xmin::text FROM pg_trigger \
    UNION ALL SELECT xmin::text FROM pg_rewrite WHERE oid >= 16384 UNION ALL SELECT xmin::text FROM pg_attrdef \
    UNION ALL SELECT xmin::text FROM pg_policy UNION ALL SELECT xmin::text FROM pg_event_trigger \
    UNION ALL SELECT xmin::text FROM pg_inherits UNION ALL SELECT xmin::text FROM pg_cast WHERE oid >= 16384 \
    UNION ALL SELECT hashtext(relname::text)::text FROM pg_class WHERE oid >= 16384 \
    AND (relkind IN ('S', 'v') OR relpersistence = 'u' OR relhastriggers OR relhassubclass OR relrowsecurity) \
    UNION ALL SELECT xmin::text FROM pg_constraint WHERE oid >= 16384) AS seen (x)";

/// Gives a row for each name: the name, and what using it means: `ask`; `any` where it runs texts that are not in its source;
/// `load`, `keep` or `unnamed` (a custom parameter of which it makes the name up) where no server tells later what was left; `custom` where it sets a custom parameter, `hidden` where nobody knows which; `alter` where it sets any parameter that may change
/// what other texts mean. Custom parameters are rows, too.
#[must_use]
pub fn question() -> String {
    let untold: Vec<_> = untold_functions().collect();
    let parameters = MOST_CUSTOMS + 1;
    QUESTION.replace("@untold@", &untold.join("|")).replace("@parameters@", &parameters.to_string())
}

const QUESTION: &str = r#"WITH RECURSIVE sources AS MATERIALIZED (
    SELECT p.oid, p.proname::text AS name, p.proconfig, l.lanname = 'c' OR l.lanname = 'internal' AS is_closed,
        -- The body of a function in standard SQL is not kept as text.
        lower(CASE WHEN p.prosrc = '' AND p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) ELSE p.prosrc END) AS source
    FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
    WHERE p.oid >= 16384 AND NOT pg_is_other_temp_schema(p.pronamespace)
), marked AS MATERIALIZED (
    SELECT oid, name, proconfig, is_closed, source,
        CASE
            WHEN is_closed THEN NULL
            WHEN source ~ '\mload\s+''' THEN 'load'
            WHEN source ~ '@untold@' THEN 'keep'
            WHEN regexp_replace(source, sets_locally, ' ', 'g') ~ gives_name
                OR source ~ '[''"$]set\s+(session\s+)?[a-z0-9_.]*(%|''+\s*\|\|)'
                THEN 'unnamed'
        END AS pin,
        NOT is_closed AND (
            source ~ '\m(temp|temporary|pg_temp|listen|prepare|hold|spi_exec\w*|spi_query|spi_prepare)\M|pg_(try_)?advisory_lock'
            OR source ~ '\mexecute\M(?!\s+(function|procedure|on)\M)'
            OR regexp_replace(source, sets_locally, ' ', 'g') ~ 'set_config'
            OR source ~ begins_set OR regexp_replace(source, '--[^\n]*|/\*.*?\*/', ' ', 'g') ~ begins_set
        ) AS is_suspect,
        NOT is_closed AND source ~ 'set_config|\mset\s+(local|session|search_path|role)\M' AS alters,
        NOT is_closed AND (source ~ gives_name OR source ~ '[''"$]set\s+local\s+[a-z0-9_.]*(%|''+\s*\|\|)') AS is_unnamed,
        NOT is_closed AND source ~ '\m(execute\M(?!\s+(function|procedure|on)\M)|spi_exec|spi_query|spi_prepare)' AS runs_any
    FROM sources CROSS JOIN (VALUES (
        '(^|[;''$"]|\m(begin|then|else|loop|atomic)\M)\s*set\s+(?!(local|transaction|constraints)\M)',
        'set_config\s*\([^()]*(\([^()]*\)[^()]*)*,\s*true\s*\)',
        'set_config\s*\(\s*([^''[:space:]]|''[^'']*''\s*\|\|)')) AS set (begins_set, sets_locally, gives_name)
), customs AS MATERIALIZED (
    -- In a text that is to be executed, quotation marks are doubled.
    SELECT oid, name, (regexp_matches(source,
            'set_config\s*\(\s*''+([a-z_][a-z0-9_$]*(?:\.[a-z0-9_$]+)+)''+\s*,', 'g'))[1] AS parameter
        FROM marked WHERE NOT is_closed
    UNION
    SELECT oid, name, (regexp_matches(source,
            '\mset\s+(?:local\s+|session\s+)?([a-z_][a-z0-9_$]*(?:\.[a-z0-9_$]+)+)\s*(?:=|to\M)', 'g'))[1]
        FROM marked WHERE NOT is_closed
    UNION
    SELECT oid, name, lower(split_part(setting, '=', 1)) FROM marked, unnest(proconfig) AS setting WHERE setting ~ '^[^=]*\.'
), found (is_table, oid, name, kind) AS (
    SELECT false, oid, name, coalesce(pin, 'ask') FROM marked WHERE is_suspect OR pin IS NOT NULL
  UNION
    SELECT false, oid, name, 'alter' FROM marked WHERE alters
  UNION
    SELECT false, oid, name, 'custom' FROM customs
  UNION
    SELECT false, oid, name, 'hidden' FROM marked WHERE is_unnamed
  UNION
    SELECT false, oid, name, 'any' FROM marked WHERE runs_any
  UNION
    -- A rule or a default that calls one of PostgreSQL's own.
    SELECT true, c.oid, c.relname::text, CASE WHEN tree.text ~ ':funcid 2078\M' THEN 'unnamed' ELSE 'ask' END
    FROM (SELECT ev_class, ev_action::text FROM pg_rewrite WHERE oid >= 16384
        UNION ALL SELECT adrelid, adbin::text FROM pg_attrdef
        UNION ALL SELECT polrelid, concat(polqual, polwithcheck) FROM pg_policy) AS tree (relation, text)
    JOIN pg_class AS c ON c.oid = tree.relation
    WHERE tree.text ~ (SELECT ':funcid (' || string_agg(oid::text, '|') || ')\M' FROM pg_proc
        WHERE oid < 16384 AND proname ~ '^(pg_(try_)?advisory_lock(_shared)?|set_config)$')
  UNION
    SELECT used.is_table, used.oid, used.name, found.kind FROM found CROSS JOIN LATERAL (
        SELECT false, m.oid, m.name FROM marked AS m
        WHERE NOT m.is_closed AND strpos(m.source, lower(found.name)) > 0
            AND (found.name !~ '^[a-z_][a-z0-9_]*$' OR m.source ~ ('\m' || found.name || '\M'))
        UNION ALL
        SELECT true, c.oid, c.relname::text FROM pg_depend AS d
            LEFT JOIN pg_trigger AS t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
            LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
            LEFT JOIN pg_attrdef AS a ON d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid
            LEFT JOIN pg_constraint AS k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
            LEFT JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
            JOIN pg_class AS c ON c.oid = coalesce(t.tgrelid, r.ev_class, a.adrelid, k.conrelid, p.polrelid)
        WHERE d.refobjid = found.oid
            AND d.refclassid = CASE WHEN found.is_table THEN 'pg_class'::regclass ELSE 'pg_proc'::regclass END
            AND (NOT found.is_table OR r.oid IS NOT NULL)
        UNION ALL
        SELECT true, c.oid, c.relname::text FROM pg_class AS c WHERE found.is_table AND c.oid IN (
            SELECT inhparent FROM pg_inherits WHERE inhrelid = found.oid
            UNION ALL SELECT confrelid FROM pg_constraint WHERE conrelid = found.oid AND contype = 'f')
    ) AS used (is_table, oid, name)
)
(SELECT name, string_agg(DISTINCT kind, ',') FROM found GROUP BY name LIMIT 10001)
UNION ALL
SELECT command, 'ask' FROM unnest('{create,alter,drop,comment,grant,revoke,refresh,reindex,import,security}'::text[]) AS command
    WHERE EXISTS (SELECT FROM pg_event_trigger AS e JOIN found ON found.oid = e.evtfoid WHERE e.evtenabled <> 'D')
UNION ALL
(SELECT DISTINCT parameter, 'parameter' FROM customs ORDER BY parameter LIMIT @parameters@)"#;

/// What a catalogue says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// What the names mean that are known.
    pub known: HashMap<Box<[u8]>, Named>,
    /// There are more that may leave something than are kept.
    pub too_many: bool,
    /// There are more that are not the same on a standby than are kept.
    pub too_many_apart: bool,
    /// Custom parameters that functions set.
    pub parameters: Vec<Box<str>>,
}

impl Catalogue {
    /// Reads the bodies of the DataRow messages that answered [`question`] and [`places_question`]. `None` if they answer something else.
    #[must_use]
    pub fn read(hidden: &[Box<[u8]>], places: &[Box<[u8]>]) -> Option<Self> {
        let mut catalogue = Self::default();
        for row in hidden {
            let [name, kind] = two_columns(row)?;
            if kind == b"parameter" {
                catalogue.parameters.extend(std::str::from_utf8(name).ok().map(Box::from));
                continue;
            }
            let named = kind.split(|&byte| byte == b',').map(meaning).reduce(Named::and);
            catalogue.known.insert(name.into(), named?);
        }
        if catalogue.known.len() > MOST_NAMES {
            catalogue.too_many = true;
            catalogue.known.clear();
        }
        catalogue.read_places(places)?;
        Some(catalogue)
    }

    fn read_places(&mut self, rows: &[Box<[u8]>]) -> Option<()> {
        let mut count = 0;
        for row in rows {
            let [name, kind] = two_columns(row)?;
            let apart = kind == b"apart";
            count += usize::from(apart);
            let place = Named { reads: !apart, apart, ..Named::default() };
            let named = self.known.entry(name.into()).or_default();
            *named = named.and(place);
        }
        self.too_many_apart = count > places::MOST_NAMES;
        Some(())
    }

    /// As texts are looked at for them, under this number; and the custom parameters.
    #[must_use]
    pub fn into_names(self, number: u64) -> (Names, Vec<Box<str>>) {
        let Self { known, too_many, too_many_apart, parameters } = self;
        (Names { number, known, too_many, too_many_apart, is_read: true, ..Names::default() }, parameters)
    }
}

fn meaning(kind: &[u8]) -> Named {
    let none = Named::default();
    match kind {
        b"load" => Named { suspect: true, pin: Some(Pin::Load), ..none },
        b"unnamed" => Named {
            suspect: true,
            pin: Some(Pin::Parameter),
            sets_custom: SetsCustom::Hidden,
            alters: true,
            ..none
        },
        b"any" => Named { runs_any: true, ..none },
        b"keep" => Named { suspect: true, pin: Some(Pin::SessionFunction), ..none },
        b"custom" => Named { sets_custom: SetsCustom::Suspected, ..none },
        b"alter" => Named { alters: true, ..none },
        b"hidden" => Named { sets_custom: SetsCustom::Hidden, ..none },
        _ => Named { suspect: true, ..none },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::row_of_two as row;

    #[test]
    fn kinds_of_one_name_count_together() {
        let rows = [row("f", "ask"), row("g", "custom,load"), row("app.x", "parameter")];
        let places = [row("g", "reads"), row("v", "apart")];
        let Catalogue { known, too_many, parameters, .. } = Catalogue::read(&rows, &places).unwrap();
        let load = Named {
            suspect: true,
            pin: Some(Pin::Load),
            sets_custom: SetsCustom::Suspected,
            reads: true,
            ..Named::default()
        };
        assert_eq!(known.get(&b"g"[..]), Some(&load));
        assert!(
            known.len() == 3
                && known.get(&b"v"[..]).is_some_and(|named| named.apart && !named.reads)
                && known.get(&b"f"[..]).is_some_and(|named| named.suspect)
                && !too_many
        );
        assert_eq!(parameters, ["app.x".into()]);
        assert_eq!(Catalogue::read(&[b"\0\x01".as_slice().into()], &[]), None);
    }

    #[test]
    fn the_question_is_whole() {
        let question = question();
        assert!(question.contains("'dblink_connect|pg_backup_start|") && question.ends_with(" LIMIT 129)"));
        assert!(!question.contains('@'), "{question}");
    }

    #[test]
    fn of_too_many_names_none_is_kept() {
        let rows: Vec<_> = (0..=MOST_NAMES).map(|i| row(&format!("f{i}"), "ask")).collect();
        let catalogue = Catalogue::read(&rows, &[]).unwrap();
        assert!(catalogue.too_many && catalogue.known.is_empty());
    }
}
