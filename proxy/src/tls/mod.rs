//! TLS with clients: the certificate that pgherd shows them, and those that they show.

mod certificate;
mod expiry;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use pgherd_tls::pem::{self, PemError};
use pgherd_tls::{Mode, Unusable, certified_key};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{Connection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use crate::config::{ListenTls, Problem, TlsVersion};
use crate::peer::{CertificateNames, TlsFacts};

pub(crate) use expiry::watch;

/// PostgreSQL's protocol, as clients name it within a handshake (ALPN).
pub(crate) const ALPN: &[u8] = b"postgresql";

/// What is in force for clients, and replaced as a whole: connections that there are keep what they have.
#[derive(Debug)]
pub(crate) struct ClientTls(ArcSwapOption<Acceptor>);

/// How TLS is accepted.
#[derive(Debug)]
pub(crate) struct Acceptor {
    mode: Mode,
    config: Arc<ServerConfig>,
    /// The certificate that clients see, in DER.
    certificate: Arc<[u8]>,
    /// When the first of the certificates that clients are shown expires.
    expires_at: SystemTime,
}

/// Why files cannot be used, and which key names them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TlsFault {
    /// The key's full name.
    pub(crate) key: &'static str,
    /// What is wrong. Shows nothing of a private key.
    pub(crate) message: String,
}

impl TlsFault {
    pub(crate) fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, message: message.into() }
    }
}

impl From<TlsFault> for Problem {
    fn from(TlsFault { key, message }: TlsFault) -> Self {
        Self { origin: None, key: Some(key.to_owned()), message }
    }
}

/// What is read from a file that a key names.
fn in_file<T>(
    key: &'static str,
    path: &Path,
    read: impl Fn(&Path) -> Result<T, PemError>,
) -> Result<T, TlsFault> {
    read(path).map_err(|error| TlsFault::new(key, format!("{} {error}", path.display())))
}

impl ClientTls {
    /// # Errors
    /// When a file cannot be used.
    pub(crate) fn new(settings: &ListenTls) -> Result<Self, TlsFault> {
        Ok(Self(ArcSwapOption::from(Acceptor::load(settings)?)))
    }

    /// New connections go by this.
    pub(crate) fn replace(&self, acceptor: Option<Arc<Acceptor>>) {
        let certificate = |it: &Option<Arc<Acceptor>>| it.as_ref().map(|it| Arc::clone(&it.certificate));
        let next = certificate(&acceptor);
        if certificate(&self.0.swap(acceptor)) != next && next.is_some() {
            tracing::info!("clients are shown another certificate from now on");
        }
    }

    /// What a connection that begins now goes by; none if TLS is off.
    pub(crate) fn acceptor(&self) -> Option<Arc<Acceptor>> {
        self.0.load_full()
    }

    /// When the first of the certificates that clients are shown expires; none if TLS is off.
    pub(crate) fn expires_at(&self) -> Option<SystemTime> {
        self.0.load().as_ref().map(|acceptor| acceptor.expires_at)
    }
}

impl Acceptor {
    /// Reads the files; none if TLS is off.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub(crate) fn load(settings: &ListenTls) -> Result<Option<Arc<Self>>, TlsFault> {
        let ListenTls { mode, certificate: Some(certificate), key: Some(key), .. } = settings else {
            return Ok(None);
        };
        if *mode == Mode::Disable {
            return Ok(None);
        }
        let Identity { shown, provider, certificate, expires_at } =
            Identity::load(("listen.tls.cert", certificate), ("listen.tls.key", key))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions(settings.min_version))
            .map_err(|error| TlsFault::new("listen.tls.min_version", error.to_string()))?;
        let builder = match client_verifier(settings, provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(shown);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // As PostgreSQL, which has none either: a client stays.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Some(Arc::new(Self { mode: *mode, config: Arc::new(config), certificate, expires_at })))
    }

    /// When the first of the certificates that clients are shown expires.
    pub(crate) const fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// One side of a handshake.
    ///
    /// # Errors
    /// None but a defect.
    pub(crate) fn accept(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(Arc::clone(&self.config))
    }

    /// True if a client that does not ask for TLS is refused, unless it is on this machine.
    pub(crate) fn is_required(&self) -> bool {
        match self.mode {
            Mode::Disable | Mode::Allow | Mode::Prefer => false,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => true,
        }
    }

    /// What was settled, once hands are shaken.
    pub(crate) fn facts(&self, connection: &Connection) -> TlsFacts {
        let client = connection.peer_certificates().and_then(<[_]>::first);
        TlsFacts {
            version: version_name(connection),
            cipher: cipher_name(connection),
            client_certificate: client.map(names),
            own_certificate: Some(Arc::clone(&self.certificate)),
        }
    }
}

