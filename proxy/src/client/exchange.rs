//! Exchanges with a client that is to prove who it is.

use std::io;

use pgherd_protocol::auth::{
    AuthError, Channel, Credential, InitialResponse, MAX_SASL_MESSAGE, Md5Verifier, ScramServer,
    ScramVerifier, md5,
};
use pgherd_protocol::error::ClientError;
use pgherd_protocol::frame::{HEADER_LEN, frontend_header};
use pgherd_protocol::write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::login::LoginFailure;
use crate::stream::Stream;

/// What a client's proof gives away to log in at the servers with, and the message that it is to get then; or why it proves
/// nothing.
pub(super) type Proof = Result<(Credential, Vec<u8>), AuthError>;

/// Asks for the answer to an md5 challenge.
pub(super) async fn check_md5(stream: &mut Stream, verifier: &Md5Verifier) -> Result<Proof, LoginFailure> {
    let salt: [u8; 4] = rand::random();
    let mut out = Vec::new();
    write::authentication(&mut out, 5, &salt);
    stream.write_all(&out).await?;
    let response = read_response(stream, "password").await?;
    Ok(md5::check(verifier, salt, &response).map(|()| (Credential::Md5(verifier.clone()), Vec::new())))
}

/// Has a SCRAM-SHA-256 exchange, bound to its connection if the client chooses so; without a verifier it runs to its end, and
/// fails.
pub(super) async fn check_scram(
    mock_secret: &[u8; 32],
    stream: &mut Stream,
    channel: Channel,
    user: &str,
    verifier: Option<&ScramVerifier>,
) -> Result<Proof, LoginFailure> {
    let mut out = Vec::new();
    write::authentication(&mut out, 10, channel.mechanisms());
    stream.write_all(&out).await?;
    let response = read_response(stream, "SASL").await?;
    let (mechanism, client_first) = match InitialResponse::parse(&response, &channel) {
        Ok(InitialResponse { mechanism, client_first }) => (mechanism, client_first.map(<[u8]>::to_vec)),
        Err(error) => return Ok(Err(error)),
    };
    let client_first = match client_first {
        Some(first) => first,
        None => {
            out.clear();
            write::authentication(&mut out, 11, &[]);
            stream.write_all(&out).await?;
            read_response(stream, "SASL").await?
        }
    };
    let exchange = ScramServer::new(verifier, user, mock_secret, &rand::random()).over(channel, mechanism);
    let (challenge, exchange) = match exchange.first(&client_first) {
        Ok(first) => first,
        Err(error) => return Ok(Err(error)),
    };
    out.clear();
    write::authentication(&mut out, 11, &challenge);
    stream.write_all(&out).await?;
    let response = read_response(stream, "SASL").await?;
    match exchange.finish(&response) {
        Ok((proof, keys)) => {
            out.clear();
            write::authentication(&mut out, 12, &proof);
            Ok(Ok((Credential::Keys(keys), out)))
        }
        Err(error) => Ok(Err(error)),
    }
}

/// Asks for the password itself. Without a verifier it is worked on as if there were one, and fails.
pub(super) async fn check_in_clear(
    stream: &mut Stream,
    user: &str,
    (scram, md5): (Option<&ScramVerifier>, Option<&Md5Verifier>),
    mock_secret: &[u8; 32],
) -> Result<Proof, LoginFailure> {
    let mut out = Vec::new();
    write::authentication(&mut out, 3, &[]);
    stream.write_all(&out).await?;
    let response = Zeroizing::new(read_response(stream, "password").await?);
    let password = match md5::password_message(&response) {
        Ok(password) => Zeroizing::new(password.to_vec()),
        Err(error) => return Ok(Err(error)),
    };
    if let Some(verifier) = md5 {
        let fits = Md5Verifier::from_password(user, &password) == *verifier;
        let credential = Credential::Md5(verifier.clone());
        return Ok(if fits { Ok((credential, Vec::new())) } else { Err(AuthError::Failed) });
    }
    let verifier = scram.cloned().unwrap_or_else(|| ScramVerifier::mock(user, mock_secret));
    // Thousands of hashes, while which others of this worker would wait.
    let hashed = tokio::task::spawn_blocking(move || verifier.keys_of(&password));
    let keys = hashed.await.map_err(io::Error::other)?;
    Ok(keys.map(|keys| (Credential::Keys(keys), Vec::new())).ok_or(AuthError::Failed))
}

/// Reads one PasswordMessage, SASLInitialResponse or SASLResponse. As in PostgreSQL, another message is refused by its
/// first byte, and one that is too long ends the connection without a word.
async fn read_response(stream: &mut Stream, what: &str) -> Result<Vec<u8>, LoginFailure> {
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head[..1]).await?;
    let [tag, ..] = head;
    if tag != b'p' {
        let error = format!("expected {what} response, got message type {tag}");
        return Err(ClientError::new("08P01", error).into());
    }
    stream.read_exact(&mut head[1..]).await?;
    let header =
        frontend_header(&head).ok().flatten().filter(|header| header.len <= MAX_SASL_MESSAGE + HEADER_LEN);
    let header =
        header.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "invalid message length"))?;
    let mut body = vec![0; header.len - HEADER_LEN];
    stream.read_exact(&mut body).await?;
    Ok(body)
}
