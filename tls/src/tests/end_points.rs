//! What logins are bound to.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use sha2::{Digest, Sha256, Sha384};

use crate::end_point;

fn certificate(key: &KeyPair) -> Vec<u8> {
    CertificateParams::new(Vec::new()).unwrap().self_signed(key).unwrap().der().to_vec()
}

#[test]
fn the_hash_is_that_of_the_signature() {
    let of_256 = certificate(&KeyPair::generate().unwrap());
    assert_eq!(end_point(&of_256).as_deref(), Some(Sha256::digest(&of_256).as_slice()));
    let of_384 = certificate(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
    assert_eq!(end_point(&of_384).as_deref(), Some(Sha384::digest(&of_384).as_slice()));
    let without = certificate(&KeyPair::generate_for(&PKCS_ED25519).unwrap());
    assert_eq!(end_point(&without), None);
}

/// A certificate of which only the algorithm of the signature can be read.
fn signed_by(algorithm: &[u8]) -> Vec<u8> {
    let rest = [&[0x30, 0], algorithm, &[3, 1, 0]].concat();
    [&[0x30, u8::try_from(rest.len()).unwrap()], rest.as_slice()].concat()
}

#[test]
fn old_hashes_are_replaced_and_those_within_parameters_are_found() {
    // sha1WithRSAEncryption; then RSASSA-PSS with SHA-384, and with its default, SHA-1.
    let sha1 = signed_by(b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00");
    assert_eq!(end_point(&sha1).as_deref(), Some(Sha256::digest(&sha1).as_slice()));
    let pss = signed_by(
        b"\x30\x1e\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x11\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00",
    );
    assert_eq!(end_point(&pss).as_deref(), Some(Sha384::digest(&pss).as_slice()));
    let default = signed_by(b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x00");
    assert_eq!(end_point(&default).as_deref(), Some(Sha256::digest(&default).as_slice()));
}

#[test]
fn what_is_no_certificate_has_none() {
    for bytes in [&b""[..], b"\x30", b"\x30\x80\0\0", &[0xff; 64]] {
        assert_eq!(end_point(bytes), None);
    }
    let whole = certificate(&KeyPair::generate().unwrap());
    for len in 0..whole.len() {
        assert_eq!(end_point(&whole[..len]), None, "{len}");
    }
}
