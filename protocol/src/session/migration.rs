//! Command tags of what changes the schema.

/// How a statement changes the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It drops what others may have used.
    Drops,
    /// It may also add what others will use.
    Adds,
}

/// What the tags of statements say after which another one may have other columns than before, or call other functions.
pub(super) fn changes_schema(tag: &[u8]) -> Option<Change> {
    const OBJECTS: [&[u8]; 16] = [
        b"TABLE\0",
        b"VIEW\0",
        b"MATERIALIZED VIEW\0",
        b"FOREIGN TABLE\0",
        b"TYPE\0",
        b"DOMAIN\0",
        b"FUNCTION\0",
        b"PROCEDURE\0",
        b"ROUTINE\0",
        b"AGGREGATE\0",
        b"SCHEMA\0",
        b"EXTENSION\0",
        b"OWNED\0",
        b"TRIGGER\0",
        b"EVENT TRIGGER\0",
        b"RULE\0",
    ];
    const MADE: [&[u8]; 8] = [
        b"VIEW\0",
        b"FUNCTION\0",
        b"PROCEDURE\0",
        b"TRIGGER\0",
        b"EVENT TRIGGER\0",
        b"RULE\0",
        b"POLICY\0",
        b"EXTENSION\0",
    ];
    let is_one = |verb: &[u8], objects: &[&[u8]]| {
        tag.strip_prefix(verb).is_some_and(|object| objects.contains(&object))
    };
    if is_one(b"DROP ", &OBJECTS) {
        Some(Change::Drops)
    } else {
        (is_one(b"ALTER ", &OBJECTS) || is_one(b"CREATE ", &MADE)).then_some(Change::Adds)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, changes_schema};

    #[test]
    fn what_changes_columns_is_told_by_its_tag() {
        for tag in [
            "ALTER TABLE\0",
            "DROP TABLE\0",
            "DROP SCHEMA\0",
            "CREATE VIEW\0",
            "CREATE TRIGGER\0",
            "ALTER MATERIALIZED VIEW\0",
        ] {
            let drops = tag.starts_with("DROP");
            let change = if drops { Change::Drops } else { Change::Adds };
            assert_eq!(changes_schema(tag.as_bytes()), Some(change), "{tag}");
        }
        for tag in [
            "SELECT 1\0",
            "ALTER ROLE\0",
            "ALTER TABLESPACE\0",
            "DROP INDEX\0",
            "CREATE TABLE\0",
            "DELETE 3\0",
            "",
        ] {
            assert_eq!(changes_schema(tag.as_bytes()), None, "{tag}");
        }
    }
}
