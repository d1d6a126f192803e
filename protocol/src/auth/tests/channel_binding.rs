//! Logins that are bound to their TLS connection, and what those are told that should be and are not.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::*;
use crate::auth::{
    Channel, ClientBinding, Credential, InitialResponse, Login, LoginError, LoginStep, Mechanism,
    SASL_MECHANISMS, SASL_MECHANISMS_PLUS,
};

const END_POINT: &[u8] = b"the hash of the certificate that the client was shown";

fn channel() -> Channel {
    Channel::EndPoint(END_POINT.into())
}

fn binding(end_point: &[u8]) -> ClientBinding {
    ClientBinding { tls: true, end_point: Some(end_point.into()), required: false }
}

fn server_by(mechanism: Mechanism) -> ScramServer {
    server(&verifier("pw")).over(channel(), mechanism)
}

fn first(mechanism: Mechanism, message: &[u8]) -> (String, String, String) {
    refusal(server_by(mechanism).first(message))
}

/// A whole login of pgherd's at a server that has this channel; the mechanism that it used.
fn log_in(binding: ClientBinding, channel: &Channel) -> Result<Mechanism, LoginError> {
    let verifier = verifier("pw");
    let keys = exchange(&verifier, client(b"pw")).unwrap();
    let mut login = Login::new(Credential::Keys(keys), CLIENT_NONCE).over(binding);
    let mut step =
        |code: u32, data: &[u8]| match login.on_authentication(&[&code.to_be_bytes(), data].concat())? {
            LoginStep::Send(payload) => Ok(payload.to_vec()),
            _ => Ok(Vec::new()),
        };
    let payload = step(10, channel.mechanisms())?;
    let InitialResponse { mechanism, client_first } = InitialResponse::parse(&payload, channel).unwrap();
    let server = server(&verifier).over(channel.clone(), mechanism);
    let (server_first, server) = server.first(client_first.unwrap()).map_err(|_| LoginError::Refused)?;
    let client_final = step(11, &server_first)?;
    let (server_final, keys) = server.finish(&client_final).map_err(|_| LoginError::Refused)?;
    step(12, &server_final)?;
    step(0, b"")?;
    assert!(keys.fit(&verifier), "a bound login gives the keys as any other does");
    Ok(mechanism)
}

#[test]
fn a_login_is_bound_where_both_sides_can() {
    assert_eq!(log_in(binding(END_POINT), &channel()), Ok(Mechanism::ScramPlus));
    assert_eq!(log_in(binding(END_POINT), &Channel::Unbindable), Ok(Mechanism::Scram));
    let tls = ClientBinding { tls: true, ..ClientBinding::default() };
    assert_eq!(log_in(tls, &channel()), Ok(Mechanism::Scram), "switched off, or not to be had");
    let required = ClientBinding { required: true, ..binding(END_POINT) };
    assert_eq!(log_in(required, &channel()), Ok(Mechanism::ScramPlus));
}

#[test]
fn a_login_that_is_passed_on_from_another_connection_fails() {
    assert_eq!(log_in(binding(b"the certificate of one between"), &channel()), Err(LoginError::Refused));
}

