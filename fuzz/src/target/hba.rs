//! `pg_hba.conf` and `pg_ident.conf`: the first rule decides, and what stands around it changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pgherd::input::{Rules, Visitor, ident_allows};

use crate::bytes::{Bytes, text};

/// Somebody who asks, and a file.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let (kind, address, name) = (bytes.byte(), bytes.word(), bytes.byte());
    let address = match kind % 3 {
        0 => None,
        1 => Some(IpAddr::V4(Ipv4Addr::from_bits(address))),
        _ => Some(IpAddr::V6(Ipv6Addr::from_bits(u128::from(address) << 96 | 1))),
    };
    let member_of: Vec<Box<str>> = vec!["staff".into(), "ada".into()];
    let visitor = Visitor {
        address,
        has_tls: kind & 0x80 != 0,
        database: ["app", "ada", "staff", "all", "replication"][usize::from(name % 5)],
        user: ["ada", "bob", "staff", "all"][usize::from(name / 5 % 4)],
        is_replication: kind & 0x40 != 0,
        member_of: &member_of,
    };
    let (names, file) = (text(bytes.until(0)), text(bytes.rest()));
    // Files that name themselves in every line take as long as there are paths through them.
    if names.contains('@') && names.len() > 40 {
        return;
    }
    rules(&file, &names, &visitor);
    maps(&file);
}

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn decided(file: &str, names: &str, visitor: &Visitor<'_>) -> Option<Option<(usize, &'static str)>> {
    Some(Rules::read(file, names).ok()?.decide(visitor, ELSEWHERE))
}

fn rules(file: &str, names: &str, visitor: &Visitor<'_>) {
    let lines: Vec<&str> = file.lines().collect();
    let rules = match Rules::read(file, names) {
        Ok(rules) => rules,
        Err(wrong) => {
            let last = lines.len().max(1);
            assert!(
                !wrong.is_empty() && wrong.iter().all(|(line, _)| (1..=last).contains(line)),
                "{wrong:?}"
            );
            return;
        }
    };
    let verdict = rules.decide(visitor, ELSEWHERE);
    // The same file with other ends of lines, and comments between them.
    let goes_on = file.contains('\\');
    if !goes_on {
        let other = lines.join(" # what?\r\n");
        let is_quoted = file.contains('"');
        assert!(is_quoted || decided(&other, names, visitor) == Some(verdict), "{file:?}");
        let spread: String = lines.iter().map(|line| format!("#\n{line}\n")).collect();
        let moved = verdict.map(|(line, method)| (2 * line, method));
        assert_eq!(decided(&spread, names, visitor), Some(moved), "{file:?}");
        alone(&lines, names, visitor, verdict);
    }
    if let Some((line, method)) = verdict {
        let text = lines[line - 1];
        assert!(
            goes_on
                || text.contains(method)
                || text.contains("ident")
                || text.contains('@')
                || text.contains('"'),
            "{text}"
        );
    }
}

/// Each line decides by itself as it does among others: those before the one that decides let nobody in.
fn alone(lines: &[&str], names: &str, visitor: &Visitor<'_>, verdict: Option<(usize, &'static str)>) {
    for (at, line) in lines.iter().enumerate() {
        let Some(own) = decided(line, names, visitor) else { continue };
        match verdict {
            Some((first, method)) if first == at + 1 => assert_eq!(own, Some((1, method)), "{line:?}"),
            Some((first, _)) if first < at + 1 => {}
            _ => assert_eq!(own, None, "{line:?} comes before {verdict:?}"),
        }
    }
}

fn maps(file: &str) {
    for (system, user) in [("ada", "ada"), ("root", "ada"), ("ada@example", "ada")] {
        let Ok(allows) = ident_allows(file, "m", system, user) else { return };
        let named = file.contains('m');
        assert!(named || !allows, "{file:?}");
        assert_eq!(ident_allows(&format!("{file}\n# nothing\n"), "m", system, user), Ok(allows), "{file:?}");
    }
}
