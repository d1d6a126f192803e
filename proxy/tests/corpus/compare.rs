//! Whether two answers are the same.

use pgherd_testkit::client::{Answer, Frame};

/// Two answers beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    Same,
    /// But for the order of the rows.
    InOtherOrder,
    Different,
}

/// What a client sees of an answer: rows, what they are called, tags and errors; notices are not looked at.
fn visible(answer: &Answer) -> Vec<Vec<u8>> {
    let seen = |frame: &Frame| match frame.tag {
        b'E' => frame.error_fields().map(|fields| format!("E{fields}").into_bytes()),
        b'T' | b'D' | b'C' | b'd' | b'I' => Some([&[frame.tag], &*frame.payload].concat()),
        _ => None,
    };
    answer.frames.iter().filter_map(seen).collect()
}

pub(crate) fn compare(one: &Answer, other: &Answer) -> Likeness {
    let (mut one, mut other) = (visible(one), visible(other));
    if one == other {
        return Likeness::Same;
    }
    one.sort();
    other.sort();
    if one == other { Likeness::InOtherOrder } else { Likeness::Different }
}

/// The first thing that differs, for a reader.
pub(crate) fn difference(one: &Answer, other: &Answer) -> String {
    let (one, other) = (visible(one), visible(other));
    let at = one.iter().zip(&other).position(|(a, b)| a != b).unwrap_or_else(|| one.len().min(other.len()));
    let show = |all: &[Vec<u8>]| all.get(at).map(|it| it.escape_ascii().to_string()).unwrap_or_default();
    format!("primary {:.300}, standby {:.300}", show(&one), show(&other))
}
