//! How a program ended that was run for a step, and what that says of the step.

use crate::Outcome;

/// Why a program has no exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no way to where it was to run: the step can be tried in another way.
    Unreachable(String),
    /// It was not run.
    NotStarted(String),
    /// It was begun, and then lost: it may run, or have run.
    Lost(String),
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ran {
    /// Its exit status.
    pub(super) status: u32,
    /// What it wrote.
    pub(super) output: String,
}

/// A status of 0 says "done", one of `unchanged` that nothing was changed; any other leaves it open.
pub(super) fn judge(ran: Result<Ran, Failure>, unchanged: &[u32]) -> Outcome {
    match ran {
        Ok(Ran { status: 0, .. }) => Outcome::Done,
        Ok(Ran { status, output }) => {
            let reason = format!("exit status {status}: {}", excerpt(&output));
            if unchanged.contains(&status) { Outcome::Failed(reason) } else { Outcome::Unknown(reason) }
        }
        Err(Failure::Unreachable(reason) | Failure::NotStarted(reason)) => Outcome::Failed(reason),
        Err(Failure::Lost(reason)) => Outcome::Unknown(reason),
    }
}

/// The last lines of a program's output, without passwords.
pub(super) fn excerpt(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join("; ");
    without_passwords(&last).chars().take(600).collect()
}

/// What stands for a password in connection strings of either form, and in variables, is left out.
pub(super) fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, until)) = password(rest) {
        shown.push_str(rest.get(..at).unwrap_or_default());
        shown.push_str("...");
        rest = rest.get(until..).unwrap_or_default();
    }
    shown.push_str(rest);
    shown
}

/// Where the first password begins and ends.
fn password(text: &str) -> Option<(usize, usize)> {
    // ASCII alone changes its case, and so no place moves.
    let lower = text.to_ascii_lowercase();
    let keyword = lower.match_indices("password").find_map(|(at, word)| {
        let value = lower.get(at + word.len()..)?.trim_start().strip_prefix('=')?.trim_start();
        Some((text.len() - value.len(), end_of_value(value))).filter(|(_, length)| *length > 0)
    });
    let uri = lower.match_indices("://").find_map(|(at, scheme)| {
        let authority = lower.get(at + scheme.len()..)?;
        let end = authority.find(|it: char| it.is_whitespace() || "/?\"';".contains(it));
        let (login, _) = authority.get(..end.unwrap_or(authority.len()))?.rsplit_once('@')?;
        let (user, password) = login.split_once(':')?;
        Some((at + scheme.len() + user.len() + 1, password.len())).filter(|(_, length)| *length > 0)
    });
    let (at, length) = [keyword, uri].into_iter().flatten().min()?;
    Some((at, at + length))
}

/// Where a value of libpq's ends, quoted or not.
fn end_of_value(value: &str) -> usize {
    let Some(quoted) = value.strip_prefix('\'') else {
        return value.find(|it: char| it.is_whitespace() || "\"';&".contains(it)).unwrap_or(value.len());
    };
    let mut escaped = false;
    let end = quoted.find(|it: char| {
        let ends = it == '\'' && !escaped;
        escaped = it == '\\' && !escaped;
        ends
    });
    end.map_or(value.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown_however_it_is_written() {
        for (said, shown) in [
            ("conninfo is \"host=a password=se-cret user=b\"", "conninfo is \"host=a password=... user=b\""),
            ("password='it\\'s a secret' host=a", "password=... host=a"),
            ("password = 'secret'", "password = ..."),
            ("password='secret", "password=..."),
            ("PGPASSWORD=secret repmgr", "PGPASSWORD=... repmgr"),
            ("sslpassword=secret; password=secret", "sslpassword=...; password=..."),
            (
                "postgresql://me:p%40ss@a:5432/x?sslmode=require",
                "postgresql://me:...@a:5432/x?sslmode=require",
            ),
            ("postgres://a/x?user=me&password=secret&port=1", "postgres://a/x?user=me&password=...&port=1"),
            ("see https://example.org:80/a@b", "see https://example.org:80/a@b"),
            ("password=; password=secret", "password=; password=..."),
            ("the password is wrong", "the password is wrong"),
        ] {
            assert_eq!(excerpt(said), shown);
            assert!(!excerpt(said).contains("secret"), "{said}");
        }
    }

    #[test]
    fn the_last_lines_are_shown() {
        assert_eq!(excerpt("a\n\n b \nc\nd\ne\n"), "b; c; d; e");
    }
}
