//! SCRAM's arithmetic, and the keys that it makes.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use super::ScramVerifier;

/// Length of every SCRAM-SHA-256 key, in bytes.
pub(super) const KEY_LEN: usize = 32;

/// Block length of SHA-256: HMAC pads shorter keys with zeros to it and hashes longer ones (RFC 2104).
const BLOCK_LEN: usize = 64;

/// 32 secret bytes: compared in constant time, wiped when dropped, never printed.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; KEY_LEN]>);

impl Key {
    pub(super) fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        <[u8; KEY_LEN]>::try_from(bytes).ok().map(Self::new)
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// HMAC(self, parts joined).
    pub(super) fn hmac(&self, parts: &[&[u8]]) -> Self {
        hmac(self.bytes(), parts)
    }

    /// H(self): StoredKey of a ClientKey.
    pub(super) fn hash(&self) -> Self {
        Self::new(Sha256::digest(self.bytes()).into())
    }

    pub(super) fn xor(&self, other: &Self) -> Self {
        let mut bytes = *self.bytes();
        for (byte, other) in bytes.iter_mut().zip(other.bytes()) {
            *byte ^= other;
        }
        Self::new(bytes)
    }
}

impl ConstantTimeEq for Key {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.bytes().ct_eq(other.bytes())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a client's proof gives away to who holds the verifier: enough to log in as this client wherever the same
/// verifier is stored, though not the password. Worth as much as the password; keep it in memory only.
#[derive(Clone)]
pub struct ScramKeys {
    pub(super) client_key: Key,
    pub(super) server_key: Key,
    pub(super) salt: Box<[u8]>,
    pub(super) iterations: u32,
}

impl ScramKeys {
    /// Computes the keys of a password. The cost grows with `iterations`.
    #[must_use]
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = salted_password(password, salt, iterations);
        Self {
            client_key: salted.hmac(&[b"Client Key"]),
            server_key: salted.hmac(&[b"Server Key"]),
            salt: salt.into(),
            iterations,
        }
    }

    /// Whether these keys still open what this verifier locks. False after the password was changed.
    #[must_use]
    pub fn fit(&self, verifier: &ScramVerifier) -> bool {
        let keys =
            self.client_key.hash().ct_eq(&verifier.stored_key) & self.server_key.ct_eq(&verifier.server_key);
        self.salt == verifier.salt && self.iterations == verifier.iterations && bool::from(keys)
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(..)")
    }
}

/// HMAC-SHA-256 over the parts joined, with a key of any length.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut block = Zeroizing::new([0; BLOCK_LEN]);
    if key.len() > BLOCK_LEN {
        let mut digest: [u8; KEY_LEN] = Sha256::digest(key).into();
        fill(&mut block, &digest);
        digest.zeroize();
    } else {
        fill(&mut block, key);
    }
    let mut mac = Hmac::<Sha256>::new(&(*block).into());
    for part in parts {
        mac.update(part);
    }
    Key::new(mac.finalize().into_bytes().into())
}

fn fill(block: &mut [u8; BLOCK_LEN], bytes: &[u8]) {
    for (to, from) in block.iter_mut().zip(bytes) {
        *to = *from;
    }
}

fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let prepared = prepared_password(password);
    Key::new(pbkdf2::pbkdf2_hmac_array::<Sha256, KEY_LEN>(&prepared, salt, iterations))
}

/// SASLprep, or the bytes as they are where it does not apply: no UTF-8, a prohibited character, or nothing left of
/// it (`pg_saslprep` and its callers).
fn prepared_password(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    match prepared {
        Some(text) if !text.is_empty() => Zeroizing::new(text.into_owned().into_bytes()),
        _ => Zeroizing::new(password.to_vec()),
    }
}
