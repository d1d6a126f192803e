use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// An authority of a test, and the certificates that it signs.
#[derive(Debug)]
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

/// A certificate and its private key.
#[derive(Debug)]
pub struct Identity {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    serial: u64,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server, under all of these names.
    Server,
    /// A client.
    Client,
    /// A server that is its own client, such as etcd with its gateway.
    Both,
}

impl Authority {
    /// One that signed itself.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = named(name, &[], &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { params, key, certificate })
    }

    /// A certificate for a server with these names or addresses, the first of which is its common name.
    pub fn server(&self, names: &[&str]) -> Result<Identity> {
        let common_name = names.first().copied().unwrap_or_default();
        self.sign(named(common_name, names, &[])?, Purpose::Server)
    }

    /// A certificate for a server at this address that is its own client, too.
    pub fn member(&self, address: &str) -> Result<Identity> {
        self.sign(named(address, &[address], &[])?, Purpose::Both)
    }

    /// A certificate for a client with this common name, of this organization.
    pub fn client(&self, common_name: &str, organization: &str) -> Result<Identity> {
        self.sign(named(common_name, &[], &[(DnType::OrganizationName, organization)])?, Purpose::Client)
    }

    /// One that expired long ago.
    pub fn expired(&self, common_name: &str, purpose: Purpose) -> Result<Identity> {
        let mut params = named(common_name, &[common_name], &[])?;
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        self.sign(params, purpose)
    }

    fn sign(&self, mut params: CertificateParams, purpose: Purpose) -> Result<Identity> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = match purpose {
            Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Purpose::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        let key = KeyPair::generate()?;
        let issuer = Issuer::new(self.params.clone(), &self.key);
        let certificate = params.signed_by(&key, &issuer)?.der().clone();
        Ok(Identity { key, certificate, serial })
    }

    /// The list of these as revoked.
    pub fn revoke(&self, revoked: &[&Identity]) -> Result<String> {
        let revoked = revoked.iter().map(|identity| RevokedCertParams {
            serial_number: SerialNumber::from(identity.serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&Issuer::new(self.params.clone(), &self.key))?;
        Ok(pem("X509 CRL", list.der()))
    }

    /// A client's side of TLS that trusts this authority, and shows a certificate if it is given one.
    pub fn trusting(&self, identity: Option<&Identity>) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        Ok(match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::Pkcs8(identity.key.serialize_der().into());
                builder.with_client_auth_cert(vec![identity.certificate.clone()], key)?
            }
        })
    }

    /// In PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// In DER.
    pub fn der(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// Writes it to `directory/name.crt`.
    pub fn write(&self, directory: &Path, name: &str) -> Result<PathBuf> {
        write(directory, &format!("{name}.crt"), &self.pem())
    }
}

impl Identity {
    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// The private key in PEM, as PKCS#8.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key.serialize_der())
    }

    /// Writes both to `directory/name.crt` and `directory/name.key`, which only their owner may read.
    pub fn write(&self, directory: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let certificate = write(directory, &format!("{name}.crt"), &self.pem())?;
        Ok((certificate, write(directory, &format!("{name}.key"), &self.key_pem())?))
    }
}

fn named(common_name: &str, names: &[&str], others: &[(DnType, &str)]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    for (kind, name) in others {
        params.distinguished_name.push(kind.clone(), *name);
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

fn write(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in BASE64.encode(der).as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
