//! What `pg_authid.rolpassword` holds: enough to check a password, not the password.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::keys::{self, Key, ScramKeys};
use super::{DEFAULT_ITERATIONS, DEFAULT_SALT_LEN, md5};

/// Bounds of what is taken for a verifier. The clients pay for the iterations, not pgherd; yet a count beyond this
/// would keep any of them busy for seconds at each login, and is not a setting but damage.
const MAX_ITERATIONS: u32 = 10_000_000;
const MAX_SALT_LEN: usize = 512;
const MD5_HEX_LEN: usize = 32;

/// A role's stored password.
#[derive(Clone, PartialEq, Eq)]
pub enum Verifier {
    /// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`
    Scram(ScramVerifier),
    /// `md5` and the hash of password and role name.
    Md5(Md5Verifier),
}

impl Verifier {
    /// Reads the column. `None` for anything else: nobody can log in with that.
    #[must_use]
    pub fn parse(rolpassword: &str) -> Option<Self> {
        match rolpassword.strip_prefix("SCRAM-SHA-256$") {
            Some(rest) => ScramVerifier::parse(rest).map(Self::Scram),
            None => Md5Verifier::parse(rolpassword).map(Self::Md5),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scram(_) => "Verifier(scram)",
            Self::Md5(_) => "Verifier(md5)",
        })
    }
}

/// A SCRAM-SHA-256 verifier (RFC 5803 in PostgreSQL's form).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    pub(super) salt: Box<[u8]>,
    pub(super) iterations: u32,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

impl ScramVerifier {
    /// The verifier that the server would store for this password.
    #[must_use]
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let keys = ScramKeys::from_password(password, salt, iterations);
        Self { salt: keys.salt, iterations, stored_key: keys.client_key.hash(), server_key: keys.server_key }
    }

    /// The keys of a password, if it is the one that this verifier is of. The cost grows with the iterations.
    #[must_use]
    pub fn keys_of(&self, password: &[u8]) -> Option<ScramKeys> {
        let keys = ScramKeys::from_password(password, &self.salt, self.iterations);
        keys.fit(self).then_some(keys)
    }

    /// The text of the column `rolpassword`.
    #[must_use]
    pub fn to_rolpassword(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(self.stored_key.bytes()),
            BASE64.encode(self.server_key.bytes())
        ))
    }

    /// A verifier for a password that is known as it is. Its salt is the one that this user would be shown if it did not exist,
    /// so that nothing tells the one from the other.
    #[must_use]
    pub fn of_known_password(user: &str, password: &[u8], secret: &[u8; 32]) -> Self {
        Self::from_password(password, &mock_salt(user, secret), DEFAULT_ITERATIONS)
    }

    /// A verifier for a user that has none: it looks real, stays the same for a user as long as `secret` does, and no
    /// password fits it.
    #[must_use]
    pub fn mock(user: &str, secret: &[u8; 32]) -> Self {
        Self {
            salt: mock_salt(user, secret),
            iterations: DEFAULT_ITERATIONS,
            stored_key: Key::new([0; keys::KEY_LEN]),
            server_key: Key::new([0; keys::KEY_LEN]),
        }
    }

    fn parse(rest: &str) -> Option<Self> {
        let (iterations_and_salt, keys) = rest.split_once('$')?;
        let (iterations, salt) = iterations_and_salt.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations = decimal(iterations).filter(|count| (1..=MAX_ITERATIONS).contains(count))?;
        let salt = BASE64.decode(salt).ok().filter(|salt| (1..=MAX_SALT_LEN).contains(&salt.len()))?;
        Some(Self {
            salt: salt.into(),
            iterations,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(..)")
    }
}

/// The hexadecimal md5 of password and role name. Whoever has it can log in, as with the password.
#[derive(Clone)]
pub struct Md5Verifier {
    pub(super) hex: Zeroizing<[u8; MD5_HEX_LEN]>,
}

impl Md5Verifier {
    /// The verifier that the server would store for this password of this role.
    #[must_use]
    pub fn from_password(user: &str, password: &[u8]) -> Self {
        Self { hex: Zeroizing::new(md5::hex_digest(&[password, user.as_bytes()])) }
    }

    fn parse(rolpassword: &str) -> Option<Self> {
        let hex: [u8; MD5_HEX_LEN] = rolpassword.strip_prefix("md5")?.as_bytes().try_into().ok()?;
        let lower_hex = hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        lower_hex.then(|| Self { hex: Zeroizing::new(hex) })
    }
}

impl PartialEq for Md5Verifier {
    fn eq(&self, other: &Self) -> bool {
        self.hex.ct_eq(&*other.hex).into()
    }
}

impl Eq for Md5Verifier {}

impl fmt::Debug for Md5Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Verifier(..)")
    }
}

/// A positive decimal number without sign or space.
pub(super) fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A secret for the salts of users that do not exist, which is the same for all who serve this cluster, and after a restart. Who
/// may log in there can find it out, and sees all users anyway; guessing it takes as long as guessing a password.
#[must_use]
pub fn mock_secret(system_identifier: u64) -> [u8; 32] {
    const ITERATIONS: u32 = 100_000;
    pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(&system_identifier.to_be_bytes(), b"pgherd", ITERATIONS)
}

fn mock_salt(user: &str, secret: &[u8; 32]) -> Box<[u8]> {
    keys::hmac(secret, &[user.as_bytes()]).bytes().iter().copied().take(DEFAULT_SALT_LEN).collect()
}

fn key(base64: &str) -> Option<Key> {
    let bytes = Zeroizing::new(BASE64.decode(base64).ok()?);
    Key::from_slice(&bytes)
}
