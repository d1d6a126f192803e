//! Names that mean something wherever they stand.

use super::Pin;

/// How the names begin of what belongs to a session; see [`Word::may_be_of_a_session`].
const SESSION_NAMES: &[(&str, Pin)] = &[
    ("pg_temp", Pin::Temporary),
    ("pg_advisory_lock", Pin::AdvisoryLock),
    ("pg_try_advisory_lock", Pin::AdvisoryLock),
    ("dblink_connect", Pin::SessionFunction),
    ("pg_backup_start", Pin::SessionFunction),
    ("pg_start_backup", Pin::SessionFunction),
    ("pg_create_physical_replication_slot", Pin::SessionFunction),
    ("pg_create_logical_replication_slot", Pin::SessionFunction),
    ("pg_copy_physical_replication_slot", Pin::SessionFunction),
    ("pg_copy_logical_replication_slot", Pin::SessionFunction),
    ("pg_replication_origin_session_setup", Pin::SessionFunction),
];

/// Why a session keeps its server connection that uses this name.
pub(super) fn session_pin(name: &[u8]) -> Option<Pin> {
    let begins = |start: &str| {
        name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes()))
    };
    SESSION_NAMES.iter().find(|(start, _)| begins(start)).map(|(_, pin)| *pin)
}

/// How the names begin of functions that leave in a session what the server does not tell of. Not all are in every version.
pub fn untold_functions() -> impl Iterator<Item = &'static str> {
    SESSION_NAMES.iter().filter(|(_, pin)| *pin == Pin::SessionFunction).map(|(start, _)| *start)
}

/// True for the names of the view of a session's prepared statements, and of the function behind it.
pub(super) fn lists_statements(name: &[u8]) -> bool {
    [b"pg_prepared_statements".as_slice(), b"pg_prepared_statement"]
        .iter()
        .any(|view| name.eq_ignore_ascii_case(view))
}

/// True if the word EXECUTE stands somewhere in a literal.
pub(super) fn has_execute(text: &[u8]) -> bool {
    const WORD: &[u8] = b"execute";
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    // The letter that few words have.
    memchr::memchr2_iter(b'x', b'X', text).any(|x| {
        let Some(start) = x.checked_sub(1) else { return false };
        let end = start + WORD.len();
        text.get(start..end).is_some_and(|word| word.eq_ignore_ascii_case(WORD))
            && !is_part(start.checked_sub(1).and_then(|before| text.get(before)))
            && !is_part(text.get(end))
    })
}

/// True for the names of what gives a session-level lock back.
pub(super) fn undoes(name: &[u8]) -> bool {
    const START: &[u8] = b"pg_advisory_unlock";
    name.get(..START.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(START))
}
