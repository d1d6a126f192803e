//! TLS of `http.address`.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::tls::{Identity, TlsFault};

/// What browsers and scripts are offered (ALPN).
const PROTOCOL: &[u8] = b"http/1.1";

/// Reads the files.
///
/// # Errors
/// When one cannot be used; names its key.
pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsFault> {
    let Identity { shown, provider, .. } =
        Identity::load(("http.tls.cert", certificate), ("http.tls.key", key))?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFault::new("http.tls.cert", error.to_string()))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}
