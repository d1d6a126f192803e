//! Certificates and keys as they stand in files, in PEM.

use std::io::Read;
use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::TlsFault;

/// A greater file is a mistake. The bundle of all public authorities has some 250 KB; lists of revoked certificates may have more.
const MOST: u64 = 64 * 1024 * 1024;

/// All certificates of a file; at least one.
pub(super) fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    all(key, path, "certificate")
}

/// All lists of revoked certificates of a file; at least one.
pub(super) fn revocation_lists(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsFault> {
    all(key, path, "list of revoked certificates")
}

/// The first private key of a file.
pub(super) fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsFault> {
    let text = read(key, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let is_encrypted = text.windows(9).any(|word| word == b"ENCRYPTED");
        let what = match error {
            Error::NoItemsFound if is_encrypted => {
                "holds an encrypted key: pgherd takes it without a passphrase only"
            }
            Error::NoItemsFound => "holds no private key in PEM",
            _ => "is not valid PEM",
        };
        fault(key, path, what)
    })
}

fn all<T: PemObject>(key: &'static str, path: &Path, what: &str) -> Result<Vec<T>, TlsFault> {
    let text = read(key, path)?;
    let found: Result<Vec<T>, _> = T::pem_slice_iter(&text).collect();
    let found = found.map_err(|_| fault(key, path, "is not valid PEM"))?;
    if found.is_empty() {
        return Err(fault(key, path, &format!("holds no {what} in PEM")));
    }
    Ok(found)
}

fn read(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsFault> {
    let mut text = Zeroizing::new(Vec::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST).read_to_end(&mut text))
        .map_err(|error| fault(key, path, &format!("can't be read: {error}")))?;
    Ok(text)
}

fn fault(key: &'static str, path: &Path, what: &str) -> TlsFault {
    TlsFault::new(key, format!("{} {what}", path.display()))
}
