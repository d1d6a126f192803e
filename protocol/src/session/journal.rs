//! What a transaction block on a standby has said of itself: its savepoints, what it has set for itself alone, and its cursors. By that it is
//! begun anew on the primary as what it is.

use std::collections::VecDeque;

use crate::statement::{Modes, Step};

/// A block that says more of itself is for the primary.
const MOST: usize = 256;
/// A longer text is not kept.
const LONGEST: usize = 1024;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    /// What is in force, in the order in which it was said.
    entries: Vec<Entry>,
    /// What is sent of the present batch, and not answered.
    sent: VecDeque<Remark>,
}

/// Something in force in the block.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Savepoint(Box<[u8]>),
    /// The text that has set it.
    Setting(Box<str>),
    Cursor(Box<[u8]>),
}

/// A statement that changes that, as it is when it is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remark {
    Marks(Box<[u8]>),
    Releases(Box<[u8]>),
    GoesBack(Box<[u8]>),
    Sets(Box<str>, Modes),
    Declares(Box<[u8]>),
    Closes(Option<Box<[u8]>>),
    Chains,
}

/// What has become of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It goes on.
    GoesOn,
    /// This holds for it from now on.
    HasModes(Modes),
    /// Another one is open, which has seen nothing.
    Chained,
}

/// What becomes of a statement that may be a remark.
pub(super) enum Noted {
    /// It is one.
    Remark(Remark),
    /// It changes nothing of what is kept.
    Nothing,
    /// It is one, and cannot be kept.
    TooMuch,
}

impl Noted {
    /// What is to be kept of a step that has this text.
    pub(super) fn of(step: Step<'_>, text: &[u8]) -> Self {
        let remark = match step {
            Step::Shows | Step::Fetches | Step::Explains(_) => return Self::Nothing,
            Step::Marks(name) => Remark::Marks(name.into()),
            Step::Releases(name) => Remark::Releases(name.into()),
            Step::GoesBack(name) => Remark::GoesBack(name.into()),
            Step::Declares(name, _) => Remark::Declares(name.into()),
            Step::Closes(name) => Remark::Closes(name.map(Into::into)),
            Step::Chains => Remark::Chains,
            Step::Sets(modes) => match std::str::from_utf8(text) {
                Ok(text) if text.len() <= LONGEST => Remark::Sets(text.into(), modes),
                _ => return Self::TooMuch,
            },
        };
        // Of a name in another encoding it cannot be said anew what it is.
        let is_kept = match &remark {
            Remark::Marks(name) => std::str::from_utf8(name).is_ok(),
            _ => true,
        };
        if is_kept { Self::Remark(remark) } else { Self::TooMuch }
    }
}

impl Remark {
    /// True if no standby refuses it, and it gives no rows.
    pub(super) const fn is_quiet(&self) -> bool {
        matches!(self, Self::Marks(_) | Self::Releases(_) | Self::GoesBack(_) | Self::Sets(..))
    }

    /// True for the command tag of the server that has carried it out.
    fn has_tag(&self, tag: &[u8]) -> bool {
        match self {
            Self::Marks(_) => tag == b"SAVEPOINT\0",
            Self::Releases(_) => tag == b"RELEASE\0",
            Self::GoesBack(_) => tag == b"ROLLBACK\0",
            Self::Sets(..) => tag == b"SET\0",
            Self::Declares(_) => tag == b"DECLARE CURSOR\0",
            Self::Closes(Some(_)) => tag == b"CLOSE CURSOR\0",
            Self::Closes(None) => tag == b"CLOSE CURSOR ALL\0",
            // Where the block has failed, COMMIT rolls it back.
            Self::Chains => matches!(tag, b"COMMIT\0" | b"ROLLBACK\0"),
        }
    }
}

impl Journal {
    /// True if there is room for so many more.
    pub(super) const fn has_room_for(&self, more: usize) -> bool {
        self.entries.len() + more <= MOST
    }

    /// These are sent next, with nothing unanswered before them.
    pub(super) fn send(&mut self, remarks: Vec<Remark>) {
        self.sent = remarks.into();
    }

    /// The server has carried out what has this tag.
    pub(super) fn on_complete(&mut self, tag: &[u8]) -> Turn {
        if !self.sent.front().is_some_and(|remark| remark.has_tag(tag)) {
            return Turn::GoesOn;
        }
        let Some(remark) = self.sent.pop_front() else { return Turn::GoesOn };
        match remark {
            Remark::Marks(name) => self.entries.push(Entry::Savepoint(name)),
            Remark::Declares(name) => self.entries.push(Entry::Cursor(name)),
            Remark::Sets(text, modes) => {
                self.entries.push(Entry::Setting(text));
                return Turn::HasModes(modes);
            }
            Remark::Chains => {
                self.entries.clear();
                return Turn::Chained;
            }
            Remark::GoesBack(name) => {
                // The savepoint itself stays.
                if let Some(at) = self.find(&name) {
                    self.entries.truncate(at + 1);
                }
            }
            Remark::Releases(name) => {
                if let Some(at) = self.find(&name) {
                    let behind = self.entries.split_off(at);
                    let stays = |entry: &Entry| !matches!(entry, Entry::Savepoint(_));
                    self.entries.extend(behind.into_iter().filter(stays));
                }
            }
            Remark::Closes(name) => self.entries.retain(|entry| match entry {
                Entry::Cursor(cursor) => name.as_ref().is_some_and(|name| name != cursor),
                Entry::Savepoint(_) | Entry::Setting(_) => true,
            }),
        }
        Turn::GoesOn
    }

