//! Which role a name stood for at its last login, and what its sessions began with.

use std::collections::HashMap;

use parking_lot::Mutex;

/// A role, and what it has its sessions begin with. Server connections that were opened under another are not what PostgreSQL
/// would give to a new session: theirs is a role that was dropped, or has the settings of before an ALTER ROLE or ALTER DATABASE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its OID in `pg_authid`.
    pub(crate) oid: u32,
    /// A hash of what `pg_db_role_setting` has for it, in any database, and for everybody; none if there is nothing.
    pub(crate) settings: Option<i64>,
}

/// The last identity of each name. As many entries as there are roles.
#[derive(Debug, Default)]
pub(crate) struct Identities(Mutex<HashMap<Box<str>, Identity>>);

impl Identities {
    /// Notes who logs in under this name. True if it was somebody else at the login before.
    pub(crate) fn note(&self, user: &str, identity: Identity) -> bool {
        let mut known = self.0.lock();
        match known.get_mut(user) {
            Some(before) => std::mem::replace(before, identity) != identity,
            None => {
                known.insert(user.into(), identity);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_for_another_role_or_other_settings_is_told_once() {
        let known = Identities::default();
        let first = Identity { oid: 1, settings: None };
        assert!(!known.note("a", first) && !known.note("a", first));
        assert!(!known.note("b", Identity { oid: 2, settings: None }));
        let set = Identity { settings: Some(7), ..first };
        assert!(known.note("a", set) && !known.note("a", set));
        assert!(known.note("a", Identity { oid: 3, settings: Some(7) }));
    }
}
