//! Commands of the console.

use pgherd::input::{Refused, commands};

/// Two texts.
pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (one, other) = text.split_once('\0').unwrap_or((&text, ""));
    let (first, second) = (told(one), told(other));
    // An open comment would take in what comes behind it.
    if one.contains("/*") {
        return;
    }
    let both = told(&format!("{one}\n;{other}"));
    match (first, second) {
        (Ok(first), Ok(second)) => assert_eq!(both, Ok([first, second].concat()), "{text:?}"),
        // The other text may end what this one has begun.
        (Err(first), _) if first.message.starts_with("unterminated") => {}
        (Err(first), _) if first.position.is_some() => {
            // What is wrong first is told first, unless it cannot even be cut into words.
            let told = both.expect_err("one of them is wrong");
            assert!(told == first || told.message.starts_with("unterminated"), "{text:?}: {told:?}");
        }
        _ => assert!(both.is_err(), "{text:?}"),
    }
}

fn told(text: &str) -> Result<Vec<String>, Refused> {
    commands(text).inspect_err(|Refused { sqlstate, message, position }| {
        assert!(["42601", "42704"].contains(sqlstate), "{sqlstate}");
        assert!(message.chars().count() < 150, "{message}");
        let most = text.chars().count();
        assert!(position.is_none_or(|at| (1..=most).contains(&at)), "{position:?} of {most}");
    })
}
