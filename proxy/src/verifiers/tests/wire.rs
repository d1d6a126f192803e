//! What was read and what a client proved opens the real server, and no password is known on the way.

use std::io::{Read, Write};
use std::net::TcpStream;

use pgherd_protocol::auth::{
    Credential, Login, LoginError, LoginStep, ScramClient, ScramKeys, ScramSecret, ScramServer,
};

use super::*;

/// A client with the password logs in at pgherd's side; gives what pgherd learned.
fn keys_of(role: &Role, password: &str) -> ScramKeys {
    let Some(Stored::Verifier(Verifier::Scram(verifier))) = &role.stored else { panic!("no SCRAM verifier") };
    let client = ScramClient::new(ScramSecret::Password(Zeroizing::new(password.into())), &[1; 18]);
    let server = ScramServer::new(Some(verifier), "anna", &[0; 32], &[2; 18]);
    let (server_first, server) = server.first(&client.client_first()).unwrap();
    let (client_final, client) = client.server_first(&server_first).unwrap();
    let (server_final, keys) = server.finish(&client_final).unwrap();
    client.server_final(&server_final).unwrap();
    keys
}

/// Logs in at the server; `None` where the server said no.
fn log_in(endpoint: &Endpoint, user: &str, credential: Credential) -> Result<Option<()>, LoginError> {
    let mut stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let body =
        [&196_608u32.to_be_bytes(), b"user\0".as_slice(), user.as_bytes(), b"\0database\0postgres\0\0"]
            .concat();
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    stream.write_all(&[length.as_slice(), &body].concat()).unwrap();
    let mut login = Login::new(credential, [3; 18]);
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) - 4;
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).unwrap();
        if head[0] != b'R' {
            return Ok(None);
        }
        match login.on_authentication(&payload)? {
            LoginStep::Send(payload) => {
                let length = u32::try_from(payload.len() + 4).unwrap().to_be_bytes();
                stream.write_all(&[b"p".as_slice(), &length, &payload].concat()).unwrap();
            }
            LoginStep::Wait => {}
            LoginStep::Accepted => return Ok(Some(())),
        }
    }
}

#[tokio::test]
async fn a_clients_proof_and_a_stored_hash_open_the_server() {
    let server = Postgres::start().await;
    server
        .execute(
            "CREATE ROLE anna LOGIN PASSWORD 'pässword \u{2168}'; CREATE ROLE empty LOGIN;
             SET password_encryption = md5; CREATE ROLE bert LOGIN PASSWORD 'md5 pw'",
        )
        .await;
    let service = Service::start(&[&server.endpoint], patient());
    let anna = service.lookup("anna").await.unwrap();
    // What a user types for the Roman numeral nine is the same to SASLprep.
    let keys = keys_of(&anna, "pässword IX");
    for _ in 0..2 {
        let credential = Credential::Keys(keys.clone());
        assert_eq!(log_in(&server.endpoint, "anna", credential), Ok(Some(())));
    }
    let password = |user: &str, password: &str| Credential::Password {
        user: user.to_owned(),
        password: Zeroizing::new(password.into()),
    };
    assert_eq!(log_in(&server.endpoint, "anna", password("anna", "pässword IX")), Ok(Some(())));
    assert_eq!(log_in(&server.endpoint, "anna", password("anna", "wrong")), Ok(None));

    let bert = service.lookup("bert").await.unwrap();
    let Some(Stored::Verifier(Verifier::Md5(hash))) = bert.stored.clone() else { panic!("no md5 verifier") };
    assert_eq!(log_in(&server.endpoint, "bert", Credential::Md5(hash)), Ok(Some(())));
    assert_eq!(log_in(&server.endpoint, "bert", password("bert", "md5 pw")), Ok(Some(())));

    // The same password set again has another salt, which makes other keys.
    server.execute("ALTER ROLE anna PASSWORD 'pässword \u{2168}'").await;
    let resalted = service.lookup("anna").await.unwrap();
    assert_eq!(
        log_in(&server.endpoint, "anna", Credential::Keys(keys.clone())),
        Err(LoginError::VerifierChanged)
    );
    let keys = keys_of(&resalted, "pässword IX");
    assert_eq!(log_in(&server.endpoint, "anna", Credential::Keys(keys.clone())), Ok(Some(())));

    server.execute("ALTER ROLE anna PASSWORD 'changed'").await;
    let stale = log_in(&server.endpoint, "anna", Credential::Keys(keys.clone()));
    assert_eq!(stale, Err(LoginError::VerifierChanged));
    let anna = service.lookup("anna").await.unwrap();
    let Some(Stored::Verifier(Verifier::Scram(verifier))) = &anna.stored else { panic!("no SCRAM verifier") };
    assert!(!keys.fit(verifier));
    assert_eq!(log_in(&server.endpoint, "anna", Credential::Keys(keys_of(&anna, "changed"))), Ok(Some(())));
    service.stop().await;
}
