//! The connection string of a standby that is frozen.
//!
//! It leads nowhere, and carries the one that it replaced. So the freeze is one atomic change of one setting, whoever
//! finds it after a crash of pgherd can undo it, and a password in it stays where only superusers can read it.

/// No directory of sockets: libpq gives up at once, without a packet.
const NOWHERE: &str = pgherd_health::FROZEN_CONNINFO;

/// What `primary_conninfo` was before a freeze, and where it was set.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Original {
    pub(super) conninfo: String,
    /// It was set by ALTER SYSTEM, as repmgr does it, and not in a file that an operator edits.
    pub(super) by_alter_system: bool,
}

impl Original {
    /// The connection string of the frozen standby.
    pub(super) fn freeze(&self) -> String {
        let origin = if self.by_alter_system { "alter-system" } else { "file" };
        let escaped = self.conninfo.replace('\\', r"\\").replace('\'', r"\'");
        format!("{NOWHERE} application_name={origin} passfile='{escaped}'")
    }

    /// Reads back what [`Original::freeze`] wrote; none if `conninfo` is not of its making.
    pub(super) fn of_frozen(conninfo: &str) -> Option<Self> {
        let rest = conninfo.strip_prefix(NOWHERE)?.strip_prefix(" application_name=")?;
        let (origin, rest) = rest.split_once(' ')?;
        let escaped = rest.strip_prefix("passfile='")?.strip_suffix('\'')?;
        let mut conninfo = String::with_capacity(escaped.len());
        let mut characters = escaped.chars();
        while let Some(character) = characters.next() {
            conninfo.push(if character == '\\' { characters.next()? } else { character });
        }
        Some(Self { conninfo, by_alter_system: origin == "alter-system" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_freeze_replaced_can_be_put_back() {
        for conninfo in
            ["", "host=pg01 password='it\\'s \\\\'", "postgresql://repmgr@pg01/repmgr?x='y'", "'\\"]
        {
            let original = Original { conninfo: conninfo.to_owned(), by_alter_system: conninfo.is_empty() };
            assert!(Original::of_frozen(&original.freeze()) == Some(original), "{conninfo}");
        }
    }

    #[test]
    fn a_standby_that_is_not_frozen_is_seen_as_such() {
        for conninfo in [
            "",
            "host=pg01",
            "host=/pgherd-frozen",
            "host=/pgherd-frozen application_name=file passfile='a\\'",
        ] {
            assert!(Original::of_frozen(conninfo).is_none(), "{conninfo}");
        }
    }
}
