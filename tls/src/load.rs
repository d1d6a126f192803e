//! Reads certificates and keys, once, so that what is wrong with them is said when the configuration is read.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::KeyProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use crate::certificate::Certificate;
use crate::negotiation::Mode;
use crate::pem::{self, PemError};
use crate::server_tls::ChannelBinding;
use crate::verifier::Trust;

/// Whose signatures are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// Those that the operating system trusts. Only with [`Mode::VerifyFull`]: anybody gets a certificate from them.
    System,
    /// Those in this file, in PEM.
    File(PathBuf),
}

/// How servers are connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// When TLS is used, and what is verified.
    pub mode: Mode,
    /// Whose signatures are trusted. Where it is given, certificates are verified in every mode, as libpq does.
    pub ca: Option<Authorities>,
    /// What pgherd shows to a server that asks for a certificate: it and those above it, in PEM.
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate`, in PEM.
    pub key: Option<PathBuf>,
    /// Whether logins are bound to their connection.
    pub channel_binding: ChannelBinding,
}

/// Which setting is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// [`Settings::mode`]
    Mode,
    /// [`Settings::ca`]
    Ca,
    /// [`Settings::certificate`]
    Certificate,
    /// [`Settings::key`]
    Key,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    /// The setting.
    pub subject: Subject,
    /// What is wrong with it; nothing of a key.
    pub message: String,
}

impl LoadError {
    pub(crate) fn new(subject: Subject, message: impl Into<String>) -> Self {
        Self { subject, message: message.into() }
    }

    fn of_file(subject: Subject, path: &Path, error: &PemError) -> Self {
        Self::new(subject, format!("{} {error}", path.display()))
    }
}

/// The authorities.
pub(crate) fn trust(settings: &Settings) -> Result<Option<Trust>, LoadError> {
    let wrong = |message: String| LoadError::new(Subject::Ca, message);
    match (&settings.ca, settings.mode) {
        (None, Mode::VerifyCa | Mode::VerifyFull) => Err(LoadError::new(
            Subject::Mode,
            format!("{} needs backends.tls.ca: whose certificates to trust", settings.mode.name()),
        )),
        (None, _) => Ok(None),
        (Some(Authorities::System), Mode::VerifyFull) => {
            let found = rustls_native_certs::load_native_certs();
            let mut anchors = RootCertStore::empty();
            anchors.add_parsable_certificates(found.certs.iter().cloned());
            let roots = found.certs.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
            if anchors.is_empty() {
                return Err(wrong("the operating system has no certificates of authorities".to_owned()));
            }
            Ok(Some(Trust { anchors, roots }))
        }
        (Some(Authorities::System), mode) => Err(wrong(format!(
            "`system` needs mode verify-full, not {}: anybody gets a certificate from those authorities",
            mode.name()
        ))),
        (Some(Authorities::File(path)), _) => {
            let (mut anchors, mut roots) = (RootCertStore::empty(), Vec::new());
            for der in certificates(Subject::Ca, path)? {
                let unusable =
                    |why: String| wrong(format!("a certificate in {} is of no use: {why}", path.display()));
                roots.push(Certificate::parse(&der).map_err(|error| unusable(error.to_string()))?);
                anchors.add(der).map_err(|error| unusable(error.to_string()))?;
            }
            Ok(Some(Trust { anchors, roots }))
        }
    }
}

/// The certificate and key that pgherd shows.
pub(crate) fn identity(
    settings: &Settings,
    keys: &'static dyn KeyProvider,
) -> Result<Option<CertifiedKey>, LoadError> {
    let wrong = |message: String| LoadError::new(Subject::Key, message);
    let (certificate, path) = match (&settings.certificate, &settings.key) {
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err(LoadError::new(Subject::Certificate, "needs its private key too: backends.tls.key"));
        }
        (None, Some(_)) => return Err(wrong("needs its certificate too: backends.tls.cert".to_owned())),
        (Some(certificate), Some(path)) => (certificate, path),
    };
    let chain = certificates(Subject::Certificate, certificate)?;
    let key = pem::private_key(path).map_err(|error| LoadError::of_file(Subject::Key, path, &error))?;
    let identity = certified_key(chain, key, keys).map_err(|error| match error {
        Unusable::Certificate(why) => {
            LoadError::new(Subject::Certificate, format!("{} is of no use: {why}", certificate.display()))
        }
        Unusable::Key(why) => wrong(format!("the key in {} is of no use: {why}", path.display())),
        Unusable::NotItsKey => {
            wrong(format!("{} is not the key of {}", path.display(), certificate.display()))
        }
    })?;
    Ok(Some(identity))
}

/// Why a certificate and a key are of no use together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The certificate cannot be understood.
    #[error("the certificate is of no use: {0}")]
    Certificate(String),
    /// The key cannot be used.
    #[error("the key is of no use: {0}")]
    Key(String),
    /// It is the key of another certificate.
    #[error("the key is not that of the certificate")]
    NotItsKey,
}

/// Brings a certificate, and those above it, together with its key. Not by rustls' own check, which takes no certificate of X.509
/// version 1.
///
/// # Errors
/// See [`Unusable`].
pub fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    keys: &'static dyn KeyProvider,
) -> Result<CertifiedKey, Unusable> {
    let key = keys.load_private_key(key).map_err(|error| Unusable::Key(error.to_string()))?;
    let leaf =
        chain.first().map_or(Err(rustls::CertificateError::BadEncoding), |der| Certificate::parse(der));
    let leaf = leaf.map_err(|error| Unusable::Certificate(error.to_string()))?;
    match key.public_key().is_none_or(|public| public == leaf.key()) {
        true => Ok(CertifiedKey::new(chain, key)),
        false => Err(Unusable::NotItsKey),
    }
}

/// A hash of all files, to see whether one has changed. What cannot be read is said elsewhere.
pub(crate) fn fingerprint(settings: &Settings) -> [u8; 32] {
    let ca = match &settings.ca {
        Some(Authorities::File(path)) => Some(path),
        Some(Authorities::System) | None => None,
    };
    let mut hash = Sha256::new();
    for path in [ca, settings.certificate.as_ref(), settings.key.as_ref()].into_iter().flatten() {
        hash.update(Sha256::digest(pem::read(path).unwrap_or_default()));
    }
    hash.finalize().into()
}

fn certificates(subject: Subject, path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    pem::certificates(path).map_err(|error| LoadError::of_file(subject, path, &error))
}
