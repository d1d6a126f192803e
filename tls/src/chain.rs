//! Verifies the certificates that webpki refuses by their form and OpenSSL takes.
//!
//! PostgreSQL's documentation has certificates made that are of X.509 version 1 (`openssl x509 -req` without extensions), and
//! many a server has one that it signed itself, as an authority (`openssl req -x509`). For those the path to an
//! authority is looked for here; all others are webpki's.

use std::time::Duration;

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm};

use crate::certificate::Certificate;

/// The most certificates between a server's and its authority.
const LONGEST: usize = 8;

/// Looks for a path from the server's certificate to one of `roots`, over those that the server sent.
///
/// # Errors
/// When there is none, or one on it has expired or is for something else.
pub(crate) fn verify(
    leaf: &Certificate,
    sent: &[CertificateDer<'_>],
    roots: &[Certificate],
    now: Duration,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<(), CertificateError> {
    leaf.check_dates(now)?;
    leaf.check_purpose()?;
    if roots.iter().any(|root| root.fields == leaf.fields && leaf.is_signed_by(root, algorithms)) {
        return Ok(());
    }
    let mut sent: Vec<Certificate> =
        sent.iter().take(LONGEST).filter_map(|der| Certificate::parse(der).ok()).collect();
    let mut last = None;
    for between in 0..=LONGEST {
        let link = last.as_ref().unwrap_or(leaf);
        let may_sign = |it: &Certificate| it.is_authority(between) && link.is_signed_by(it, algorithms);
        let is_root =
            |root: &&Certificate| may_sign(root) || root.is_old_root() && link.is_signed_by(root, algorithms);
        if let Some(root) = roots.iter().find(is_root) {
            return root.check_dates(now);
        }
        let Some(at) = sent.iter().position(may_sign) else { break };
        let next = sent.swap_remove(at);
        next.check_dates(now)?;
        last = Some(next);
    }
    Err(CertificateError::UnknownIssuer)
}
