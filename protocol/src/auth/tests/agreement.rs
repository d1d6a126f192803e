//! The two sides against each other, against RFC 7677, and against another implementation.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::*;
use crate::auth::{
    Channel, InitialResponse, Login, LoginError, LoginStep, SASL_MECHANISMS, Verifier, login::Credential,
};

const RFC_SALT: [u8; 16] =
    [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];

#[test]
fn the_exchange_of_rfc_7677_ends_with_its_signature() {
    let verifier = ScramVerifier::from_password(b"pencil", &RFC_SALT, 4096);
    let server = ScramServer::with_nonce_text(&verifier, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    let (server_first, server) = server.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
    assert_eq!(
        server_first,
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let (server_final, keys) = server
        .finish(b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
        .unwrap();
    assert_eq!(server_final, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert!(keys.fit(&verifier));
}

#[test]
fn keys_won_from_a_login_open_a_server_with_the_same_verifier() {
    let verifier = verifier("correct horse");
    let keys = exchange(&verifier, client(b"correct horse")).unwrap();
    let again = exchange(&verifier, ScramClient::new(ScramSecret::Keys(keys), &CLIENT_NONCE)).unwrap();
    assert!(again.fit(&verifier));
}

#[test]
fn keys_do_not_fit_after_the_password_was_changed() {
    let (old, new_with_old_salt) = (verifier("old"), verifier("new"));
    let new = ScramVerifier::from_password(b"new", b"another salt", 4096);
    let keys = exchange(&old, client(b"old")).unwrap();
    assert!(!keys.fit(&new));
    assert!(!keys.fit(&new_with_old_salt));

    let client = ScramClient::new(ScramSecret::Keys(keys), &CLIENT_NONCE);
    let (server_first, _) = server(&new).first(&client.client_first()).unwrap();
    assert_eq!(client.server_first(&server_first).err(), Some(LoginError::VerifierChanged));
}

#[test]
fn the_login_machine_walks_through_scram() {
    let verifier = verifier("pw");
    let keys = exchange(&verifier, client(b"pw")).unwrap();
    let mut login = Login::new(Credential::Keys(keys), CLIENT_NONCE);

    let offer = [&10u32.to_be_bytes(), SASL_MECHANISMS].concat();
    let LoginStep::Send(payload) = login.on_authentication(&offer).unwrap() else { panic!("no answer") };
    let client_first = InitialResponse::parse(&payload, &Channel::Unbindable).unwrap().client_first.unwrap();
    let (server_first, server) = server(&verifier).first(client_first).unwrap();

    let challenge = [&11u32.to_be_bytes(), server_first.as_slice()].concat();
    let LoginStep::Send(client_final) = login.on_authentication(&challenge).unwrap() else {
        panic!("no proof")
    };
    let (server_final, _) = server.finish(&client_final).unwrap();

    let outcome = [&12u32.to_be_bytes(), server_final.as_slice()].concat();
    assert_eq!(login.on_authentication(&outcome), Ok(LoginStep::Wait));
    assert_eq!(login.on_authentication(&0u32.to_be_bytes()), Ok(LoginStep::Accepted));
}

#[test]
fn passwords_that_saslprep_makes_equal_are_equal() {
    // U+2168 is the Roman numeral nine, U+00AD a soft hyphen, U+1680 the Ogham space (RFC 4013, sections 2 and 3).
    for (stored, typed) in [("\u{2168}", "IX"), ("I\u{00AD}X", "IX"), ("a\u{1680}b", "a b")] {
        assert!(exchange(&verifier(stored), client(typed.as_bytes())).is_ok(), "{stored:?} {typed:?}");
    }
}

#[test]
fn passwords_that_saslprep_forbids_are_taken_as_they_are() {
    for password in [b"\x07bell".as_slice(), b"\xff\xfe", "\u{00AD}".as_bytes(), "\u{0627}1".as_bytes()] {
        let verifier = ScramVerifier::from_password(password, SALT, 1);
        assert!(exchange(&verifier, client(password)).is_ok(), "{password:?}");
    }
}

fn passwords() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,80}", "\\PC{1,40}", any::<String>().prop_filter("not empty", |s| !s.is_empty())]
}

proptest! {
    #[test]
    fn the_right_password_is_accepted(password in passwords(), salt in prop::collection::vec(any::<u8>(), 1..64), count in 1u32..20) {
        let verifier = ScramVerifier::from_password(password.as_bytes(), &salt, count);
        let keys = exchange(&verifier, client(password.as_bytes())).unwrap();
        prop_assert!(keys.fit(&verifier));
        prop_assert!(exchange(&verifier, ScramClient::new(ScramSecret::Keys(keys), &CLIENT_NONCE)).is_ok());
    }

    #[test]
    fn a_wrong_password_is_refused(password in "[a-z]{1,20}", wrong in "[A-Z]{1,20}") {
        let verifier = ScramVerifier::from_password(password.as_bytes(), SALT, 2);
        prop_assert_eq!(exchange(&verifier, client(wrong.as_bytes())).err(), Some(AuthError::Failed));
    }

    #[test]
    fn another_client_library_logs_in(password in passwords(), count in 1u32..20) {
        let verifier = ScramVerifier::from_password(password.as_bytes(), SALT, count);
        for binding in [ChannelBinding::unsupported(), ChannelBinding::unrequested()] {
            let mut other = ScramSha256::new(password.as_bytes(), binding);
            let (server_first, server) = server(&verifier).first(other.message()).unwrap();
            other.update(&server_first).unwrap();
            let (server_final, keys) = server.finish(other.message()).unwrap();
            other.finish(&server_final).unwrap();
            prop_assert!(keys.fit(&verifier));
        }
    }

    #[test]
    fn a_byte_changed_on_the_way_ends_the_login(which in 0usize..4, at in any::<prop::sample::Index>(), change in 1u8..=255) {
        let verifier = ScramVerifier::from_password(b"secret", SALT, 3);
        let change = |message: &mut [u8], turn: usize| {
            if turn == which {
                message[at.index(message.len())] ^= change;
            }
        };
        let accepted = (|| {
            let client = client(b"secret");
            let mut message = client.client_first();
            change(&mut message, 0);
            let (mut message, server) = server(&verifier).first(&message).ok()?;
            change(&mut message, 1);
            let (mut message, client) = client.server_first(&message).ok()?;
            change(&mut message, 2);
            let (mut message, _) = server.finish(&message).ok()?;
            change(&mut message, 3);
            client.server_final(&message).ok()
        })();
        prop_assert_eq!(accepted, None);
    }

    #[test]
    fn a_verifier_survives_being_written_and_read(password in passwords(), salt in prop::collection::vec(any::<u8>(), 1..64)) {
        let verifier = ScramVerifier::from_password(password.as_bytes(), &salt, 1);
        let read = Verifier::parse(&verifier.to_rolpassword());
        prop_assert_eq!(read, Some(Verifier::Scram(verifier)));
    }
}
