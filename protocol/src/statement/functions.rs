//! What may stand before a parenthesis where a statement only reads.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::lexer::Word;

/// Longer than every name of the list.
const LONGEST: usize = 40;

static KNOWN: LazyLock<HashSet<&'static [u8]>> =
    LazyLock::new(|| known_functions().map(str::as_bytes).collect());

/// PostgreSQL's own functions that any server may be asked for, and syntax that looks like them.
pub fn known_functions() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("functions.txt").lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_ascii_whitespace)
}

/// True for a word before a parenthesis that is none of a function with an effect, nor of one that means something else on a
/// standby. `in_catalog` if a dot before it stands behind `pg_catalog`.
pub(super) fn only_reads(word: Word<'_>, in_catalog: bool) -> bool {
    if word.is_quoted() || (word.qualified && !in_catalog) {
        return false;
    }
    let mut lower = [0; LONGEST];
    let Some(lower) = lower.get_mut(..word.len()) else { return false };
    lower.copy_from_slice(word.text());
    lower.make_ascii_lowercase();
    KNOWN.contains(&*lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_of_plain_names_that_stand_there_once() {
        let mut seen = HashSet::new();
        for name in known_functions() {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(name.len() < LONGEST && name.bytes().all(is_plain) && seen.insert(name), "{name}");
        }
        assert!(seen.len() > 500);
    }

    #[test]
    fn what_means_something_else_on_a_standby_is_not_there() {
        for name in [
            "currval",
            "current_setting",
            "dblink",
            "inet_server_addr",
            "lastval",
            "lo_get",
            "nextval",
            "pg_advisory_xact_lock",
            "pg_backend_pid",
            "pg_current_snapshot",
            "pg_current_wal_lsn",
            "pg_is_in_recovery",
            "pg_last_wal_replay_lsn",
            "pg_notify",
            "pg_postmaster_start_time",
            "pg_sequence_last_value",
            "pg_stat_get_numscans",
            "query_to_xml",
            "set_config",
            "setseed",
            "setval",
            "txid_current",
        ] {
            assert!(known_functions().all(|known| known != name), "{name}");
        }
    }
}