/// A certificate with its key.
pub(crate) struct Identity {
    /// What is shown.
    pub(crate) shown: Arc<SingleCertAndKey>,
    /// What it was read with.
    pub(crate) provider: Arc<CryptoProvider>,
    /// The certificate, in DER.
    certificate: Arc<[u8]>,
    /// When the first certificate of the chain expires.
    expires_at: SystemTime,
}

impl Identity {
    /// Reads the files that these keys name.
    ///
    /// # Errors
    /// When one cannot be used.
    pub(crate) fn load(
        (certificate_key, certificate): (&'static str, &Path),
        (key_key, key): (&'static str, &Path),
    ) -> Result<Self, TlsFault> {
        let chain = in_file(certificate_key, certificate, pem::certificates)?;
        let key = in_file(key_key, key, pem::private_key)?;
        let (leaf, expires_at) = certificate::leaf_and_expiry(&chain)
            .ok_or_else(|| TlsFault::new(certificate_key, "holds a certificate that cannot be understood"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = certified_key(chain, key, provider.key_provider).map_err(|error| match error {
            Unusable::NotItsKey => {
                TlsFault::new(key_key, format!("is not the key of the certificate in {certificate_key}"))
            }
            Unusable::Key(why) => TlsFault::new(key_key, why),
            Unusable::Certificate(why) => TlsFault::new(certificate_key, why),
        })?;
        let shown = Arc::new(SingleCertAndKey::from(identity));
        Ok(Self { shown, provider, certificate: leaf, expires_at })
    }
}

fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
    match least {
        TlsVersion::V12 => &ALL,
        TlsVersion::V13 => ALL.get(..1).unwrap_or_default(),
    }
}

/// Asks for certificates of clients where there is somebody to vouch for them.
fn client_verifier(
    settings: &ListenTls,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>, TlsFault> {
    const CA: &str = "listen.tls.client_ca";
    let Some(path) = &settings.client_ca else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in in_file(CA, path, pem::certificates)? {
        roots.add(certificate).map_err(|error| TlsFault::new(CA, error.to_string()))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !matches!(settings.mode, Mode::VerifyCa | Mode::VerifyFull) {
        // As in PostgreSQL: who shows none may come in, and who shows a bad one may not.
        builder = builder.allow_unauthenticated();
    }
    if let Some(path) = &settings.client_crl {
        builder = builder
            .with_crls(in_file("listen.tls.client_crl", path, pem::revocation_lists)?)
            .enforce_revocation_expiration();
    }
    builder.build().map(Some).map_err(|error| {
        TlsFault::new(
            if settings.client_crl.is_some() { "listen.tls.client_crl" } else { CA },
            error.to_string(),
        )
    })
}

/// Whom a certificate names. It was verified before, so it can be understood; else it names nobody.
fn names(der: &CertificateDer<'_>) -> CertificateNames {
    certificate::names(der).unwrap_or_else(|| CertificateNames { subject: String::new(), common_name: None })
}

/// As OpenSSL names it, and so PostgreSQL's `pg_stat_ssl`.
pub(crate) fn version_name(connection: &Connection) -> &'static str {
    match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "unknown",
    }
}

/// As OpenSSL names it, and so PostgreSQL's `pg_stat_ssl`.
pub(crate) fn cipher_name(connection: &Connection) -> &'static str {
    use rustls::CipherSuite as Suite;
    match connection.negotiated_cipher_suite().map(|suite| suite.suite()) {
        Some(Suite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(Suite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(Suite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        Some(Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384) => "ECDHE-ECDSA-AES256-GCM-SHA384",
        Some(Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) => "ECDHE-ECDSA-AES128-GCM-SHA256",
        Some(Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256) => "ECDHE-ECDSA-CHACHA20-POLY1305",
        Some(Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) => "ECDHE-RSA-AES256-GCM-SHA384",
        Some(Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) => "ECDHE-RSA-AES128-GCM-SHA256",
        Some(Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256) => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "unknown",
    }
}
