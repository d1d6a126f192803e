//! What certificates say.

use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::name::Name;

use crate::peer::CertificateNames;

/// The first certificate of a chain, and when the first of them expires. None if one cannot be understood.
pub(super) fn leaf_and_expiry(chain: &[CertificateDer<'_>]) -> Option<(Arc<[u8]>, SystemTime)> {
    let mut expires_at = None;
    for der in chain {
        let at = Certificate::from_der(der).ok()?.tbs_certificate().validity().not_after.to_system_time();
        expires_at = Some(expires_at.map_or(at, |other: SystemTime| other.min(at)));
    }
    Some((Arc::from(chain.first()?.as_ref()), expires_at?))
}

/// Whom a certificate names.
pub(super) fn names(der: &CertificateDer<'_>) -> Option<CertificateNames> {
    let certificate = Certificate::from_der(der).ok()?;
    let name = certificate.tbs_certificate().subject();
    let mut subject = String::new();
    write!(subject, "{name}").ok()?;
    Some(CertificateNames { subject, common_name: common_name(name) })
}

/// The first common name. One with a zero byte in it would be another name to whoever reads up to that: it is none, as in
/// PostgreSQL's `be_tls_open_server()`.
fn common_name(name: &Name) -> Option<String> {
    let name = name.common_name().ok().flatten()?;
    let text = name.value();
    (!text.contains('\0')).then(|| text.into_owned())
}
