//! A certificate, taken apart as far as webpki does not do it: of X.509 version 1, or signed by itself.

use std::time::Duration;

use rustls::CertificateError;
use rustls::pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use x509_cert::certificate::Version;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

/// Extensions that are heeded, or have no say in who may be trusted.
const KNOWN: [&str; 5] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.32", "2.5.29.37"];
/// Purposes of a key: to be a TLS server, and any.
const SERVER: [&str; 2] = ["1.3.6.1.5.5.7.3.1", "2.5.29.37.0"];

const MALFORMED: CertificateError = CertificateError::BadEncoding;

/// One certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) fields: x509_cert::Certificate,
    /// What its issuer signed.
    signed: Vec<u8>,
    /// The content of the signature's AlgorithmIdentifier.
    algorithm: Vec<u8>,
    /// SubjectPublicKeyInfo.
    key: Vec<u8>,
}

impl Certificate {
    /// # Errors
    /// When it is none.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let fields = x509_cert::Certificate::from_der(der).map_err(|_| MALFORMED)?;
        let whole = AnyRef::from_der(der).map_err(|_| MALFORMED)?;
        let mut parts = SliceReader::new(whole.value()).map_err(|_| MALFORMED)?;
        let signed = parts.tlv_bytes().map_err(|_| MALFORMED)?.to_vec();
        let algorithm = content(parts.tlv_bytes().map_err(|_| MALFORMED)?)?;
        let key = fields.tbs_certificate().subject_public_key_info().to_der().map_err(|_| MALFORMED)?;
        Ok(Self { fields, signed, algorithm, key })
    }

    /// What [`rustls::crypto::verify_tls13_signature_with_raw_key`] takes.
    pub(crate) fn key(&self) -> SubjectPublicKeyInfoDer<'_> {
        SubjectPublicKeyInfoDer::from(self.key.as_slice())
    }

    /// True if webpki can verify it as a server's: version 3, and no authority.
    pub(crate) fn is_plain(&self) -> bool {
        self.fields.tbs_certificate().version() == Version::V3 && !self.says_authority()
    }

    /// # Errors
    /// When it has expired, or is not valid yet.
    pub(crate) fn check_dates(&self, now: Duration) -> Result<(), CertificateError> {
        let validity = self.fields.tbs_certificate().validity();
        if now < validity.not_before.to_unix_duration() {
            return Err(CertificateError::NotValidYet);
        }
        if now > validity.not_after.to_unix_duration() {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }

    /// # Errors
    /// When it is not for servers, or demands what is not understood.
    pub(crate) fn check_purpose(&self) -> Result<(), CertificateError> {
        self.check_extensions()?;
        let subject = self.fields.tbs_certificate();
        let purposes = subject.get_extension::<ExtendedKeyUsage>().map_err(|_| MALFORMED)?;
        let is_server = |oid: &ObjectIdentifier| SERVER.contains(&oid.to_string().as_str());
        match purposes {
            Some((_, purposes)) if !purposes.0.iter().any(is_server) => Err(CertificateError::InvalidPurpose),
            _ => Ok(()),
        }
    }

    /// True if it may sign the certificate below it, of which `between` others hang on the way to the server's.
    pub(crate) fn is_authority(&self, between: usize) -> bool {
        let subject = self.fields.tbs_certificate();
        let basic = subject.get_extension::<BasicConstraints>().ok().flatten();
        let usage = subject.get_extension::<KeyUsage>();
        let long_enough = |(_, basic): (bool, BasicConstraints)| {
            basic.ca && basic.path_len_constraint.is_none_or(|most| usize::from(most) >= between)
        };
        basic.is_some_and(long_enough)
            && usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| usage.key_cert_sign()))
            && self.check_purpose().is_ok()
    }

    /// True if it is of version 1, which knows no authorities, and its own issuer.
    pub(crate) fn is_old_root(&self) -> bool {
        let subject = self.fields.tbs_certificate();
        subject.version() == Version::V1 && subject.issuer() == subject.subject()
    }

    /// True if `issuer` signed it.
    pub(crate) fn is_signed_by(
        &self,
        issuer: &Self,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let by = issuer.fields.tbs_certificate();
        if self.fields.tbs_certificate().issuer() != by.subject() {
            return false;
        }
        let Some(signature) = self.fields.signature().as_bytes() else { return false };
        let with = algorithms.iter().filter(|it| it.signature_alg_id().as_ref() == self.algorithm);
        issuer.has_signed(&self.signed, signature, with)
    }

    /// True if its key made this signature by one of these algorithms.
    pub(crate) fn has_signed<'a>(
        &self,
        message: &[u8],
        signature: &[u8],
        mut algorithms: impl Iterator<Item = &'a &'a dyn SignatureVerificationAlgorithm>,
    ) -> bool {
        let info = self.fields.tbs_certificate().subject_public_key_info();
        let kind = info.algorithm.to_der().ok().and_then(|der| content(&der).ok());
        let (Some(kind), Some(key)) = (kind, info.subject_public_key.as_bytes()) else { return false };
        algorithms.any(|it| {
            it.public_key_alg_id().as_ref() == kind && it.verify_signature(key, message, signature).is_ok()
        })
    }

    fn says_authority(&self) -> bool {
        let basic = self.fields.tbs_certificate().get_extension::<BasicConstraints>();
        basic.is_ok_and(|basic| basic.is_some_and(|(_, basic)| basic.ca))
    }

    fn check_extensions(&self) -> Result<(), CertificateError> {
        let extensions = self.fields.tbs_certificate().extensions();
        let unknown = extensions
            .into_iter()
            .flatten()
            .any(|it| it.critical && !KNOWN.contains(&it.extn_id.to_string().as_str()));
        if unknown { Err(CertificateError::UnhandledCriticalExtension) } else { Ok(()) }
    }
}

/// The value of one TLV.
fn content(tlv: &[u8]) -> Result<Vec<u8>, CertificateError> {
    Ok(AnyRef::from_der(tlv).map_err(|_| MALFORMED)?.value().to_vec())
}
