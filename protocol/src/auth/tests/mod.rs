//! Logins as both sides see them.

mod agreement;
mod channel_binding;
mod hostile_client;
mod hostile_server;
mod md5_login;
mod verifiers;

use zeroize::Zeroizing;

use super::{
    AuthError, NONCE_LEN, ScramClient, ScramKeys, ScramSecret, ScramServer, ScramServerFinal, ScramVerifier,
};

const MOCK_SECRET: [u8; 32] = [42; 32];
const SERVER_NONCE: [u8; NONCE_LEN] = *b"server nonce bytes";
const CLIENT_NONCE: [u8; NONCE_LEN] = *b"client nonce bytes";
const SALT: &[u8] = b"sixteen salt byt";

fn verifier(password: &str) -> ScramVerifier {
    ScramVerifier::from_password(password.as_bytes(), SALT, 4096)
}

fn server(verifier: &ScramVerifier) -> ScramServer {
    ScramServer::new(Some(verifier), "anna", &MOCK_SECRET, &SERVER_NONCE)
}

fn client(password: &[u8]) -> ScramClient {
    ScramClient::new(ScramSecret::Password(Zeroizing::new(password.to_vec())), &CLIENT_NONCE)
}

/// A whole exchange between our two sides.
fn exchange(verifier: &ScramVerifier, client: ScramClient) -> Result<ScramKeys, AuthError> {
    let (server_first, server) = server(verifier).first(&client.client_first())?;
    let (client_final, client) = client.server_first(&server_first).unwrap();
    let (server_final, keys) = server.finish(&client_final)?;
    client.server_final(&server_final).unwrap();
    Ok(keys)
}

/// The error of a first message, as the client sees it: SQLSTATE, message, detail.
fn refusal(result: Result<(Vec<u8>, ScramServerFinal), AuthError>) -> (String, String, String) {
    described(result.err().expect("the message must be refused"))
}

fn described(error: AuthError) -> (String, String, String) {
    (error.sqlstate().into(), error.to_string(), error.detail().unwrap_or_default().into())
}
