//! Certificates for the tests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SigningKey, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode, Encode, Reader, SliceReader, Tag};

/// A certificate and its key.
pub(super) struct Pair {
    pub(super) der: CertificateDer<'static>,
    pub(super) key: KeyPair,
    pub(super) params: CertificateParams,
}

impl Pair {
    pub(super) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    pub(super) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key.serialize_der())
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::new(self.params.clone(), &self.key)
    }

    /// The same certificate as one of X.509 version 1, which has no extensions.
    pub(super) fn version_1(self, signer: &KeyPair) -> Self {
        let whole = AnyRef::from_der(&self.der).unwrap();
        let mut parts = SliceReader::new(whole.value()).unwrap();
        let signed = AnyRef::from_der(parts.tlv_bytes().unwrap()).unwrap();
        let algorithm = parts.tlv_bytes().unwrap().to_vec();
        let mut fields = SliceReader::new(signed.value()).unwrap();
        let mut kept = Vec::new();
        while !fields.is_finished() {
            let field = fields.tlv_bytes().unwrap();
            if !matches!(field[0], 0xa0 | 0xa3) {
                kept.extend_from_slice(field);
            }
        }
        let signed = AnyRef::new(Tag::Sequence, &kept).unwrap().to_der().unwrap();
        let signature = [&[0], signer.sign(&signed).unwrap().as_slice()].concat();
        let signature = AnyRef::new(Tag::BitString, &signature).unwrap().to_der().unwrap();
        let content = [signed, algorithm, signature].concat();
        let der = AnyRef::new(Tag::Sequence, &content).unwrap().to_der().unwrap();
        Self { der: der.into(), ..self }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64.encode(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub(super) fn authority(name: &str) -> Pair {
    self_signed(authority_params(name))
}

/// An authority below another.
pub(super) fn intermediate(name: &str, above: &Pair) -> Pair {
    signed(authority_params(name), above)
}

/// A server that signed its own certificate, as `openssl req -x509` does it: as an authority.
pub(super) fn on_its_own(common_name: &str) -> Pair {
    self_signed(authority_params(common_name))
}

/// A server's certificate, for these names.
pub(super) fn server(common_name: &str, names: &[&str], above: &Pair) -> Pair {
    signed(params(common_name, names), above)
}

/// One that has expired.
pub(super) fn expired(common_name: &str, above: &Pair) -> Pair {
    let mut params = params(common_name, &[common_name]);
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
    signed(params, above)
}

/// One that is for clients only.
pub(super) fn for_clients(common_name: &str, above: &Pair) -> Pair {
    let mut params = params(common_name, &[common_name]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    signed(params, above)
}

fn self_signed(params: CertificateParams) -> Pair {
    let key = KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap().der().clone();
    Pair { der, key, params }
}

fn signed(params: CertificateParams, above: &Pair) -> Pair {
    let key = KeyPair::generate().unwrap();
    let der = params.signed_by(&key, &above.issuer()).unwrap().der().clone();
    Pair { der, key, params }
}
