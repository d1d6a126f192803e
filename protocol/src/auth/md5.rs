//! The md5 challenge, both sides. Weak, but what a role with an old verifier has.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{AuthError, Md5Verifier};

/// Checks a client's PasswordMessage payload against the challenge that was sent.
///
/// # Errors
/// [`AuthError::Failed`] for a wrong password; a protocol error for a payload that is none.
pub fn check(verifier: &Md5Verifier, salt: [u8; 4], payload: &[u8]) -> Result<(), AuthError> {
    let response = password_message(payload)?;
    let expected = response_to(verifier, salt);
    if bool::from(expected.as_slice().ct_eq(response)) { Ok(()) } else { Err(AuthError::Failed) }
}

/// The text that answers a challenge with these salt bytes: `md5` and 32 hexadecimal digits.
#[must_use]
pub fn response_to(verifier: &Md5Verifier, salt: [u8; 4]) -> Zeroizing<Vec<u8>> {
    let digest = Zeroizing::new(hex_digest(&[verifier.hex.as_slice(), &salt]));
    Zeroizing::new([b"md5".as_slice(), digest.as_slice()].concat())
}

/// The password in a PasswordMessage payload: a string that ends with the only zero byte.
///
/// # Errors
/// What PostgreSQL says to a payload of another form, and to an empty password.
pub fn password_message(payload: &[u8]) -> Result<&[u8], AuthError> {
    match payload.split_last() {
        Some((0, [])) => Err(AuthError::empty_password()),
        Some((0, password)) if !password.contains(&0) => Ok(password),
        _ => Err(AuthError::violation("invalid password packet size")),
    }
}

pub(super) fn hex_digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part);
    }
    let digest: [u8; 16] = hasher.finalize().into();
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
        if let [high, low] = pair {
            *high = hex_digit(byte >> 4);
            *low = hex_digit(byte & 15);
        }
    }
    hex
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}
