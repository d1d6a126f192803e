//! Defects on demand, for the tests that show what becomes of them. In a release build there are none.

use std::fmt::Display;

/// What a test has asked for, once: by a file of this name in the directory that `PROVOKE_DEFECTS_IN` names. If it holds a number, this thread
/// stands still for so many seconds, else what runs here ends by a panic.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is what it is for")]
pub(crate) fn at(place: impl Display) {
    let Some(directory) = std::env::var_os("PROVOKE_DEFECTS_IN") else { return };
    let order = std::path::Path::new(&directory).join(place.to_string());
    let Ok(what) = std::fs::read_to_string(&order) else { return };
    if std::fs::remove_file(&order).is_err() {
        return;
    }
    match what.trim().parse() {
        Ok(seconds) => std::thread::sleep(std::time::Duration::from_secs(seconds)),
        Err(_) => panic!("a test has asked for this panic"),
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn at(_place: impl Display) {}
