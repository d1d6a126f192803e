//! Password authentication, both sides of it.
//!
//! Towards a client pgherd is the server ([`ScramServer`], [`md5`]); towards a PostgreSQL server it is the client
//! ([`Login`]). What joins the two is [`ScramKeys`]: a client that proves its password lets pgherd compute the key
//! that proves it again at the servers, so no password is ever known here or written down.
//!
//! Everything deals in payloads: tags and lengths of messages are the caller's. Random bytes are arguments.
//! The rules are those of RFC 5802, RFC 7677 and of PostgreSQL's `libpq/auth-scram.c` and `libpq/crypt.c`.

mod attributes;
mod channel_binding;
mod error;
mod initial_response;
mod keys;
mod login;
pub mod md5;
mod scram_client;
mod scram_server;
#[cfg(test)]
mod tests;
mod verifier;

pub use channel_binding::{Channel, ClientBinding, Mechanism};
pub use error::{AuthError, LoginError};
pub use initial_response::InitialResponse;
pub use keys::{Key, ScramKeys};
pub use login::{Credential, Login, LoginStep};
pub use scram_client::{ScramClient, ScramClientFinal, ScramSecret};
pub use scram_server::{ScramServer, ScramServerFinal};
pub use verifier::{Md5Verifier, ScramVerifier, Verifier, mock_secret};

/// The SASL mechanism that is offered and used on every connection.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// The same, bound to the TLS connection that it runs over (`tls-server-end-point` of RFC 5929).
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The list of mechanisms in AuthenticationSASL (what follows its code 10): each name ends with a zero, the list too.
pub const SASL_MECHANISMS: &[u8] = b"SCRAM-SHA-256\0\0";

/// The list where a login can be bound to its connection, in PostgreSQL's order.
pub const SASL_MECHANISMS_PLUS: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

/// Longest SASL message that is read from a peer, in bytes (PostgreSQL's `PG_MAX_SASL_MESSAGE_LENGTH`).
pub const MAX_SASL_MESSAGE: usize = 1024;

/// Random bytes of a nonce (PostgreSQL's `SCRAM_RAW_NONCE_LEN`).
pub const NONCE_LEN: usize = 18;

/// Iterations and salt length that PostgreSQL gives to new passwords, and to users that do not exist.
pub const DEFAULT_ITERATIONS: u32 = 4096;
/// See [`DEFAULT_ITERATIONS`].
pub const DEFAULT_SALT_LEN: usize = 16;
