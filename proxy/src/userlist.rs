//! PgBouncer's `userlist.txt`: users with their passwords, each pair a line, in quotes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::hba::{Mistake, ReadFile};
use crate::verifiers::Stored;

/// Users and what is stored of their passwords.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Userlist(HashMap<Box<str>, Option<Stored>>);

impl Userlist {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// All mistakes, by line; no secret is in them.
    pub(crate) fn read(path: &Path, read: ReadFile<'_>) -> Result<Self, Vec<Mistake>> {
        let path: Arc<Path> = path.into();
        let mistake =
            |line, message: &str| Mistake { path: Arc::clone(&path), line, message: message.to_owned() };
        let text = Zeroizing::new(read(&path).map_err(|why| vec![mistake(1, &why)])?);
        let (mut users, mut mistakes) = (HashMap::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            match entry(line) {
                Some((user, password)) => {
                    let stored = Stored::parse(&password);
                    if stored.is_none() && !password.is_empty() {
                        mistakes.push(mistake(index + 1, "is no SCRAM secret: SCRAM-SHA-256$iterations:salt$keys"));
                    }
                    if users.insert(user.as_str().into(), stored).is_some() {
                        mistakes.push(mistake(index + 1, &format!("user \"{user}\" is given twice")));
                    }
                }
                None => mistakes.push(mistake(
                    index + 1,
                    "takes a user and a password, both in quotes (a quote within is doubled): \"user\" \"password\"",
                )),
            }
        }
        if mistakes.is_empty() { Ok(Self(users)) } else { Err(mistakes) }
    }

    /// What is stored of a user's password. `Some(None)`: the user is listed, without a password to log in with.
    pub(crate) fn find(&self, user: &str) -> Option<Option<&Stored>> {
        self.0.get(user).map(Option::as_ref)
    }
}

/// The first two quoted texts of a line. As in PgBouncer, what follows them does not count.
fn entry(line: &str) -> Option<(String, Zeroizing<String>)> {
    let (user, rest) = quoted(line)?;
    let (password, _) = quoted(rest.trim_start())?;
    (!user.is_empty()).then(|| (user.to_string(), password))
}

fn quoted(text: &str) -> Option<(Zeroizing<String>, &str)> {
    let mut rest = text.strip_prefix('"')?;
    // Room for all of it, so that no copy is left behind by growing.
    let mut content = Zeroizing::new(String::with_capacity(rest.len()));
    loop {
        let (before, after) = rest.split_once('"')?;
        content.push_str(before);
        let Some(more) = after.strip_prefix('"') else { return Some((content, after)) };
        content.push('"');
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use pgherd_protocol::auth::Verifier;

    use super::*;

    fn read(text: &str) -> Result<Userlist, Vec<String>> {
        let read = |_: &Path| Ok(text.to_owned());
        Userlist::read(Path::new("/etc/userlist.txt"), &read)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_kind_of_password_is_read_as_pgbouncer_reads_it() {
        let scram = "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let users = read(&format!(
            "; users\n\n\"plain\" \"pass \"\"word\"\"\" ignored\n  \"md5\" \"md50123456789abcdef0123456789abcdef\"\n\
             \"scram\" \"{scram}\"\n\"a \"\"b\" \"\"\n"
        ))
        .unwrap();
        let Some(Some(Stored::Plain(plain))) = users.find("plain") else { panic!("plain") };
        assert_eq!(plain.password().expose(), "pass \"word\"");
        assert!(matches!(users.find("md5"), Some(Some(Stored::Verifier(Verifier::Md5(_))))));
        assert!(matches!(users.find("scram"), Some(Some(Stored::Verifier(Verifier::Scram(_))))));
        assert_eq!(users.find("a \"b"), Some(None));
        assert_eq!(users.find("nobody"), None);
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_without_a_password() {
        let mistakes =
            read("\"a\" \"x\"\nb secret\n\"c\" \"SCRAM-SHA-256$secret\"\n\"a\" \"y\"\n\"d\" \"secret\n\"\" \"secret\"")
                .unwrap_err();
        let lines: Vec<_> = mistakes.iter().map(|it| it.split(':').nth(1).unwrap()).collect();
        assert_eq!(lines, ["2", "3", "4", "5", "6"]);
        assert!(
            mistakes.iter().all(|mistake| !mistake.contains("secret\"") && !mistake.contains("b secret"))
        );
    }
}
