//! Which connections are tried with TLS and which without, and in what order.

/// What asks a server for TLS: an SSLRequest packet.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Never with TLS.
    Disable,
    /// Without; with, if the server refuses the login without.
    Allow,
    /// With; without, if the server has none, the handshake fails, or the server refuses the login over TLS.
    #[default]
    Prefer,
    /// With or not at all. The server's certificate is verified only where authorities are given.
    Require,
    /// As [`Self::Require`], and the certificate must be signed by one of the authorities.
    VerifyCa,
    /// As [`Self::VerifyCa`], and the certificate must be the host's.
    VerifyFull,
}

/// How a connection is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Without TLS.
    Plain,
    /// Ask for TLS.
    Tls,
}

/// Where an attempt failed that may go better otherwise. A server that cannot be reached is no such failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// In the TLS handshake, the server's certificate included.
    Handshake,
    /// The server has no TLS, and nothing else is to be tried.
    NoTls,
    /// The server refused the login: see [`is_refusal`].
    Login,
}

impl Mode {
    /// The first attempt.
    #[must_use]
    pub const fn first(self) -> Attempt {
        match self {
            Self::Disable | Self::Allow => Attempt::Plain,
            Self::Prefer | Self::Require | Self::VerifyCa | Self::VerifyFull => Attempt::Tls,
        }
    }

    /// The next attempt, on a new connection to the same address, after this one failed.
    #[must_use]
    pub const fn after(self, attempt: Attempt, failure: Failure) -> Option<Attempt> {
        match (self, attempt, failure) {
            (Self::Allow, Attempt::Plain, Failure::Login) => Some(Attempt::Tls),
            (Self::Prefer, Attempt::Tls, Failure::Handshake | Failure::Login) => Some(Attempt::Plain),
            _ => None,
        }
    }

    /// Whether the connection goes on without TLS when the server has none.
    #[must_use]
    pub const fn goes_on_without(self) -> bool {
        matches!(self, Self::Prefer)
    }

    /// Its name in libpq's connection strings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// True if an ErrorResponse with this SQLSTATE may not come on a connection with TLS where this one had none, or the reverse:
/// class 28, to which belong all that `pg_hba.conf` and authentication say. libpq tries again after any error; others
/// (starting up, too many connections) are the same on both.
#[must_use]
pub fn is_refusal(sqlstate: &[u8]) -> bool {
    sqlstate.starts_with(b"28")
}

/// A server's answer to [`SSL_REQUEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The handshake begins.
    Tls,
    /// It has no TLS; the connection can go on without.
    NoTls,
    /// An error, which nobody has vouched for, or no PostgreSQL at all. The connection is of no use.
    Other,
}

impl Answer {
    /// Of the one byte that must be read, and no more: what follows belongs to the handshake.
    #[must_use]
    pub const fn of(byte: u8) -> Self {
        match byte {
            b'S' => Self::Tls,
            b'N' => Self::NoTls,
            _ => Self::Other,
        }
    }
}
