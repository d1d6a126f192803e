//! Roles that still have an md5 verifier.

use proptest::prelude::*;

use super::*;
use crate::auth::{Credential, Login, LoginStep, Md5Verifier, Verifier, md5};

const SALT4: [u8; 4] = [0x93, 0x12, 0xaf, 0x00];

fn payload(verifier: &Md5Verifier, salt: [u8; 4]) -> Vec<u8> {
    [md5::response_to(verifier, salt).as_slice(), &[0]].concat()
}

#[test]
fn another_client_library_logs_in_with_md5() {
    let verifier = Md5Verifier::from_password("anna", b"pw");
    let response = postgres_protocol::authentication::md5_hash(b"anna", b"pw", SALT4);
    let payload = [response.as_bytes(), &[0]].concat();
    assert_eq!(md5::check(&verifier, SALT4, &payload), Ok(()));
}

#[test]
fn a_wrong_password_user_or_salt_is_refused() {
    let verifier = Md5Verifier::from_password("anna", b"pw");
    let wrong = Md5Verifier::from_password("anna", b"pW");
    let other = Md5Verifier::from_password("bert", b"pw");
    assert_eq!(md5::check(&verifier, SALT4, &payload(&wrong, SALT4)), Err(AuthError::Failed));
    assert_eq!(md5::check(&verifier, SALT4, &payload(&other, SALT4)), Err(AuthError::Failed));
    assert_eq!(md5::check(&verifier, [0; 4], &payload(&verifier, SALT4)), Err(AuthError::Failed));
}

#[test]
fn the_stored_hash_itself_is_not_a_password() {
    let verifier = Md5Verifier::from_password("anna", b"pw");
    let stored = [b"md5".as_slice(), verifier.hex.as_slice(), &[0]].concat();
    assert_eq!(md5::check(&verifier, SALT4, &stored), Err(AuthError::Failed));
}

#[test]
fn a_broken_password_message_is_refused_as_postgresql_does() {
    let verifier = Md5Verifier::from_password("anna", b"pw");
    let refused = |payload: &[u8]| described(md5::check(&verifier, SALT4, payload).unwrap_err());
    for broken in [b"".as_slice(), b"abc", b"a\0b\0", b"\0\0"] {
        assert_eq!(refused(broken), ("08P01".into(), "invalid password packet size".into(), String::new()));
    }
    assert_eq!(refused(b"\0"), ("28P01".into(), "empty password returned by client".into(), String::new()));
}

#[test]
fn the_stored_hash_answers_a_servers_challenge() {
    let challenge = [&5u32.to_be_bytes(), SALT4.as_slice()].concat();
    let verifier = Md5Verifier::from_password("anna", b"pw");
    let password = Credential::Password { user: "anna".into(), password: Zeroizing::new(b"pw".to_vec()) };
    for credential in [Credential::Md5(verifier.clone()), password] {
        let mut login = Login::new(credential, CLIENT_NONCE);
        let LoginStep::Send(answer) = login.on_authentication(&challenge).unwrap() else {
            panic!("no answer")
        };
        assert_eq!(md5::check(&verifier, SALT4, &answer), Ok(()));
        assert_eq!(login.on_authentication(&0u32.to_be_bytes()), Ok(LoginStep::Accepted));
    }
}

proptest! {
    #[test]
    fn only_the_right_answer_is_accepted(password in "\\PC{1,30}", salt in any::<[u8; 4]>(), at in 0usize..36, change in 1u8..=255) {
        let verifier = Md5Verifier::from_password("anna", password.as_bytes());
        let hex = std::str::from_utf8(verifier.hex.as_slice()).unwrap();
        prop_assert_eq!(Verifier::parse(&format!("md5{hex}")), Some(Verifier::Md5(verifier.clone())));
        let mut payload = payload(&verifier, salt);
        prop_assert_eq!(md5::check(&verifier, salt, &payload), Ok(()));
        payload[at] ^= change;
        prop_assert!(md5::check(&verifier, salt, &payload).is_err());
    }

    #[test]
    fn no_payload_panics(payload in prop::collection::vec(any::<u8>(), 0..50)) {
        prop_assert!(md5::check(&Md5Verifier::from_password("anna", b"pw"), SALT4, &payload).is_err());
    }
}
