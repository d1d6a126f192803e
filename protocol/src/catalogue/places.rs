//! What a catalogue tells of where texts may run that use what it has.
//!
//! A function only reads if it is IMMUTABLE or STABLE, whatever overload of its name is called, and if its source has no name of what is
//! not the same on a standby. What is not the same, or writes where it is read ("apart"): sequences; unlogged tables; views and
//! row security policies that call functions which are VOLATILE or differ, or that use something apart; tables that inherit to
//! such; types whose casts or checks call such a function; and functions that are VOLATILE where a text does not show that they are called, because
//! PostgreSQL has one of that name, or it is a keyword, or the call may look like a column.

use crate::statement::{known_functions, same_everywhere};

/// More names are not kept of either kind.
pub(super) const MOST_NAMES: usize = 20_000;

/// Gives a row for each name: the name, and `reads` or `apart`.
#[must_use]
pub fn places_question() -> String {
    let functions: Vec<_> = known_functions().collect();
    let relations: Vec<_> = same_everywhere().collect();
    let ours: Vec<_> = functions
        .iter()
        .filter_map(|name| name.strip_prefix("pg_"))
        .chain(relations.iter().copied())
        .collect();
    QUESTION
        .replace("@functions@", &functions.join(","))
        .replace("@relations@", &relations.join(","))
        .replace("@ours@", &ours.join("|"))
        .replace("@most@", &(MOST_NAMES + 1).to_string())
}

const QUESTION: &str = r#"WITH RECURSIVE own AS MATERIALIZED (
    SELECT p.oid, p.proname::text AS name, p.prokind, p.prorettype, p.pronargs - p.pronargdefaults AS needs,
        p.proargtypes[0] AS argument, p.provolatile = 'v' OR EXISTS (
            SELECT FROM pg_aggregate AS a JOIN pg_proc AS step ON step.oid IN (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggmfinalfn)
            WHERE a.aggfnoid = p.oid AND step.provolatile = 'v'
        ) OR l.lanname <> 'c' AND l.lanname <> 'internal' AND lower(
            CASE WHEN p.prosrc = '' AND p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) ELSE p.prosrc END
        ) ~ '\m(pg_(?!(catalog|@ours@)\M)|(txid_|lo_|inet_client_|inet_server_|dblink|query_to_xml)|(currval|lastval|nextval|setval|set_config|loread)\M)'
        AS acts
    FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
    WHERE p.oid >= 16384 AND NOT pg_is_other_temp_schema(p.pronamespace)
), views AS MATERIALIZED (
    SELECT r.oid, r.ev_class, r.ev_action FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class
    WHERE c.relkind = 'v' AND r.ev_type = '1'
), trees AS MATERIALIZED (
    SELECT ev_class AS relation, ev_action::text AS tree FROM views WHERE oid >= 16384
    UNION ALL SELECT polrelid, concat(polqual, polwithcheck) FROM pg_policy
), apart (oid) AS (
    SELECT oid FROM pg_class WHERE relkind = 'S' OR relpersistence = 'u' AND relkind IN ('r', 'p', 'm')
        OR relkind = 'v' AND oid < 16384 AND relname ~ '^pg_' AND substr(relname, 4) <> ALL ('{@relations@}')
  UNION
    SELECT relation FROM trees WHERE tree ~ (SELECT ':(funcid|opfuncid|aggfnoid|winfnoid) (' || string_agg(oid::text, '|') || ')\M'
        FROM pg_proc WHERE oid < 16384 AND proname <> ALL ('{@functions@}')
            AND (provolatile = 'v' OR proname ~ '^(pg_(?!lsn_)|txid_|inet_client_|inet_server_)'))
  UNION
    SELECT coalesce(r.ev_class, p.polrelid) FROM own JOIN pg_depend AS d
            ON own.acts AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = own.oid
        LEFT JOIN views AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        LEFT JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
    WHERE coalesce(r.ev_class, p.polrelid) IS NOT NULL
  UNION
    SELECT used.oid FROM apart CROSS JOIN LATERAL (
        SELECT coalesce(r.ev_class, p.polrelid) FROM pg_depend AS d
            LEFT JOIN views AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
            LEFT JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = apart.oid
        UNION ALL SELECT inhparent FROM pg_inherits WHERE inhrelid = apart.oid
    ) AS used (oid) WHERE used.oid IS NOT NULL
)
(SELECT name, 'reads' FROM own WHERE prokind <> 'p' AND name NOT IN (SELECT proname FROM pg_proc WHERE oid < 16384)
    GROUP BY name HAVING NOT bool_or(acts) LIMIT @most@)
UNION ALL
(SELECT c.relname::text, 'apart' FROM apart JOIN pg_class AS c ON c.oid = apart.oid
    WHERE c.oid >= 16384 AND NOT pg_is_other_temp_schema(c.relnamespace)
 UNION
 SELECT name, 'apart' FROM own WHERE acts AND prokind <> 'p' AND prorettype <> 'trigger'::regtype
    AND (name IN (SELECT proname FROM pg_proc WHERE oid < 16384)
        OR name IN (SELECT word FROM pg_get_keywords() WHERE catcode IN ('U', 'T'))
        OR needs <= 1 AND (SELECT typtype FROM pg_type WHERE oid = argument) IN ('c', 'p'))
 UNION
 SELECT t.typname::text, 'apart' FROM own JOIN pg_cast AS c ON own.acts AND c.castfunc = own.oid
    JOIN pg_type AS t ON t.oid IN (c.casttarget, c.castsource)
 UNION
 SELECT t.typname::text, 'apart' FROM own JOIN pg_depend AS d
        ON own.acts AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = own.oid AND d.classid = 'pg_constraint'::regclass
    JOIN pg_constraint AS k ON k.oid = d.objid JOIN pg_type AS t ON t.oid = k.contypid
 LIMIT @most@)"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_whole() {
        let question = places_question();
        assert!(
            question.contains(",lower,")
                && question.contains("|typeof")
                && question.ends_with(" LIMIT 20001)")
        );
        assert!(!question.contains('@'), "{question}");
    }
}