    /// Where the last savepoint of this name is.
    fn find(&self, name: &[u8]) -> Option<usize> {
        self.entries.iter().rposition(|entry| matches!(entry, Entry::Savepoint(its) if **its == *name))
    }

    pub(super) fn has_savepoints(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Savepoint(_)))
    }

    pub(super) fn has_cursors(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Cursor(_)))
    }

    pub(super) fn has_settings(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Setting(_)))
    }

    /// Appends the statements that say all of it anew, each with what parts it from the one before. Cursors cannot be had again.
    pub(super) fn write(&self, sql: &mut String) {
        for entry in &self.entries {
            match entry {
                Entry::Savepoint(name) => {
                    sql.push_str("\n; SAVEPOINT \"");
                    sql.push_str(&String::from_utf8_lossy(name).replace('"', "\"\""));
                    sql.push('"');
                }
                Entry::Setting(text) => {
                    // The text may end in a comment.
                    sql.push_str("\n; ");
                    sql.push_str(text);
                }
                Entry::Cursor(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After these statements, of which the server has carried out all.
    fn after(texts: &[&str]) -> Journal {
        let mut journal = Journal::default();
        for text in texts {
            let step = Step::of(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            let Noted::Remark(remark) = Noted::of(step, text.as_bytes()) else { panic!("{text}") };
            let mut tags = ["SAVEPOINT", "RELEASE", "ROLLBACK", "SET", "DECLARE CURSOR", "CLOSE CURSOR"]
                .into_iter()
                .chain(["CLOSE CURSOR ALL", "COMMIT"])
                .map(|tag| format!("{tag}\0"));
            let tag = tags.find(|tag| remark.has_tag(tag.as_bytes())).unwrap();
            journal.send(vec![remark]);
            journal.on_complete(tag.as_bytes());
        }
        journal
    }

    fn said(texts: &[&str]) -> String {
        let mut sql = String::new();
        after(texts).write(&mut sql);
        sql.split("\n; ").skip(1).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn what_a_block_goes_back_on_is_not_said_anew() {
        for (texts, sql) in [
            (
                &["savepoint a", "savepoint B", "savepoint \"x\"\"y\""][..],
                "SAVEPOINT \"a\" | SAVEPOINT \"b\" | SAVEPOINT \"x\"\"y\"",
            ),
            (&["savepoint a", "set local x = 1", "savepoint b", "rollback to a"], "SAVEPOINT \"a\""),
            (&["savepoint a", "set local x = 1", "savepoint b", "release a"], "set local x = 1"),
            (&["savepoint a", "set local x = 1", "commit and chain"], ""),
            (&["savepoint a", "savepoint a", "release a"], "SAVEPOINT \"a\""),
            (&["savepoint a", "savepoint a", "rollback to a", "release a"], "SAVEPOINT \"a\""),
            (
                &["set local x = 1", "savepoint a", "set local x = 2 -- so"],
                "set local x = 1 | SAVEPOINT \"a\" | set local x = 2 -- so",
            ),
        ] {
            assert_eq!(said(texts), sql, "{texts:?}");
        }
    }

    #[test]
    fn a_cursor_is_there_until_it_is_closed_or_its_savepoint_is_gone_back_to() {
        let c = "declare c cursor for select 1";
        for (texts, is_there) in [
            (&[c][..], true),
            (&[c, "close c"], false),
            (&[c, "close all"], false),
            (&[c, "close d"], true),
            (&["savepoint a", c, "rollback to a"], false),
            (&["savepoint a", c, "release a"], true),
            (&[c, "savepoint a", "rollback to a"], true),
            (&[c, "savepoint a", "close c", "rollback to a"], false),
        ] {
            assert_eq!(after(texts).has_cursors(), is_there, "{texts:?}");
        }
    }

    #[test]
    fn what_the_server_has_not_carried_out_is_not_there() {
        let mut journal = Journal::default();
        journal.send(vec![Remark::Marks(b"a"[..].into()), Remark::Marks(b"b"[..].into())]);
        journal.on_complete(b"SELECT 1\0");
        assert!(!journal.has_savepoints());
        journal.on_complete(b"SAVEPOINT\0");
        journal.send(Vec::new());
        journal.on_complete(b"SAVEPOINT\0");
        let mut sql = String::new();
        journal.write(&mut sql);
        assert_eq!(sql, "\n; SAVEPOINT \"a\"");
    }
}
