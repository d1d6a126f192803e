//! What a broken or hostile client gets to see: PostgreSQL's words, and nothing about who exists.

use proptest::prelude::*;

use super::*;
use crate::auth::{Channel, InitialResponse, MAX_SASL_MESSAGE, Mechanism};

fn first_refusal(message: &[u8]) -> (String, String, String) {
    refusal(server(&verifier("pw")).first(message))
}

fn malformed(detail: &str) -> (String, String, String) {
    ("08P01".into(), "malformed SCRAM message".into(), detail.into())
}

fn plain(sqlstate: &str, message: &str) -> (String, String, String) {
    (sqlstate.into(), message.into(), String::new())
}

#[test]
fn a_malformed_first_message_is_refused_as_postgresql_does() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "The message is empty."),
        (b"n,,n=,r=a\0b", "Message length does not match input length."),
        (b"x,,n=,r=abc", "Unexpected channel-binding flag \"'x'\"."),
        (b"\xff,,n=,r=abc", "Unexpected channel-binding flag \"0xff\"."),
        (b"nx", "Comma expected, but found character \"'x'\"."),
        (b"y", "Comma expected, but found character \"0x00\"."),
        (b"n,x,n=,r=abc", "Unexpected attribute \"'x'\" in client-first-message."),
        (b"n,,x=,r=abc", "Expected attribute \"n\" but found \"'x'\"."),
        (b"n,,n=", "Expected attribute \"r\" but found \"0x00\"."),
        (b"n,,n,r=abc", "Expected character \"=\" for attribute \"n\"."),
        (b"n,,n=,r=abc,1=x", "Attribute expected, but found invalid character \"'1'\"."),
        (
            b"p=tls-server-end-point,,n=,r=abc",
            "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
        ),
    ];
    for (message, detail) in cases {
        assert_eq!(first_refusal(message), malformed(detail), "{:?}", String::from_utf8_lossy(message));
    }
}

#[test]
fn what_postgresql_does_not_support_is_said_so() {
    let identity = plain("0A000", "client uses authorization identity, but it is not supported");
    assert_eq!(first_refusal(b"n,a=admin,n=,r=abc"), identity);
    let extension = plain("0A000", "client requires an unsupported SCRAM extension");
    assert_eq!(first_refusal(b"n,,m=x,n=,r=abc"), extension);
    let nonce = plain("08P01", "non-printable characters in SCRAM nonce");
    assert_eq!(first_refusal(b"n,,n=,r=a\x01c"), nonce);
    assert_eq!(first_refusal(b"n,,n=,r=a c"), nonce);
}

#[test]
fn optional_extensions_and_a_user_name_are_ignored() {
    assert!(server(&verifier("pw")).first(b"n,,n=somebody,r=abc,x=1,y=2").is_ok());
}

#[test]
fn an_oversize_message_is_refused_before_it_is_read() {
    let message = [b"n,,n=,r=".as_slice(), &[b'a'; MAX_SASL_MESSAGE]].concat();
    assert_eq!(first_refusal(&message), plain("08P01", "invalid message length"));
    assert!(InitialResponse::parse(&[b'S'; MAX_SASL_MESSAGE + 1], &Channel::Unbindable).is_err());
}

#[test]
fn a_malformed_final_message_is_refused_as_postgresql_does() {
    let nonce = "abcc2VydmVyIG5vbmNlIGJ5dGVz";
    let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let cases = [
        (String::new(), malformed("The message is empty.")),
        (format!("x=biws,r={nonce},p={proof}"), malformed("Expected attribute \"c\" but found \"'x'\".")),
        (format!("c=biws,r={nonce}"), malformed("Attribute expected, but found end of string.")),
        (format!("c=biws,r={nonce},p=AAAA"), malformed("Malformed proof in client-final-message.")),
        (format!("c=biws,r={nonce},p=?"), malformed("Malformed proof in client-final-message.")),
        (
            format!("c=biws,r={nonce},p={proof},x=1"),
            malformed("Garbage found at the end of client-final-message."),
        ),
        (
            format!("c=eSws,r={nonce},p={proof}"),
            plain("08P01", "unexpected SCRAM channel-binding attribute in client-final-message"),
        ),
        (
            format!("c=biws,r={nonce}x,p={proof}"),
            ("08P01".into(), "invalid SCRAM response".into(), "Nonce does not match.".into()),
        ),
        (
            format!("c=biws,r=abc,p={proof}"),
            ("08P01".into(), "invalid SCRAM response".into(), "Nonce does not match.".into()),
        ),
        (format!("c=biws,r={nonce},p={proof}"), plain("28P01", "password authentication failed")),
    ];
    for (message, expected) in cases {
        let (_, server) = server(&verifier("pw")).first(b"n,,n=,r=abc").unwrap();
        assert_eq!(described(server.finish(message.as_bytes()).unwrap_err()), expected, "{message}");
    }
}

