//! All that a connection to a server needs to know of TLS.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, Error};

use crate::load::{self, LoadError, Settings, Subject};
use crate::negotiation::Mode;
use crate::verifier::Verifier;

/// libpq's `channel_binding`: whether a SCRAM login is bound to the TLS connection that it comes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// A login that is not bound fails.
    Require,
}

/// Settings whose files have been read.
pub struct ServerTls {
    settings: Settings,
    /// Of what is in the files.
    fingerprint: [u8; 32],
    config: Option<Arc<ClientConfig>>,
    /// Servers of which it was said that they are connected to without TLS, though they have it.
    told: Mutex<HashSet<String>>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or used, or the settings contradict each other.
    pub fn load(settings: Settings) -> Result<Self, LoadError> {
        let config = match settings.mode {
            Mode::Disable => None,
            _ => Some(Arc::new(config(&settings)?)),
        };
        let fingerprint = load::fingerprint(&settings);
        Ok(Self { settings, fingerprint, config, told: Mutex::default() })
    }

    /// Never with TLS.
    #[must_use]
    pub fn disabled() -> Self {
        let settings = Settings { mode: Mode::Disable, ..Settings::default() };
        Self { settings, fingerprint: [0; 32], config: None, told: Mutex::default() }
    }

    /// When TLS is used.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Whether logins are bound.
    #[must_use]
    pub const fn channel_binding(&self) -> ChannelBinding {
        self.settings.channel_binding
    }

    /// What was loaded.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// For the handshake with a host at this address: rustls' settings, and the name that the certificate is to have.
    ///
    /// # Errors
    /// When TLS is switched off, or the name must be verified and is none that a certificate could have.
    pub fn handshake(
        &self,
        host: &str,
        address: IpAddr,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), Error> {
        let config = self.config.clone().ok_or_else(|| Error::General("TLS is switched off".to_owned()))?;
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            Err(_) if self.settings.mode == Mode::VerifyFull => {
                return Err(Error::General(format!("{host} is no name that a certificate can have")));
            }
            Err(_) => ServerName::from(address),
        };
        Ok((config, name))
    }

    /// True the first time that it is asked of a server: what happens at each connect is said once.
    pub(crate) fn is_news_of(&self, server: &str) -> bool {
        let mut told = self.told.lock();
        !told.contains(server) && told.insert(server.to_owned())
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls").field(&self.settings).finish()
    }
}

/// Equal settings, and files that have not been changed in between.
impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.fingerprint == other.fingerprint
    }
}

impl Eq for ServerTls {}

fn config(settings: &Settings) -> Result<ClientConfig, LoadError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key_provider = provider.key_provider;
    let verifier = Verifier {
        trust: load::trust(settings)?,
        names: settings.mode == Mode::VerifyFull,
        algorithms: provider.signature_verification_algorithms,
    };
    // TLS 1.2 and 1.3.
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| LoadError::new(Subject::Mode, error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match load::identity(settings, key_provider)? {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
    };
    // PostgreSQL resumes no sessions, and one that is resumed would not be verified again.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

/// Why a handshake failed, for people.
#[must_use]
pub fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => {
            format!("certificate verify failed: {why}; see backends.tls.ca and backends.tls.mode")
        }
        Error::AlertReceived(alert) => format!("the server ended the TLS handshake: {alert:?}"),
        Error::General(why) => why.clone(),
        other => format!("TLS handshake failed: {other}"),
    }
}
