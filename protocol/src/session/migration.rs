//! Command tags of what changes the schema.

/// True for the tags of statements after which another one may have other columns than before, or call other functions.
pub(super) fn changes_schema(tag: &[u8]) -> bool {
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
    match tag.strip_prefix(b"ALTER ").or_else(|| tag.strip_prefix(b"DROP ")) {
        Some(object) => OBJECTS.contains(&object),
        None => tag.strip_prefix(b"CREATE ").is_some_and(|object| MADE.contains(&object)),
    }
}

#[cfg(test)]
mod tests {
    use super::changes_schema;

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
            assert!(changes_schema(tag.as_bytes()), "{tag}");
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
            assert!(!changes_schema(tag.as_bytes()), "{tag}");
        }
    }
}
