//! Certificates and keys as they stand in files, in PEM.

use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// A greater file is a mistake. The bundle of all public authorities has some 250 KB; lists of revoked certificates may have more.
const MOST: u64 = 64 * 1024 * 1024;

/// Why a file is of no use. Shows nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It cannot be read.
    #[error("can't be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is none of PEM.
    #[error("is not valid PEM")]
    Invalid,
    /// Nothing of what is looked for is in it.
    #[error("holds no {0} in PEM")]
    Nothing(&'static str),
    /// The key in it has a passphrase.
    #[error("holds an encrypted key: pgherd takes it without a passphrase only")]
    Encrypted,
}

/// All certificates of a file; at least one.
///
/// # Errors
/// When the file is of no use.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    all(path, "certificate")
}

/// All lists of revoked certificates of a file; at least one.
///
/// # Errors
/// When the file is of no use.
pub fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    all(path, "list of revoked certificates")
}

/// The first private key of a file.
///
/// # Errors
/// When the file is of no use.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        Error::NoItemsFound if text.windows(9).any(|word| word == b"ENCRYPTED") => PemError::Encrypted,
        Error::NoItemsFound => PemError::Nothing("private key"),
        _ => PemError::Invalid,
    })
}

/// What stands in a file. It may be a key, so it is wiped when dropped.
pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    // As a whole, since what a vector grows out of is not wiped.
    let expected = usize::try_from(file.metadata()?.len().min(MOST)).unwrap_or_default();
    let mut text = Zeroizing::new(Vec::with_capacity(expected + 1));
    let read = file.take(MOST + 1).read_to_end(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read <= MOST) {
        Ok(text)
    } else {
        Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"))
    }
}

fn all<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, PemError> {
    let text = read(path)?;
    let found = T::pem_slice_iter(&text).collect::<Result<Vec<T>, _>>().map_err(|_| PemError::Invalid)?;
    if found.is_empty() { Err(PemError::Nothing(what)) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_read_no_further_than_any_may_be() {
        let error = certificates(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "can't be read: it is too large");
    }
}
