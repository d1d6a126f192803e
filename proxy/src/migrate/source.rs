//! What a peer's configuration says, setting by setting, before anybody asks what it means here.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::cli::plain;

/// All files together; a configuration is a tenth of it at most.
const MOST_BYTES: usize = 1024 * 1024;
/// How deep files may include each other; PgBouncer's bound, and pgpool's.
const DEEPEST: usize = 10;
/// How much of a value is shown.
const MOST_SHOWN: usize = 60;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The file.
    pub(super) file: Arc<Path>,
    /// From 1.
    pub(super) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Why nothing can be made of the files. Holds no value of theirs.
#[derive(Debug)]
pub(super) struct Fault {
    /// Where.
    pub(super) at: String,
    /// What is wrong, and what to do.
    pub(super) message: String,
    /// It is of one line.
    is_of_line: bool,
}

impl Fault {
    /// At a place.
    pub(super) fn new(at: &Place, message: impl Into<String>) -> Self {
        Self { at: at.to_string(), message: message.into(), is_of_line: true }
    }

    /// Of a whole file.
    pub(super) fn of(file: &Path, message: impl Into<String>) -> Self {
        Self { at: file.display().to_string(), message: message.into(), is_of_line: false }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// One setting. Any value may be a password.
#[derive(Clone)]
pub(super) struct Setting {
    /// Its section, where there are some.
    pub(super) section: &'static str,
    /// Its name, in the case that the peer has it in.
    pub(super) name: String,
    /// What stands there, without quotes.
    pub(super) value: Zeroizing<String>,
    /// Where.
    pub(super) place: Place,
}

impl Setting {
    /// Its name and, if that is short and no secret, its value: for a comment. A terminal finds nothing to obey in it.
    pub(super) fn shown(&self) -> String {
        let name = plain(&self.name);
        let lower = self.name.to_ascii_lowercase();
        let hides = ["password", "authkey", "command", "_cmd", "query_pattern", "ldap"];
        let is_secret = lower.ends_with("query") || hides.iter().any(|word| lower.contains(word));
        let is_connection = !matches!(self.section, "" | "pgbouncer");
        if is_secret || is_connection || self.value.len() > MOST_SHOWN {
            name.into_owned()
        } else {
            format!("{name} = {}", plain(&self.value))
        }
    }
}

/// Reads files, and not too much of them.
#[derive(Default)]
pub(super) struct Files {
    read: usize,
    nested: usize,
}

impl Files {
    /// The text of a file. What is no UTF-8 in it is replaced: it may stand in a comment.
    pub(super) fn read(&mut self, path: &Path) -> Result<Zeroizing<String>, Fault> {
        let fault = |message: String| Fault::of(path, message);
        let left = MOST_BYTES - self.read;
        let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
        File::open(path)
            .and_then(|file| file.take(left as u64 + 1).read_to_end(&mut bytes))
            .map_err(|error| fault(format!("can't be read: {error}")))?;
        if bytes.len() > left {
            return Err(fault(
                "is longer than 1 MiB, with all that it includes: that is no configuration".to_owned(),
            ));
        }
        self.read += bytes.len();
        Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Does something with an included file, unless it is included too deep.
    pub(super) fn nested<T>(
        &mut self,
        at: &Place,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.nested == DEEPEST {
            return Err(Fault::new(at, "files include each other too deep"));
        }
        self.nested += 1;
        let result = read(self).map_err(|fault| {
            if fault.is_of_line { fault } else { Fault::new(at, format!("includes {fault}")) }
        });
        self.nested -= 1;
        result
    }
}

/// Says so where a name or value has bytes that are no text.
pub(super) fn check_text(at: &Place, text: &str) -> Result<(), Fault> {
    if text.contains(['\u{fffd}', '\0']) {
        return Err(Fault::new(at, "is not valid UTF-8 outside of a comment: convert the file with iconv"));
    }
    Ok(())
}
