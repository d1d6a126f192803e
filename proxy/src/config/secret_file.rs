//! Secrets that stand in files, as container platforms hand them out.

use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::Secret;
use super::raw::quoted;

/// A password is never longer; a greater file is a mistake.
const MOST: usize = 64 * 1024;

/// The content of the file without the line end. The error names the file and nothing of its content.
pub(crate) fn read(path: &Path) -> Result<Secret, String> {
    let name = quoted(&path.to_string_lossy());
    // Room for all of it, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(MOST + 1));
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST as u64 + 1).read_to_string(&mut text))
        .map_err(|error| format!("can't read {name}: {error}"))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(format!("{name} is empty"));
    }
    if secret.contains('\0') || text.len() > MOST {
        return Err(format!("{name} does not hold a password"));
    }
    Ok(Secret::new(Zeroizing::new(secret.to_owned())))
}
