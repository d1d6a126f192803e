//! What can go wrong at a login, on either side. No variant carries a secret.

use std::borrow::Cow;

use thiserror::Error;

const PROTOCOL_VIOLATION: &str = "08P01";
const FEATURE_NOT_SUPPORTED: &str = "0A000";
const INVALID_AUTHORIZATION: &str = "28000";
const INVALID_PASSWORD: &str = "28P01";

/// Why a client's login at pgherd ends. Always the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthError {
    /// The client broke the protocol; message, detail and SQLSTATE are those that PostgreSQL sends.
    #[error("{message}")]
    Protocol {
        /// SQLSTATE, five characters.
        sqlstate: &'static str,
        /// Primary message. Printable ASCII, whatever the client sent.
        message: Cow<'static, str>,
        /// Detail line. Printable ASCII, whatever the client sent.
        detail: Option<String>,
    },
    /// Wrong password, or a user that does not exist or has none: which of these is not told to anybody.
    #[error("password authentication failed")]
    Failed,
}

impl AuthError {
    /// SQLSTATE for the client.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Protocol { sqlstate, .. } => sqlstate,
            Self::Failed => INVALID_PASSWORD,
        }
    }

    /// Detail line for the client.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Protocol { detail, .. } => detail.as_deref(),
            Self::Failed => None,
        }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::Protocol {
            sqlstate: PROTOCOL_VIOLATION,
            message: "malformed SCRAM message".into(),
            detail: Some(detail.into()),
        }
    }

    pub(super) fn violation(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Protocol { sqlstate: PROTOCOL_VIOLATION, message: message.into(), detail: None }
    }

    pub(super) fn unsupported(message: &'static str) -> Self {
        Self::Protocol { sqlstate: FEATURE_NOT_SUPPORTED, message: message.into(), detail: None }
    }

    /// The client believes that channel binding is not to be had here: somebody between took it out of the offer.
    pub(super) fn downgraded() -> Self {
        const DETAIL: &str = "The client supports SCRAM channel binding but thinks the server does not.  \
                              However, this server does support channel binding.";
        Self::Protocol {
            sqlstate: INVALID_AUTHORIZATION,
            message: "SCRAM channel binding negotiation error".into(),
            detail: Some(DETAIL.to_owned()),
        }
    }

    /// The client's login is bound to another TLS connection than this one: somebody stands between.
    pub(super) fn wrong_channel() -> Self {
        Self::Protocol {
            sqlstate: INVALID_AUTHORIZATION,
            message: "SCRAM channel binding check failed".into(),
            detail: None,
        }
    }

    pub(super) fn nonce_mismatch() -> Self {
        Self::Protocol {
            sqlstate: PROTOCOL_VIOLATION,
            message: "invalid SCRAM response".into(),
            detail: Some("Nonce does not match.".to_owned()),
        }
    }

    pub(super) fn empty_password() -> Self {
        Self::Protocol {
            sqlstate: INVALID_PASSWORD,
            message: "empty password returned by client".into(),
            detail: None,
        }
    }
}

/// Why pgherd could not log in at a PostgreSQL server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The server's message is not what the protocol allows at this point.
    #[error("the server sent a malformed authentication message: {0}")]
    Malformed(&'static str),
    /// The server's nonce does not continue ours: the answer belongs to another exchange.
    #[error("the server's SCRAM nonce does not match")]
    NonceMismatch,
    /// More iterations than are computed for anybody (a hostile server could keep the processor busy).
    #[error("the server asks for {0} SCRAM iterations, which is too many")]
    TooManyIterations(u32),
    /// Salt or iterations are not those of the verifier that the client was checked against. The password was
    /// changed meanwhile, or this server has not replayed the change yet: read the verifier again.
    #[error("the password was changed since it was checked")]
    VerifierChanged,
    /// The server does not know the verifier either: it may be an impostor.
    #[error("the server could not prove that it knows the password")]
    ServerNotAuthentic,
    /// The server said no inside the SCRAM exchange (`e=`).
    #[error("the server refused the SCRAM exchange")]
    Refused,
    /// The server wants the password itself, and pgherd has only what can prove it.
    #[error(
        "the server asks for a password in clear text (method \"password\", ldap, pam or radius), which pgherd does not have"
    )]
    PasswordNeeded,
    /// The server asks for SCRAM and only an md5 hash is there, or the reverse.
    #[error("the server asks for {0}, for which this user's stored password cannot be used")]
    WrongKind(&'static str),
    /// There is nothing to log in with.
    #[error("the server asks for a password, and none is there")]
    NoCredential,
    /// The server's login cannot be bound to the TLS connection, and must be.
    #[error(
        "channel binding is required, but the server {0} (backends.tls.channel_binding = require needs TLS and scram-sha-256)"
    )]
    ChannelBindingRequired(&'static str),
    /// SCRAM-SHA-256-PLUS is offered where there is nothing to bind a login to: this is not the server's own connection.
    #[error("the server offered SCRAM-SHA-256-PLUS authentication over a connection without TLS")]
    PlusWithoutTls,
    /// A method that pgherd does not speak (GSSAPI, SSPI, Kerberos, or a SASL mechanism other than SCRAM-SHA-256).
    #[error("the server asks for an authentication method that is not supported (code {0})")]
    UnsupportedMethod(u32),
}
