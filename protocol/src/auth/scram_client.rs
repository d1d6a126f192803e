//! The client's half of SCRAM-SHA-256: pgherd towards a PostgreSQL server.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::attributes::is_nonce;
use super::channel_binding::repeated;
use super::keys::{Key, ScramKeys};
use super::verifier::decimal;
use super::{ClientBinding, LoginError, MAX_SASL_MESSAGE, Mechanism, NONCE_LEN};

/// Most iterations that are computed for a password. About a second of one processor.
const MAX_ITERATIONS: u32 = 1_000_000;

/// What proves who we are.
#[derive(Clone)]
pub enum ScramSecret {
    /// Keys won from a client's proof: cheap, and good only for the very verifier that they come from.
    Keys(ScramKeys),
    /// The password.
    Password(Zeroizing<Vec<u8>>),
}

impl fmt::Debug for ScramSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramSecret(..)")
    }
}

/// An exchange that awaits the server's first message.
pub struct ScramClient {
    secret: ScramSecret,
    nonce: String,
    gs2_header: &'static str,
    /// What `c=` says.
    channel_binding: String,
}

/// An exchange that awaits the server's final message.
pub struct ScramClientFinal {
    server_signature: Key,
}

impl ScramClient {
    /// Starts an exchange with random bytes for the nonce.
    #[must_use]
    pub fn new(secret: ScramSecret, nonce: &[u8; NONCE_LEN]) -> Self {
        Self::bound(secret, nonce, &ClientBinding::default(), Mechanism::Scram)
    }

    /// Starts an exchange by this mechanism, which says whether it is bound to its connection.
    #[must_use]
    pub fn bound(
        secret: ScramSecret,
        nonce: &[u8; NONCE_LEN],
        binding: &ClientBinding,
        mechanism: Mechanism,
    ) -> Self {
        let (gs2_header, end_point) = binding.header(mechanism);
        let channel_binding = repeated(gs2_header, end_point);
        Self { secret, nonce: BASE64.encode(nonce), gs2_header, channel_binding }
    }

    /// The client's first message. The user name in it is empty, as libpq sends it: PostgreSQL takes the startup packet's.
    #[must_use]
    pub fn client_first(&self) -> Vec<u8> {
        format!("{}{}", self.gs2_header, self.client_first_bare()).into_bytes()
    }

    /// Takes the server's first message; gives the client's final message and the next state.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub fn server_first(self, message: &[u8]) -> Result<(Vec<u8>, ScramClientFinal), LoginError> {
        let challenge = Challenge::parse(message)?;
        let server_part = challenge.nonce.strip_prefix(self.nonce.as_str());
        if server_part.is_none_or(str::is_empty) {
            return Err(LoginError::NonceMismatch);
        }
        let client_first_bare = self.client_first_bare();
        let keys = keys_for(self.secret, &challenge)?;
        let without_proof = format!("c={},r={}", self.channel_binding, challenge.nonce);
        let auth_message: [&[u8]; 5] =
            [client_first_bare.as_bytes(), b",", message, b",", without_proof.as_bytes()];
        let signature = keys.client_key.hash().hmac(&auth_message);
        let proof = keys.client_key.xor(&signature);
        let client_final = format!("{without_proof},p={}", BASE64.encode(proof.bytes())).into_bytes();
        Ok((client_final, ScramClientFinal { server_signature: keys.server_key.hmac(&auth_message) }))
    }

    fn client_first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }
}

impl ScramClientFinal {
    /// Takes the server's final message, which must prove that the server knows the verifier.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub fn server_final(self, message: &[u8]) -> Result<(), LoginError> {
        if message.starts_with(b"e=") {
            return Err(LoginError::Refused);
        }
        let signature = message
            .strip_prefix(b"v=")
            .and_then(|signature| BASE64.decode(signature).ok())
            .and_then(|signature| Key::from_slice(&signature))
            .ok_or(LoginError::Malformed("server-final-message"))?;
        if bool::from(signature.ct_eq(&self.server_signature)) {
            Ok(())
        } else {
            Err(LoginError::ServerNotAuthentic)
        }
    }
}

fn keys_for(secret: ScramSecret, challenge: &Challenge<'_>) -> Result<ScramKeys, LoginError> {
    match secret {
        ScramSecret::Keys(keys)
            if *keys.salt == *challenge.salt && keys.iterations == challenge.iterations =>
        {
            Ok(keys)
        }
        ScramSecret::Keys(_) => Err(LoginError::VerifierChanged),
        ScramSecret::Password(_) if challenge.iterations > MAX_ITERATIONS => {
            Err(LoginError::TooManyIterations(challenge.iterations))
        }
        ScramSecret::Password(password) => {
            Ok(ScramKeys::from_password(&password, &challenge.salt, challenge.iterations))
        }
    }
}

/// The server's first message: `r=nonce,s=salt,i=iterations` and nothing after it.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> Challenge<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, LoginError> {
        const MALFORMED: LoginError = LoginError::Malformed("server-first-message");
        if message.len() > MAX_SASL_MESSAGE {
            return Err(MALFORMED);
        }
        let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let mut attributes = text.split(',');
        let mut value = |name: &str| attributes.next().and_then(|attribute| attribute.strip_prefix(name));
        let nonce = value("r=").filter(|nonce| is_nonce(nonce.as_bytes())).ok_or(MALFORMED)?;
        let salt = value("s=").and_then(|salt| BASE64.decode(salt).ok()).ok_or(MALFORMED)?;
        let iterations = value("i=").and_then(decimal).filter(|&count| count > 0).ok_or(MALFORMED)?;
        if attributes.next().is_some() || salt.is_empty() {
            return Err(MALFORMED);
        }
        Ok(Self { nonce, salt, iterations })
    }
}
