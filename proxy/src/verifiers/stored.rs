//! A password as a source keeps it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use pgherd_protocol::auth::{Credential, ScramVerifier, Verifier};
use zeroize::Zeroizing;

use crate::config::Secret;

/// A stored password: what it takes to check one, or the password itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored {
    /// As PostgreSQL stores it.
    Verifier(Verifier),
    /// In the clear, as a userlist may hold it.
    Plain(Arc<Plain>),
}

/// What PostgreSQL's views show instead of a password.
const HIDDEN: &str = "********";

impl Stored {
    /// Reads what a userlist or a query of the operator's own gives. None for an empty text, for what begins as a verifier and
    /// is none, and for what stands for a password where it is not shown (`pg_roles`, `pg_user`): nobody can log in with that.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(verifier) = Verifier::parse(text) {
            return Some(Self::Verifier(verifier));
        }
        let is_hash = text.starts_with("SCRAM-SHA-256$") || (text.starts_with("md5") && text.len() == 35);
        let is_plain = !text.is_empty() && text != HIDDEN && !is_hash;
        is_plain.then(|| Self::Plain(Arc::new(Plain::new(Secret::new(text.to_owned().into())))))
    }
}

/// A password in the clear, and the SCRAM verifier of it, which takes a while to compute.
pub(crate) struct Plain {
    password: Secret,
    scram: OnceLock<ScramVerifier>,
}

impl Plain {
    /// Takes the password; computes nothing yet.
    pub(crate) const fn new(password: Secret) -> Self {
        Self { password, scram: OnceLock::new() }
    }

    /// The password itself.
    #[cfg(test)]
    pub(crate) const fn password(&self) -> &Secret {
        &self.password
    }

    /// What logs this user in at the servers.
    pub(crate) fn credential(&self, user: &str) -> Credential {
        let password = Zeroizing::new(self.password.expose().as_bytes().to_vec());
        Credential::Password { user: user.to_owned(), password }
    }

    /// What a SCRAM login is checked against: computed at the first, for this user and with a salt that this secret makes.
    pub(crate) fn scram(&self, user: &str, mock_secret: &[u8; 32]) -> &ScramVerifier {
        let password = self.password.expose().as_bytes();
        self.scram.get_or_init(|| ScramVerifier::of_known_password(user, password, mock_secret))
    }
}

impl PartialEq for Plain {
    fn eq(&self, other: &Self) -> bool {
        self.password == other.password
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(..)")
    }
}
