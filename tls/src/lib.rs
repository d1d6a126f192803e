//! TLS towards the servers: what a mode means, whom to trust, and what a login is bound to.
//!
//! The rules are libpq's (`fe-connect.c`, `fe-secure-openssl.c`, `fe-secure-common.c`), so that what worked with a connection string works with pgherd.
//! Nothing here owns a socket: callers send [`SSL_REQUEST`], read the [`Answer`], and run the handshake with what
//! [`ServerTls`] gives them.

mod attempts;
mod certificate;
mod chain;
mod end_point;
mod load;
mod name;
mod negotiation;
pub mod pem;
mod server_tls;
#[cfg(test)]
mod tests;
mod verifier;

pub use attempts::Attempts;
pub use end_point::end_point;
pub use load::{Authorities, LoadError, Settings, Subject, Unusable, certified_key};
pub use negotiation::{Answer, Attempt, Failure, Mode, SSL_REQUEST, is_refusal};
pub use server_tls::{ChannelBinding, ServerTls, reason};
