//! The server's half of SCRAM-SHA-256: pgherd towards its clients.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq;

use super::attributes::{Attributes, is_nonce, printable, sanitized};
use super::channel_binding::{BOUND, repeated};
use super::keys::{Key, ScramKeys};
use super::{AuthError, Channel, Mechanism, NONCE_LEN, ScramVerifier};

/// An exchange that awaits the client's first message.
pub struct ScramServer {
    verifier: ScramVerifier,
    doomed: bool,
    server_nonce: String,
    channel: Channel,
    mechanism: Mechanism,
}

/// An exchange that awaits the client's final message.
pub struct ScramServerFinal {
    verifier: ScramVerifier,
    doomed: bool,
    /// What `c=` must repeat: in base64, the gs2 header and what the login is bound to.
    channel_binding: String,
    is_bound: bool,
    nonce: Vec<u8>,
    client_first_bare: Vec<u8>,
    server_first: Vec<u8>,
}

impl ScramServer {
    /// Starts an exchange with random bytes for the nonce. Without a verifier (no such user, no password, expired) it
    /// runs to its end all the same and then fails, so that nobody learns which users exist; `mock_secret` is
    /// random and stays the same for the life of the process.
    #[must_use]
    pub fn new(
        verifier: Option<&ScramVerifier>,
        user: &str,
        mock_secret: &[u8; 32],
        nonce: &[u8; NONCE_LEN],
    ) -> Self {
        // Computed for real users too: the same work in both cases.
        let mock = ScramVerifier::mock(user, mock_secret);
        Self {
            doomed: verifier.is_none(),
            verifier: verifier.cloned().unwrap_or(mock),
            server_nonce: BASE64.encode(nonce),
            channel: Channel::Unbindable,
            mechanism: Mechanism::Scram,
        }
    }

    /// With the channel that the mechanisms were offered for, and the one of them that the client chose.
    #[must_use]
    pub fn over(self, channel: Channel, mechanism: Mechanism) -> Self {
        Self { channel, mechanism, ..self }
    }

    /// With a nonce as published test vectors have it.
    #[cfg(test)]
    pub(super) fn with_nonce_text(verifier: &ScramVerifier, nonce: &str) -> Self {
        let server = Self::new(Some(verifier), "", &[0; 32], &[0; NONCE_LEN]);
        Self { server_nonce: nonce.to_owned(), ..server }
    }

    /// As for a user without a verifier, yet with one, so that only the doom can refuse the right password.
    #[cfg(test)]
    pub(super) fn doomed(self) -> Self {
        Self { doomed: true, ..self }
    }

    /// Takes the client's first message; gives the payload of AuthenticationSASLContinue and the next state.
    ///
    /// # Errors
    /// The protocol error that PostgreSQL raises for such a message.
    pub fn first(self, client_first: &[u8]) -> Result<(Vec<u8>, ScramServerFinal), AuthError> {
        let mut message = Attributes::new(client_first)?;
        let header = self.gs2_header(&mut message)?;
        let bare = message.rest();
        if message.peek() == b'm' {
            return Err(AuthError::unsupported("client requires an unsupported SCRAM extension"));
        }
        // The name is that of the startup packet; what stands here is ignored.
        message.value(b'n')?;
        let client_nonce = message.value(b'r')?;
        if !is_nonce(client_nonce) {
            return Err(AuthError::violation("non-printable characters in SCRAM nonce"));
        }
        while !message.rest().is_empty() {
            message.any()?;
        }
        let nonce = [client_nonce, self.server_nonce.as_bytes()].concat();
        let salt_and_count =
            format!(",s={},i={}", BASE64.encode(&self.verifier.salt), self.verifier.iterations);
        let server_first = [b"r=", nonce.as_slice(), salt_and_count.as_bytes()].concat();
        let bound_to = self.channel.chosen(self.mechanism);
        let next = ScramServerFinal {
            verifier: self.verifier,
            doomed: self.doomed,
            channel_binding: repeated(header, bound_to.unwrap_or_default()),
            is_bound: bound_to.is_some(),
            nonce,
            client_first_bare: bare.to_vec(),
            server_first: server_first.clone(),
        };
        Ok((server_first, next))
    }