#[test]
fn a_binding_that_is_required_is_used_or_nothing() {
    let reason = |offer: &[u8], binding: ClientBinding, code: u32| {
        let binding = ClientBinding { required: true, ..binding };
        let credential =
            Credential::Password { user: "anna".into(), password: Zeroizing::new(b"pw".to_vec()) };
        let mut login = Login::new(credential, CLIENT_NONCE).over(binding);
        match login.on_authentication(&[&code.to_be_bytes(), offer].concat()) {
            Err(LoginError::ChannelBindingRequired(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    let none = ClientBinding { tls: true, ..ClientBinding::default() };
    assert!(reason(SASL_MECHANISMS, binding(END_POINT), 10).starts_with("did not offer"));
    assert!(reason(SASL_MECHANISMS, ClientBinding::default(), 10).contains("TLS"));
    assert!(reason(SASL_MECHANISMS_PLUS, none, 10).contains("certificate"));
    assert!(reason(b"", binding(END_POINT), 0).contains("without any authentication"));
    assert!(reason(b"", binding(END_POINT), 3).contains("password"));
    assert!(reason(b"salt", binding(END_POINT), 5).contains("password"));
}

#[test]
fn an_offer_of_a_binding_where_there_is_nothing_to_bind_to_is_refused() {
    let mut login = Login::new(Credential::None, CLIENT_NONCE);
    let offer = [&10u32.to_be_bytes(), SASL_MECHANISMS_PLUS].concat();
    assert_eq!(login.on_authentication(&offer), Err(LoginError::PlusWithoutTls));
}

#[test]
fn another_client_library_binds_its_login() {
    for (mechanism, theirs) in [
        (Mechanism::ScramPlus, ChannelBinding::tls_server_end_point(END_POINT.to_vec())),
        (Mechanism::Scram, ChannelBinding::unsupported()),
    ] {
        let mut other = ScramSha256::new(b"pw", theirs);
        let (server_first, server) = server_by(mechanism).first(other.message()).unwrap();
        other.update(&server_first).unwrap();
        let (server_final, _) = server.finish(other.message()).unwrap();
        other.finish(&server_final).unwrap();
    }
    let mut other = ScramSha256::new(b"pw", ChannelBinding::tls_server_end_point(b"another".to_vec()));
    let (server_first, server) = server_by(Mechanism::ScramPlus).first(other.message()).unwrap();
    other.update(&server_first).unwrap();
    let refused = described(server.finish(other.message()).unwrap_err());
    assert_eq!(refused, ("28000".into(), "SCRAM channel binding check failed".into(), String::new()));
}

#[test]
fn a_client_that_thinks_there_is_no_binding_is_told_that_it_was_deceived() {
    let (code, message, detail) = first(Mechanism::Scram, b"y,,n=,r=abc");
    assert_eq!((code.as_str(), message.as_str()), ("28000", "SCRAM channel binding negotiation error"));
    let expected = "The client supports SCRAM channel binding but thinks the server does not.  \
                    However, this server does support channel binding.";
    assert_eq!(detail, expected);
}

#[test]
fn a_flag_that_does_not_fit_the_mechanism_is_refused_as_postgresql_does() {
    let without = "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.";
    let with = "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.";
    let cases: &[(Mechanism, &[u8], &str, &str)] = &[
        (Mechanism::ScramPlus, b"n,,n=,r=abc", "malformed SCRAM message", without),
        (Mechanism::ScramPlus, b"y,,n=,r=abc", "malformed SCRAM message", without),
        (Mechanism::Scram, b"p=tls-server-end-point,,n=,r=abc", "malformed SCRAM message", with),
        (
            Mechanism::ScramPlus,
            b"p=tls-unique,,n=,r=abc",
            "unsupported SCRAM channel-binding type \"tls-unique\"",
            "",
        ),
        (
            Mechanism::ScramPlus,
            b"p=\xff tls-server-end-point-and-more-of-it,,n=,r=abc",
            "unsupported SCRAM channel-binding type \"??tls-server-end-point-and-mor\"",
            "",
        ),
        (
            Mechanism::ScramPlus,
            b"p,,n=,r=abc",
            "malformed SCRAM message",
            "Expected character \"=\" for attribute \"p\".",
        ),
        (
            Mechanism::ScramPlus,
            b"p=tls-server-end-point",
            "malformed SCRAM message",
            "Unexpected attribute \"0x00\" in client-first-message.",
        ),
    ];
    for (mechanism, message, expected, detail) in cases {
        let refused = first(*mechanism, message);
        assert_eq!(refused, ("08P01".into(), (*expected).into(), (*detail).into()));
    }
    let identity = first(Mechanism::ScramPlus, b"p=tls-server-end-point,a=admin,n=,r=abc");
    assert_eq!(identity.0, "0A000");
}

#[test]
fn a_mechanism_is_chosen_from_those_that_were_offered() {
    let plus = InitialResponse::encode(Mechanism::ScramPlus, b"p=tls-server-end-point,,n=,r=abc");
    assert_eq!(InitialResponse::parse(&plus, &channel()).unwrap().mechanism, Mechanism::ScramPlus);
    assert!(InitialResponse::parse(&plus, &Channel::Unbindable).is_err());
    let plain = InitialResponse::encode(Mechanism::Scram, b"n,,n=,r=abc");
    assert_eq!(InitialResponse::parse(&plain, &channel()).unwrap().mechanism, Mechanism::Scram);
}
