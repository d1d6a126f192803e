//! What an administrator says of functions.

/// Names of functions with `*` for any part, in small letters unless the function's name has others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionRules {
    /// They only read, and give on a standby what they give on the primary.
    pub reads: Vec<Box<str>>,
    /// They are for the primary. Of a function that both lists have, this counts.
    pub writes: Vec<Box<str>>,
}

impl FunctionRules {
    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.writes.is_empty()
    }

    /// Whether a function of this name only reads; `None` if nothing is said of it.
    pub(super) fn reads(&self, name: &[u8]) -> Option<bool> {
        let has = |patterns: &[Box<str>]| patterns.iter().any(|pattern| matches(pattern.as_bytes(), name));
        if has(&self.writes) {
            return Some(false);
        }
        has(&self.reads).then_some(true)
    }
}

/// True if the whole name fits. Takes time in proportion to both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on if the last `*` stands for one character more.
    let mut again = None;
    loop {
        match (pattern, name) {
            ([b'*', after @ ..], _) => {
                again = Some((after, name));
                pattern = after;
            }
            ([p, after @ ..], [n, rest @ ..]) if p == n => (pattern, name) = (after, rest),
            ([], []) => return true,
            _ => match again {
                Some((after, [_, rest @ ..])) => {
                    again = Some((after, rest));
                    (pattern, name) = (after, rest);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_part() {
        for (pattern, name) in [
            ("f", "f"),
            ("get_*", "get_"),
            ("get_*", "get_user"),
            ("*", ""),
            ("*_at*x", "a_at_atyx"),
            ("**a", "a"),
        ] {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("f", "ff"), ("", "f"), ("get_*", "get"), ("*a*b", "bbba"), ("f*", "F")] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn who_writes_by_one_list_writes() {
        let rules = FunctionRules { reads: vec!["get_*".into()], writes: vec!["*_new".into()] };
        assert_eq!(rules.reads(b"get_one"), Some(true));
        assert_eq!(rules.reads(b"get_new"), Some(false));
        assert_eq!(rules.reads(b"other"), None);
    }
}
