//! Which role a name stood for at its last login, and what its sessions began with.

use std::collections::HashMap;
use std::time::Instant;

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

/// What a login tells of its name that was not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    Nothing,
    /// The role has other settings than at the login before.
    Settings,
    /// Another role had this name at the login before.
    Role,
    /// Another role has this name by now.
    Outdated,
}

/// The last identity of each name, and as of when it was that. As many entries as there are roles.
#[derive(Debug, Default)]
pub(crate) struct Identities(Mutex<HashMap<Box<str>, (Identity, Instant)>>);

impl Identities {
    /// Notes who logs in under this name, as the servers said at this time. What they have said later counts.
    pub(crate) fn note(&self, user: &str, identity: Identity, as_of: Instant) -> Change {
        let mut all = self.0.lock();
        let Some(known) = all.get_mut(user) else {
            all.insert(user.into(), (identity, as_of));
            return Change::Nothing;
        };
        let (before, before_as_of) = *known;
        if as_of < before_as_of {
            return if before.oid == identity.oid { Change::Nothing } else { Change::Outdated };
        }
        *known = (identity, as_of);
        if before.oid != identity.oid {
            Change::Role
        } else if before == identity {
            Change::Nothing
        } else {
            Change::Settings
        }
    }

    /// True if this role still has the name.
    pub(crate) fn stands(&self, user: &str, identity: Identity) -> bool {
        self.0.lock().get(user).is_none_or(|(known, _)| known.oid == identity.oid)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_that_stands_for_another_role_or_other_settings_is_told_once() {
        let (known, start) = (Identities::default(), Instant::now());
        let mut seconds = 0;
        let mut note = |user: &str, identity| {
            seconds += 1;
            known.note(user, identity, start + Duration::from_secs(seconds))
        };
        let first = Identity { oid: 1, settings: None };
        let set = Identity { settings: Some(7), ..first };
        let other = Identity { oid: 3, settings: Some(7) };
        assert_eq!([note("a", first), note("a", first)], [Change::Nothing; 2]);
        assert_eq!(note("b", Identity { oid: 2, settings: None }), Change::Nothing);
        assert_eq!([note("a", set), note("a", set)], [Change::Settings, Change::Nothing]);
        assert_eq!([note("a", other), note("a", other)], [Change::Role, Change::Nothing]);
        assert!(known.stands("a", other) && !known.stands("a", set) && known.stands("c", set));
        // A login that took longer.
        assert_eq!(known.note("a", set, start), Change::Outdated);
        assert_eq!(known.note("a", Identity { settings: None, ..other }, start), Change::Nothing);
        assert_eq!(known.note("a", other, start + Duration::from_secs(60)), Change::Nothing);
    }
}
