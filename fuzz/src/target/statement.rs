//! What the text of a statement says, beside a second judge, and beside itself.

use pgherd_protocol::statement::{Effect, Pin, Place, RecentScans, scan, scan_start};

use super::judge;

/// Any text.
pub(crate) fn run(input: &[u8]) {
    let found = scan(input);
    let is_hinted = input.trim_ascii_start().starts_with(b"/*");
    if found.place == Place::Standby && !is_hinted {
        let changes = judge::changes(input);
        assert!(changes.is_none(), "{}: read anywhere, and {}", shown(input), changes.unwrap_or_default());
    }
    if found.effect == Effect::Empty {
        assert!(judge::changes(input).is_none(), "{}: taken to be nothing", shown(input));
    }
    is_remembered_as_it_is(input);
    if !is_hinted {
        stays_what_it_is_beside_others(input);
    }
    does_not_depend_on_cuts(input);
}

fn shown(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

/// What is remembered of a text with other numbers holds for this one.
fn is_remembered_as_it_is(input: &[u8]) {
    let recent = RecentScans::default();
    let other: Vec<u8> = input.iter().map(|byte| if byte.is_ascii_digit() { b'7' } else { *byte }).collect();
    recent.scan(&other);
    assert_eq!(recent.scan(input), scan(input), "{}", shown(input));
    assert_eq!(recent.scan(&other), scan(&other), "{}", shown(&other));
}

/// What is for the primary alone is so in company.
fn stays_what_it_is_beside_others(input: &[u8]) {
    if scan(input).place == Place::Standby || scan(input).effect == Effect::Empty {
        return;
    }
    for text in [[input, b"\n;SELECT 1"].concat(), [b"SELECT 1;", input].concat()] {
        assert!(scan(&text).place != Place::Standby, "{}", shown(&text));
    }
}

/// A text that is too long to be looked at as a whole says no less when it comes byte by byte.
fn does_not_depend_on_cuts(input: &[u8]) {
    let (first, behind) = input.split_at(input.len() / 3);
    let (begun, mut whole) = scan_start(first);
    assert!(!begun.whole && begun.place != Place::Standby, "{}", shown(input));
    let found = whole.see(behind);
    let (_, mut pieces) = scan_start(first);
    let in_pieces = behind.iter().fold(None, |pin, byte| Pin::worse(pin, pieces.see(&[*byte])));
    assert!(found.is_none() || in_pieces.is_some(), "{found:?} is not found in {}", shown(input));
    assert!(!whole.asks() || pieces.asks(), "{}", shown(input));
}