    /// Reads the gs2 header; gives what the final message must repeat of it.
    fn gs2_header(&self, message: &mut Attributes<'_>) -> Result<&'static str, AuthError> {
        let is_plus = self.channel.chosen(self.mechanism).is_some();
        let header = match message.peek() {
            b'n' | b'y' if is_plus => {
                return Err(AuthError::malformed(
                    "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
                ));
            }
            b'y' if self.channel != Channel::Unbindable => return Err(AuthError::downgraded()),
            b'n' => "n,,",
            b'y' => "y,,",
            b'p' if is_plus => BOUND,
            b'p' => {
                return Err(AuthError::malformed(
                    "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
                ));
            }
            flag => {
                let flag = printable(flag);
                return Err(AuthError::malformed(format!("Unexpected channel-binding flag \"{flag}\".")));
            }
        };
        if is_plus {
            let kind = message.value(b'p')?;
            if kind != b"tls-server-end-point" {
                let kind = sanitized(kind);
                return Err(AuthError::violation(format!(
                    "unsupported SCRAM channel-binding type \"{kind}\""
                )));
            }
        } else {
            message.skip();
            if message.peek() != b',' {
                let found = printable(message.peek());
                return Err(AuthError::malformed(format!(
                    "Comma expected, but found character \"{found}\"."
                )));
            }
            message.skip();
        }
        no_authorization_identity(message)?;
        Ok(header)
    }
}

impl ScramServerFinal {
    /// Takes the client's final message. On success gives the payload of AuthenticationSASLFinal and the keys that
    /// log this client in at the servers.
    ///
    /// # Errors
    /// [`AuthError::Failed`] for a wrong password; otherwise the protocol error that PostgreSQL raises.
    pub fn finish(self, client_final: &[u8]) -> Result<(Vec<u8>, ScramKeys), AuthError> {
        let (without_proof, proof) = self.parse_final(client_final)?;
        let auth_message: [&[u8]; 5] =
            [&self.client_first_bare, b",", &self.server_first, b",", without_proof];
        let client_key = proof.xor(&self.verifier.stored_key.hmac(&auth_message));
        let proven = client_key.hash().ct_eq(&self.verifier.stored_key);
        // The proof is computed for a doomed exchange too, so that it takes as long as a real one.
        if !bool::from(proven) || self.doomed {
            return Err(AuthError::Failed);
        }
        let signature = self.verifier.server_key.hmac(&auth_message);
        let server_final = format!("v={}", BASE64.encode(signature.bytes())).into_bytes();
        let keys = ScramKeys {
            client_key,
            server_key: self.verifier.server_key,
            salt: self.verifier.salt,
            iterations: self.verifier.iterations,
        };
        Ok((server_final, keys))
    }

    fn parse_final<'a>(&self, client_final: &'a [u8]) -> Result<(&'a [u8], Key), AuthError> {
        let mut message = Attributes::new(client_final)?;
        if message.value(b'c')? != self.channel_binding.as_bytes() {
            if self.is_bound {
                return Err(AuthError::wrong_channel());
            }
            return Err(AuthError::violation(
                "unexpected SCRAM channel-binding attribute in client-final-message",
            ));
        }
        let nonce = message.value(b'r')?;
        let (without_proof, proof) = loop {
            // The comma before an attribute does not belong to what comes before it.
            let before = (client_final.len() - message.rest().len()).saturating_sub(1);
            if let (b'p', value) = message.any()? {
                break (client_final.get(..before).unwrap_or_default(), value);
            }
        };
        let proof = BASE64.decode(proof).ok().and_then(|proof| Key::from_slice(&proof));
        let Some(proof) = proof else {
            return Err(AuthError::malformed("Malformed proof in client-final-message."));
        };
        if !message.rest().is_empty() {
            return Err(AuthError::malformed("Garbage found at the end of client-final-message."));
        }
        if nonce != self.nonce {
            return Err(AuthError::nonce_mismatch());
        }
        Ok((without_proof, proof))
    }
}

/// Reads the second part of the gs2 header, which must be empty.
fn no_authorization_identity(message: &mut Attributes<'_>) -> Result<(), AuthError> {
    match message.peek() {
        b',' => {
            message.skip();
            Ok(())
        }
        b'a' => Err(AuthError::unsupported("client uses authorization identity, but it is not supported")),
        found => {
            let found = printable(found);
            Err(AuthError::malformed(format!("Unexpected attribute \"{found}\" in client-first-message.")))
        }
    }
}
