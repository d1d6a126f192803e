//! `pgherd migrate`: whatever a peer's file says, what is written is valid, and no password is in it.

use pgherd::input;

use super::scratch::Scratch;

/// Nothing else looks like it.
const SECRET: &str = "hunter2-0f7a";

/// A file of pgpool's or PgBouncer's.
pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // What it includes is read, and what it names.
    if ["include", "/dev", "/proc", "/sys"].iter().any(|word| text.contains(word)) {
        return;
    }
    let text = with_secrets(&text);
    let place = Scratch::new(text.as_bytes());
    match input::migrated(place.path()) {
        Ok((page, errors)) => {
            // What it names need not be there, and a certificate without a key is none for pgpool either.
            let is_missing =
                |why: &String| ["No such file", "an't", "tls.cert"].iter().any(|word| why.contains(word));
            assert!(errors.iter().all(is_missing), "{errors:?}\n{text}\n{page}");
            assert!(!page.contains(SECRET), "{text}\n{page}");
            assert!(!page.contains(|it: char| it.is_control() && it != '\n'), "{page:?}");
        }
        Err(why) => {
            assert!(!why.contains(SECRET), "{why}");
            assert!(!why.contains(|it: char| it.is_control()), "{why:?}");
        }
    }
}

/// The same with a known password in each setting that is one.
fn with_secrets(text: &str) -> String {
    let line = |line: &str| {
        let name = line.split('=').next().unwrap_or_default();
        let is_secret = name.contains("password")
            && name.trim().bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
        if is_secret { format!("{name}= '{SECRET}'\n") } else { format!("{line}\n") }
    };
    text.lines().map(line).collect()
}
