//! A server that lies, asks too much, or does not know the password either.

use proptest::prelude::*;

use super::*;
use crate::auth::{Credential, Login, LoginError, LoginStep, Md5Verifier, SASL_MECHANISMS};

fn message(code: u32, data: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), data].concat()
}

fn with_password() -> Credential {
    Credential::Password { user: "anna".into(), password: Zeroizing::new(b"pw".to_vec()) }
}

fn with_keys() -> Credential {
    Credential::Keys(ScramKeys::from_password(b"pw", SALT, 2))
}

fn after_offer(credential: Credential) -> Login {
    let mut login = Login::new(credential, CLIENT_NONCE);
    assert!(matches!(login.on_authentication(&message(10, SASL_MECHANISMS)), Ok(LoginStep::Send(_))));
    login
}

const OUR_NONCE: &str = "Y2xpZW50IG5vbmNlIGJ5dGVz";

#[test]
fn a_server_first_message_must_be_exact() {
    let salt = "c2l4dGVlbiBzYWx0IGJ5dA==";
    let cases = [
        (format!("r={OUR_NONCE}x,s={salt}"), LoginError::Malformed("server-first-message")),
        (format!("r={OUR_NONCE}x,s={salt},i=0"), LoginError::Malformed("server-first-message")),
        (format!("r={OUR_NONCE}x,s={salt},i=+2"), LoginError::Malformed("server-first-message")),
        (format!("r={OUR_NONCE}x,s={salt},i="), LoginError::Malformed("server-first-message")),
        (format!("r={OUR_NONCE}x,s={salt},i=99999999999"), LoginError::Malformed("server-first-message")),
        (format!("r={OUR_NONCE}x,s={salt},i=2,x=1"), LoginError::Malformed("server-first-message")),
        (format!("r={OUR_NONCE}x,s=,i=2"), LoginError::Malformed("server-first-message")),
        (format!("m=x,r={OUR_NONCE}x,s={salt},i=2"), LoginError::Malformed("server-first-message")),
        (format!("r={OUR_NONCE},s={salt},i=2"), LoginError::NonceMismatch),
        (format!("r=other,s={salt},i=2"), LoginError::NonceMismatch),
        (format!("r={OUR_NONCE}x,s={salt},i=1000001"), LoginError::TooManyIterations(1_000_001)),
        (format!("r={},s={salt},i=2", "x".repeat(2000)), LoginError::Malformed("server-first-message")),
    ];
    for (text, expected) in cases {
        let mut login = after_offer(with_password());
        assert_eq!(login.on_authentication(&message(11, text.as_bytes())), Err(expected), "{text}");
    }
}

#[test]
fn keys_are_used_only_for_their_own_salt_and_iterations() {
    for text in
        [format!("r={OUR_NONCE}x,s=b3RoZXI=,i=2"), format!("r={OUR_NONCE}x,s=c2l4dGVlbiBzYWx0IGJ5dA==,i=3")]
    {
        let mut login = after_offer(with_keys());
        let outcome = login.on_authentication(&message(11, text.as_bytes()));
        assert_eq!(outcome, Err(LoginError::VerifierChanged));
    }
}

#[test]
fn a_server_must_prove_itself_before_it_is_believed() {
    let first = format!("r={OUR_NONCE}x,s=c2l4dGVlbiBzYWx0IGJ5dA==,i=2");
    let mut login = after_offer(with_keys());
    assert_eq!(login.on_authentication(&message(0, b"")), Err(LoginError::ServerNotAuthentic));

    let after_proof = || {
        let mut login = after_offer(with_keys());
        assert!(matches!(login.on_authentication(&message(11, first.as_bytes())), Ok(LoginStep::Send(_))));
        login
    };
    assert_eq!(after_proof().on_authentication(&message(0, b"")), Err(LoginError::ServerNotAuthentic));
    let wrong = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(after_proof().on_authentication(&message(12, wrong)), Err(LoginError::ServerNotAuthentic));
    assert_eq!(after_proof().on_authentication(&message(12, b"e=invalid-proof")), Err(LoginError::Refused));
    let short = after_proof().on_authentication(&message(12, b"v=AAAA"));
    assert_eq!(short, Err(LoginError::Malformed("server-final-message")));
}

