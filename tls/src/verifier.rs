//! What rustls asks about a server's certificate.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme,
};

use crate::certificate::Certificate;
use crate::chain;
use crate::name::Names;

/// Whom to trust.
#[derive(Debug)]
pub(crate) struct Trust {
    /// For webpki.
    pub(crate) anchors: RootCertStore,
    /// The same for [`chain`].
    pub(crate) roots: Vec<Certificate>,
}

/// Verifies as much as the mode asks for.
#[derive(Debug)]
pub(crate) struct Verifier {
    /// The authorities; none where any certificate will do.
    pub(crate) trust: Option<Trust>,
    /// Whether the certificate must be the host's.
    pub(crate) names: bool,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let leaf = Certificate::parse(end_entity)?;
        if leaf.is_plain() {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &trust.anchors,
                intermediates,
                now,
                algorithms,
            )?;
        } else {
            let now = std::time::Duration::from_secs(now.as_secs());
            chain::verify(&leaf, intermediates, &trust.roots, now, self.algorithms.all)?;
        }
        let names = Names::of(&leaf.fields);
        if self.names && !names.cover(&server_name.to_str()) {
            let presented = names.shown();
            return Err(CertificateError::NotValidForNameContext {
                expected: server_name.to_owned(),
                presented,
            }
            .into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Not rustls' own, which takes no certificate of version 1.
        let certificate = Certificate::parse(cert)?;
        let known = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme);
        let Some((_, algorithms)) = known else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        match certificate.has_signed(message, dss.signature(), algorithms.iter()) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = Certificate::parse(cert)?;
        verify_tls13_signature_with_raw_key(message, &certificate.key(), dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