#[test]
fn an_exchange_cannot_be_replayed() {
    let verifier = verifier("pw");
    let client = client(b"pw");
    let client_first = client.client_first();
    let (server_first, server) = server(&verifier).first(&client_first).unwrap();
    let (client_final, _) = client.server_first(&server_first).unwrap();
    server.finish(&client_final).unwrap();

    let other_nonce = b"another nonce of18";
    let server = ScramServer::new(Some(&verifier), "anna", &MOCK_SECRET, other_nonce);
    let (_, server) = server.first(&client_first).unwrap();
    assert!(server.finish(&client_final).is_err());
}

#[test]
fn a_user_that_does_not_exist_looks_like_one_that_does() {
    let challenge = |user: &str, secret: [u8; 32]| {
        let server = ScramServer::new(None, user, &secret, &SERVER_NONCE);
        String::from_utf8(server.first(b"n,,n=,r=abc").unwrap().0).unwrap()
    };
    let real = String::from_utf8(server(&verifier("pw")).first(b"n,,n=,r=abc").unwrap().0).unwrap();
    let mock = challenge("nobody", MOCK_SECRET);
    assert_eq!(mock.len(), real.len());
    assert!(mock.ends_with(",i=4096"));
    assert_eq!(mock, challenge("nobody", MOCK_SECRET), "the salt must not change between attempts");
    assert_ne!(mock, challenge("nobody2", MOCK_SECRET));
    assert_ne!(mock, challenge("nobody", [1; 32]), "the salt must not be computable without the secret");
}

#[test]
fn no_password_opens_a_user_that_does_not_exist() {
    for password in ["", "pw", "\0", "right"] {
        let client = client(password.as_bytes());
        let server = match password {
            "right" => server(&verifier(password)).doomed(),
            _ => ScramServer::new(None, "nobody", &MOCK_SECRET, &SERVER_NONCE),
        };
        let (server_first, server) = server.first(&client.client_first()).unwrap();
        let (client_final, _) = client.server_first(&server_first).unwrap();
        assert_eq!(server.finish(&client_final).err(), Some(AuthError::Failed));
    }
}

#[test]
fn the_initial_response_must_choose_what_was_offered() {
    let refused =
        |payload: &[u8]| described(InitialResponse::parse(payload, &Channel::Unbindable).unwrap_err()).1;
    let invalid = "client selected an invalid SASL authentication mechanism";
    assert_eq!(refused(b"SCRAM-SHA-256-PLUS\0\0\0\0\x01n"), invalid);
    assert_eq!(refused(b"scram-sha-256\0\0\0\0\x01n"), invalid);
    assert_eq!(refused(b"SCRAM-SHA-256"), "invalid string in message");
    assert_eq!(refused(b"SCRAM-SHA-256\0\0\0"), "insufficient data left in message");
    assert_eq!(refused(b"SCRAM-SHA-256\0\0\0\0\x02n"), "insufficient data left in message");
    assert_eq!(refused(b"SCRAM-SHA-256\0\x7f\xff\xff\xffn"), "insufficient data left in message");
    assert_eq!(refused(b"SCRAM-SHA-256\0\0\0\0\x01nn"), "invalid message format");
    assert_eq!(refused(b"SCRAM-SHA-256\0\xff\xff\xff\xfe"), "invalid message format");
    let without = InitialResponse::parse(b"SCRAM-SHA-256\0\xff\xff\xff\xff", &Channel::Unbindable).unwrap();
    assert_eq!(without.client_first, None);
    let encoded = InitialResponse::encode(Mechanism::Scram, b"n,,n=,r=abc");
    assert_eq!(
        InitialResponse::parse(&encoded, &Channel::Unbindable).unwrap().client_first,
        Some(b"n,,n=,r=abc".as_slice())
    );
}

/// Mostly well-formed text with damage, so that every branch is reached.
fn scram_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "n", "y", "p", ",", ",,", "=", "c=biws", "c=eSws", "r=", "n=", "p=", "m=", "a=", "abc"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::sample::select(vec![
            "r=abcc2VydmVyIG5vbmNlIGJ5dGVz",
            "p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_input_panics_or_logs_in(first in scram_like(), last in scram_like(), raw in prop::collection::vec(any::<u8>(), 0..64)) {
        let verifier = ScramVerifier::from_password(b"pw", SALT, 1);
        if let Ok((_, next)) = server(&verifier).first(&first) {
            prop_assert!(next.finish(&last).is_err());
        }
        let (_, next) = server(&verifier).first(b"n,,n=,r=abc").unwrap();
        prop_assert!(next.finish(&last).is_err());
        prop_assert!(server(&verifier).first(&raw).is_err() || raw.starts_with(b"n,,") || raw.starts_with(b"y,,"));
        let _ = InitialResponse::parse(&raw, &Channel::Unbindable);
        let _ = InitialResponse::parse(&[b"SCRAM-SHA-256\0", raw.as_slice()].concat(), &Channel::Unbindable);
    }

    #[test]
    fn an_error_shows_only_printable_ascii(message in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Err(error) = server(&ScramVerifier::from_password(b"pw", SALT, 1)).first(&message) {
            let text = format!("{error} {}", error.detail().unwrap_or_default());
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
        }
    }
}