#[test]
fn a_login_that_failed_cannot_be_taken_up_again() {
    let mut login = after_offer(with_keys());
    assert!(login.on_authentication(&message(11, b"garbage")).is_err());
    assert!(login.on_authentication(&message(0, b"")).is_err());
    assert!(login.on_authentication(&message(10, SASL_MECHANISMS)).is_err());
}

#[test]
fn a_server_that_trusts_us_is_accepted() {
    for credential in [Credential::None, with_keys(), with_password()] {
        let mut login = Login::new(credential, CLIENT_NONCE);
        assert_eq!(login.on_authentication(&message(0, b"")), Ok(LoginStep::Accepted));
    }
}

#[test]
fn a_clear_text_password_is_sent_only_where_there_is_one() {
    let ask = |credential| Login::new(credential, CLIENT_NONCE).on_authentication(&message(3, b""));
    assert_eq!(ask(with_password()), Ok(LoginStep::Send(Zeroizing::new(b"pw\0".to_vec()))));
    assert_eq!(ask(with_keys()), Err(LoginError::PasswordNeeded));
    assert_eq!(
        ask(Credential::Md5(Md5Verifier::from_password("anna", b"pw"))),
        Err(LoginError::PasswordNeeded)
    );
    assert_eq!(ask(Credential::None), Err(LoginError::NoCredential));
}

#[test]
fn a_method_that_cannot_work_says_so() {
    let ask = |credential, code, data: &[u8]| {
        Login::new(credential, CLIENT_NONCE).on_authentication(&message(code, data))
    };
    let md5 = || Credential::Md5(Md5Verifier::from_password("anna", b"pw"));
    assert_eq!(ask(with_keys(), 5, b"salt"), Err(LoginError::WrongKind("md5")));
    assert_eq!(ask(md5(), 10, SASL_MECHANISMS), Err(LoginError::WrongKind("SCRAM-SHA-256")));
    assert_eq!(ask(with_keys(), 10, b"SCRAM-SHA-512\0\0"), Err(LoginError::UnsupportedMethod(10)));
    assert_eq!(ask(with_keys(), 7, b""), Err(LoginError::UnsupportedMethod(7)));
    assert_eq!(ask(md5(), 5, b"sal"), Err(LoginError::Malformed("md5 salt")));
    assert_eq!(ask(Credential::None, 10, SASL_MECHANISMS), Err(LoginError::NoCredential));
    let both = b"SCRAM-SHA-512\0SCRAM-SHA-256\0\0";
    assert!(matches!(ask(with_keys(), 10, both), Ok(LoginStep::Send(_))));
}

#[test]
fn a_password_is_asked_for_only_once() {
    let mut login = Login::new(with_password(), CLIENT_NONCE);
    assert!(login.on_authentication(&message(5, b"salt")).is_ok());
    assert!(login.on_authentication(&message(3, b"")).is_err());
}

proptest! {
    #[test]
    fn no_server_message_panics(messages in prop::collection::vec((prop::sample::select(vec![0u32, 3, 5, 7, 10, 11, 12, 99]), prop::collection::vec(any::<u8>(), 0..40)), 0..6), raw in prop::collection::vec(any::<u8>(), 0..8)) {
        for credential in [with_keys(), with_password(), Credential::None] {
            let mut login = Login::new(credential, CLIENT_NONCE);
            for (code, data) in &messages {
                let _ = login.on_authentication(&message(*code, data));
            }
            let _ = login.on_authentication(&raw);
        }
    }

    #[test]
    fn no_challenge_panics(nonce in "[!-+--~]{0,20}", salt in "[A-Za-z0-9+/=]{0,12}", count in "[0-9]{0,3}", end in ".{0,4}") {
        let mut login = after_offer(with_password());
        let text = format!("r={OUR_NONCE}{nonce},s={salt},i={count}{end}");
        let _ = login.on_authentication(&message(11, text.as_bytes()));
    }
}
