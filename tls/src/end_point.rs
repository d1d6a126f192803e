//! The hash of a certificate that a login is bound to: `tls-server-end-point` (RFC 5929, section 4).

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::der::asn1::{AnyRef, ContextSpecific, ObjectIdentifier};
use x509_cert::der::{Decode, Reader, SliceReader, TagMode, TagNumber};
use x509_cert::spki::AlgorithmIdentifierRef;

const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// Signature algorithms, and digests (which RSASSA-PSS has for a parameter), by the hash that they make of a certificate.
const SHA224: &[&str] =
    &["1.2.840.113549.1.1.14", "1.2.840.10045.4.3.1", "2.16.840.1.101.3.4.3.1", "2.16.840.1.101.3.4.2.4"];
const SHA256: &[&str] =
    &["1.2.840.113549.1.1.11", "1.2.840.10045.4.3.2", "2.16.840.1.101.3.4.3.2", "2.16.840.1.101.3.4.2.1"];
const SHA384: &[&str] =
    &["1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3", "2.16.840.1.101.3.4.3.3", "2.16.840.1.101.3.4.2.2"];
const SHA512: &[&str] =
    &["1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4", "2.16.840.1.101.3.4.3.4", "2.16.840.1.101.3.4.2.3"];
/// MD5 and SHA-1, in whose place SHA-256 is used.
const WEAK: &[&str] = &[
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.2.840.10045.4.1",
    "1.2.840.10040.4.3",
    "1.2.840.113549.2.5",
    "1.3.14.3.2.26",
];

/// The hash of a certificate in DER, by the algorithm of its signature. None if that has no hash of its own
/// (Ed25519) or is not known: PostgreSQL cannot bind a login to such a certificate either.
#[must_use]
pub fn end_point(certificate: &[u8]) -> Option<Box<[u8]>> {
    let algorithm = signature_algorithm(certificate)?;
    let oid = if algorithm.oid == RSASSA_PSS { pss_digest(algorithm)? } else { algorithm.oid };
    let is_in =
        |list: &[&str]| list.iter().any(|known| ObjectIdentifier::new(known).is_ok_and(|it| it == oid));
    if is_in(SHA256) || is_in(WEAK) {
        Some(Sha256::digest(certificate).as_slice().into())
    } else if is_in(SHA384) {
        Some(Sha384::digest(certificate).as_slice().into())
    } else if is_in(SHA512) {
        Some(Sha512::digest(certificate).as_slice().into())
    } else if is_in(SHA224) {
        Some(Sha224::digest(certificate).as_slice().into())
    } else {
        None
    }
}

/// The second of the three parts of a certificate. Nothing else of it need be understood.
fn signature_algorithm(certificate: &[u8]) -> Option<AlgorithmIdentifierRef<'_>> {
    let mut parts = SliceReader::new(AnyRef::from_der(certificate).ok()?.value()).ok()?;
    parts.tlv_bytes().ok()?;
    AlgorithmIdentifierRef::decode(&mut parts).ok()
}

/// The parameter `hashAlgorithm`, which is SHA-1 where it is not given (RFC 4055, section 3.1).
fn pss_digest(algorithm: AlgorithmIdentifierRef<'_>) -> Option<ObjectIdentifier> {
    let mut parameters = SliceReader::new(algorithm.parameters?.value()).ok()?;
    let digest: Option<ContextSpecific<AlgorithmIdentifierRef<'_>>> =
        ContextSpecific::decode_explicit(&mut parameters, TagNumber(0)).ok()?;
    match digest {
        Some(digest) if digest.tag_mode == TagMode::Explicit => Some(digest.value.oid),
        Some(_) => None,
        None => ObjectIdentifier::new("1.3.14.3.2.26").ok(),
    }
}
