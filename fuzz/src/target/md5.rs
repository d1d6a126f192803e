//! The md5 challenge: the right password gets in, and nothing else; another implementation answers the same.

use pgherd_protocol::auth::md5::{check, password_message, response_to};
use pgherd_protocol::auth::{Md5Verifier, Verifier};
use postgres_protocol::authentication::md5_hash;

use crate::bytes::Bytes;

/// A role, its password, a salt, and what a client answers.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let (user, password) = (bytes.piece(), bytes.piece());
    let salt = bytes.word().to_be_bytes();
    let user = String::from_utf8_lossy(user);
    let verifier = Md5Verifier::from_password(&user, password);
    let right = md5_hash(user.as_bytes(), password, salt);
    assert_eq!(response_to(&verifier, salt).as_slice(), right.as_bytes());
    let right = [right.as_bytes(), &[0]].concat();
    assert!(check(&verifier, salt, &right).is_ok());
    let other_salt = [salt[0] ^ 1, salt[1], salt[2], salt[3]];
    assert!(check(&verifier, other_salt, &right).is_err(), "an answer is for one challenge");

    let answer = bytes.rest();
    assert_eq!(check(&verifier, salt, answer).is_ok(), *answer == *right);
    match password_message(answer) {
        Ok(text) => assert_eq!([text, &[0]].concat(), answer),
        Err(_) => assert!(
            answer.is_empty()
                || answer == [0]
                || answer.iter().position(|it| *it == 0) != Some(answer.len() - 1)
        ),
    }
    let stored = String::from_utf8_lossy(answer);
    if let Some(Verifier::Md5(_)) = Verifier::parse(&stored) {
        assert!(stored.len() == 35 && stored[3..].bytes().all(|it| it.is_ascii_hexdigit()), "{stored}");
    }
}
