//! What is asked of a database's catalogue.
//!
//! A function is suspect if its source, in whatever language but C, has one of these: the words TEMP, TEMPORARY, `pg_temp`, LISTEN,
//! PREPARE, HOLD, or EXECUTE (which may run any text); SET where a statement may begin, but for SET LOCAL, TRANSACTION and
//! CONSTRAINTS; `set_config` without `true` for its last argument; a function for session-level advisory locks; what
//! loads a library or opens a connection to another server. Words count wherever they stand, in literals and comments too.
//!
//! What uses something suspect is suspect: a function whose source has its name; a table by its triggers, rules, defaults,
//! constraints and policies; a view of it; the table that it is a partition of; one whose foreign keys lead to it.

use std::collections::HashMap;

use pgherd_protocol::rows::two_columns;
use pgherd_protocol::statement::Pin;

/// More names are not kept: every text may have one then.
const MOST_NAMES: usize = 10_000;
/// So many rows may answer.
pub(super) const MOST_ROWS: usize = MOST_NAMES + 256;

/// What the questions are asked in. Its names mean what they mean to PostgreSQL itself, whatever there is in other schemas.
pub(super) const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'; \
    SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL standard_conforming_strings = on";

/// Changes when a function, a trigger, a rule or what hangs on tables does.
pub(super) const FINGERPRINT: &str = "SELECT count(*)::text, coalesce(sum(seen.x::bigint), 0)::text FROM (\
    SELECT xmin::text FROM pg_proc WHERE oid >= 16384 UNION ALL SELECT xmin::text FROM pg_trigger \
    UNION ALL SELECT xmin::text FROM pg_rewrite WHERE oid >= 16384 UNION ALL SELECT xmin::text FROM pg_attrdef \
    UNION ALL SELECT xmin::text FROM pg_policy UNION ALL SELECT xmin::text FROM pg_event_trigger \
    UNION ALL SELECT xmin::text FROM pg_inherits \
    UNION ALL SELECT xmin::text FROM pg_constraint WHERE oid >= 16384) AS seen (x)";

/// Gives a row for each name: the name, and `load` or `keep` where no server tells later what was left, `custom` where it is a
/// custom parameter's, else nothing.
pub(super) const QUESTION: &str = r#"WITH RECURSIVE sources AS MATERIALIZED (
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
            WHEN source ~ 'dblink_connect|pg_(backup_start|start_backup)|_replication_slot|pg_replication_origin_session_setup'
                THEN 'keep'
        END AS pin,
        NOT is_closed AND (
            source ~ '\m(temp|temporary|pg_temp|listen|prepare|hold|spi_exec\w*|spi_query|spi_prepare)\M|pg_(try_)?advisory_lock'
            OR source ~ '\mexecute\M(?!\s+(function|procedure|on)\M)'
            OR regexp_replace(source, 'set_config\s*\([^()]*,\s*true\s*\)', ' ', 'g') ~ 'set_config'
            OR source ~ begins_set OR regexp_replace(source, '--[^\n]*|/\*.*?\*/', ' ', 'g') ~ begins_set
        ) AS is_suspect
    FROM sources CROSS JOIN (VALUES
        ('(^|[;''$"]|\m(begin|then|else|loop|atomic)\M)\s*set\s+(?!(local|transaction|constraints)\M)')) AS set (begins_set)
), found (is_table, oid, name, pin) AS (
    SELECT false, oid, name, pin FROM marked WHERE is_suspect OR pin IS NOT NULL
  UNION
    -- A rule or a default that calls one of PostgreSQL's own.
    SELECT true, c.oid, c.relname::text, NULL::text
    FROM (SELECT ev_class, ev_action::text FROM pg_rewrite WHERE oid >= 16384
        UNION ALL SELECT adrelid, adbin::text FROM pg_attrdef
        UNION ALL SELECT polrelid, concat(polqual, polwithcheck) FROM pg_policy) AS tree (relation, text)
    JOIN pg_class AS c ON c.oid = tree.relation
    WHERE tree.text ~ (SELECT ':funcid (' || string_agg(oid::text, '|') || ')\M' FROM pg_proc
        WHERE oid < 16384 AND proname ~ '^(pg_(try_)?advisory_lock(_shared)?|set_config)$')
  UNION
    SELECT used.is_table, used.oid, used.name, found.pin FROM found CROSS JOIN LATERAL (
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
(SELECT name, coalesce(max(pin), '') FROM found GROUP BY name LIMIT 10001)
UNION ALL
SELECT command, '' FROM unnest('{create,alter,drop,comment,grant,revoke,refresh,reindex,import,security}'::text[]) AS command
    WHERE EXISTS (SELECT FROM pg_event_trigger AS e JOIN found ON found.oid = e.evtfoid WHERE e.evtenabled <> 'D')
UNION ALL
(SELECT DISTINCT lower(parameter), 'custom' FROM (
    SELECT (regexp_matches(source, '''([a-z_][a-z0-9_$]*(?:\.[a-z0-9_$]+)+)''', 'g'))[1] FROM marked
        WHERE NOT is_closed AND source ~ 'set_config|\mset\M'
    UNION ALL
    SELECT (regexp_matches(source, '\mset\s+(?:local\s+|session\s+)?([a-z_][a-z0-9_$]*(?:\.[a-z0-9_$]+)+)\s*(?:=|to\M)', 'g'))[1]
        FROM marked WHERE NOT is_closed
    UNION ALL
    SELECT split_part(setting, '=', 1) FROM marked, unnest(proconfig) AS setting WHERE setting ~ '^[^=]*\.'
) AS set (parameter) LIMIT 64)"#;

/// What a catalogue says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    pub(super) known: HashMap<Box<[u8]>, Option<Pin>>,
    pub(super) too_many: bool,
    pub(super) parameters: Vec<Box<str>>,
}

impl Catalogue {
    /// Reads the bodies of the DataRow messages that answered [`QUESTION`]. `None` if they answer something else.
    pub(super) fn read(rows: &[Box<[u8]>]) -> Option<Self> {
        let mut catalogue = Self::default();
        for row in rows {
            let [name, kind] = two_columns(row)?;
            let pin = match kind {
                b"custom" => {
                    // A name in another encoding is none that a text can be asked for.
                    catalogue.parameters.extend(std::str::from_utf8(name).ok().map(Box::from));
                    continue;
                }
                b"load" => Some(Pin::Load),
                b"keep" => Some(Pin::SessionFunction),
                _ => None,
            };
            catalogue.known.insert(name.into(), pin);
        }
        if catalogue.known.len() > MOST_NAMES {
            catalogue.too_many = true;
            catalogue.known.clear();
        }
        Some(catalogue)
    }
}
