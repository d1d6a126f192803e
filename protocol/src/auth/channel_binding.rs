//! Binding a login to the TLS connection that it comes over (RFC 5802, section 6; type `tls-server-end-point` of RFC 5929).
//!
//! Both sides put the hash of the server's certificate into what they sign: a login that somebody between the two passes on
//! from one TLS connection to another fails. What is called end point here is that hash.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{SASL_MECHANISMS, SASL_MECHANISMS_PLUS, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

/// The gs2 header of a login that is bound.
pub(super) const BOUND: &str = "p=tls-server-end-point,,";

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256
    Scram,
    /// SCRAM-SHA-256-PLUS
    ScramPlus,
}

impl Mechanism {
    /// Its name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scram => SCRAM_SHA_256,
            Self::ScramPlus => SCRAM_SHA_256_PLUS,
        }
    }
}

/// What a client's login can be bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Channel {
    /// Nothing: no TLS, or a certificate whose signature has no hash of its own (Ed25519).
    #[default]
    Unbindable,
    /// The TLS connection that it comes over.
    EndPoint(Box<[u8]>),
}

impl Channel {
    /// The mechanisms to offer (see [`SASL_MECHANISMS`]).
    #[must_use]
    pub const fn mechanisms(&self) -> &'static [u8] {
        match self {
            Self::Unbindable => SASL_MECHANISMS,
            Self::EndPoint(_) => SASL_MECHANISMS_PLUS,
        }
    }

    /// What a login by this mechanism is bound to.
    pub(super) fn chosen(&self, mechanism: Mechanism) -> Option<&[u8]> {
        match (self, mechanism) {
            (Self::EndPoint(end_point), Mechanism::ScramPlus) => Some(end_point),
            _ => None,
        }
    }
}

/// Whether pgherd's login at a server is to be bound to its connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientBinding {
    /// The connection has TLS.
    pub tls: bool,
    /// What to bind to; none where it is not wanted or cannot be.
    pub end_point: Option<Box<[u8]>>,
    /// A login that is not bound is not wanted.
    pub required: bool,
}

impl ClientBinding {
    /// The gs2 header and what is bound. `y` tells a server that offered no binding that we could have, so that it finds out
    /// if somebody took it from the offer.
    pub(super) fn header(&self, mechanism: Mechanism) -> (&'static str, &[u8]) {
        match (&self.end_point, mechanism) {
            (Some(end_point), Mechanism::ScramPlus) => (BOUND, end_point),
            (Some(_), Mechanism::Scram) => ("y,,", &[]),
            (None, _) => ("n,,", &[]),
        }
    }
}

/// The value of `c=` in the client's final message.
pub(super) fn repeated(header: &str, end_point: &[u8]) -> String {
    BASE64.encode([header.as_bytes(), end_point].concat())
}
