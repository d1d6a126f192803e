//! Checking who a client is, and telling it about its session.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use pgherd_protocol::auth::{
    AuthError, Channel, Credential, InitialResponse, MAX_SASL_MESSAGE, Md5Verifier, ScramServer,
    ScramVerifier, Verifier, md5,
};
use pgherd_protocol::error::{ClientError, ErrorFields, Severity};
use pgherd_protocol::frame::{HEADER_LEN, frontend_header};
use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::startup::Startup;
use pgherd_protocol::write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::acquire::{self, Access, Held};
use super::welcome;
use crate::cancel::Registration;
use crate::config::PoolMode;
use crate::console::{self, Visitor};
use crate::peer::Peer;
use crate::roster::{Card, Listed};
use crate::seat::Seat;
use crate::shared::{Counted, Shared};
use crate::stream::Stream;
use crate::verifiers::LookupError;
use crate::worker::Worker;

/// The newest minor version of protocol 3 that pgherd speaks.
const MINOR_VERSION: u16 = 0;

/// A client that has proven who it is, and what it needs a server for.
pub(crate) struct LoggedIn {
    pub(super) access: Access,
    pub(crate) registration: Registration,
    pub(crate) counted: Counted,
    pub(super) listed: Listed,
    pub(super) mode: PoolMode,
    /// A server connection, in session mode, if one was to be had at once.
    pub(super) early: Option<Held>,
}

/// Where a client is let in.
pub(crate) enum Admitted {
    /// To servers.
    ToServers(LoggedIn),
    /// To the console.
    ToConsole(Visitor),
}

/// Why a client is turned away: what it is told, and what the log says.
pub(crate) struct Refusal {
    /// The ErrorResponse.
    pub(crate) message: Vec<u8>,
    reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        let mut message = Vec::new();
        error.write(&mut message, Severity::Fatal);
        Self { message, reason: error.message }
    }
}

impl Refusal {
    /// Passes a server's error on, as FATAL, since the session ends with it.
    pub(crate) fn from_server(body: &[u8]) -> Self {
        let fields = ErrorFields::parse(body);
        let reason = String::from_utf8_lossy(fields.message).into_owned();
        let mut message = Vec::new();
        write::message(&mut message, b'E', |out| write_fatal(body, out));
        Self { message, reason }
    }
}

/// Copies the fields of an ErrorResponse, with severity FATAL.
fn write_fatal(mut body: &[u8], out: &mut Vec<u8>) {
    while let Some((&code, rest)) = body.split_first().filter(|(code, _)| **code != 0) {
        let Some((text, rest)) = pgherd_protocol::frame::split_cstr(rest) else { break };
        body = rest;
        out.push(code);
        write::cstr(out, if matches!(code, b'S' | b'V') { b"FATAL" } else { text });
    }
    out.push(0);
}

/// Why a login did not end in a session.
pub(crate) enum LoginFailure {
    /// The client is turned away.
    Refused(Refusal),
    /// The client went away.
    Gone(io::Error),
}

impl From<io::Error> for LoginFailure {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<ClientError> for LoginFailure {
    fn from(error: ClientError) -> Self {
        Self::Refused(error.into())
    }
}

/// Authenticates the client and sends everything up to the first ReadyForQuery. A client that has proven who it is gets an
/// error if no server answers before `deadline`.
pub(super) async fn log_in(
    worker: &Rc<Worker>,
    stream: &mut Stream,
    peer: &Peer,
    startup: Startup,
    deadline: Instant,
) -> Result<Admitted, LoginFailure> {
    let shared = &worker.shared;
    let mut out = Vec::new();
    if startup.minor > MINOR_VERSION || !startup.unknown_extensions.is_empty() {
        write::negotiate_protocol_version(&mut out, MINOR_VERSION, &startup.unknown_extensions);
        stream.write_all(&out).await?;
    }
    let replication = startup.replication.as_deref().unwrap_or("off");
    if !matches!(replication, "off" | "false" | "no" | "0" | "f" | "n") {
        return Err(ClientError::new("0A000", "pgherd does not pass on replication connections")
            .hint("Connect to the server itself.")
            .into());
    }
    authenticate(worker, stream, &startup.user, peer.channel()).await?;
    if console::is_console(&startup.database) {
        return Ok(Admitted::ToConsole(console::admit(worker, &startup, peer, stream)?));
    }
    check_gates(shared, &startup.database)?;
    // Those who have not proven who they are keep nobody out.
    let counted = shared.clients.enter(shared.config.load().pool.max_clients).ok_or_else(|| {
        ClientError::new("53300", "sorry, too many clients already")
            .detail("pool.max_clients of pgherd is reached")
    })?;
    let parameters = shared.parameters.share(Parameters::new(&startup.parameters)?);
    let (database, user) = (Arc::<str>::from(startup.database), Arc::<str>::from(startup.user));
    let names = (Arc::clone(&database), Arc::clone(&user));
    let ends = (peer.clone(), stream.socket().local_addr().ok());
    let seat = Arc::new(Seat::new(Card::new(shared.roster.number(), names, ends, Arc::clone(&parameters))));
    let mut access = Access::new(database, user, Arc::clone(&parameters), Arc::clone(&seat), Arc::default());
    let found = tokio::time::timeout_at(deadline, welcome::find(worker, &mut access)).await;
    let welcome = match found {
        Ok(welcome) => welcome?,
        Err(_) => return Err(acquire::not_in_time(worker, &access).into()),
    };
    // A session that keeps its server connection shows the client that server process's id, so that what is said of it
    // (pg_stat_activity, NOTIFY) is recognised, and pg_terminate_backend() reaches it.
    let mode = shared.config.load().pool.mode_for(&access.database, &access.user);
    let mut early = match mode {
        PoolMode::Session => {
            tokio::time::timeout_at(deadline, access.at_once(worker)).await.unwrap_or_default()
        }
        PoolMode::Transaction | PoolMode::Statement => None,
    };
    let pid =
        early.as_mut().and_then(|held| held.lease.connection()).map(|connection| connection.cancel.pid());
    access.account = shared.traffic.account(&access.database, &access.user);
    let registration = shared.cancel_keys.register(&seat, pid);
    let listed = shared.roster.enter(&seat);
    out.clear();
    write::authentication(&mut out, 0, &[]);
    for (name, value) in welcome.iter() {
        write::parameter_status(&mut out, name, value);
    }
    write::backend_key_data(&mut out, registration.key);
    write::ready_for_query(&mut out, b'I');
    stream.write_all(&out).await?;
    Ok(Admitted::ToServers(LoggedIn { access, registration, counted, listed, mode, early }))
}

/// Refuses those whom an operator does not want.
fn check_gates(shared: &Shared, database: &str) -> Result<(), ClientError> {
    if shared.ending.is_near() {
        return Err(ClientError::new("57P03", "the database system is shutting down"));
    }
    if shared.backends.gates.is_disabled(database) {
        let message = format!("database \"{database}\" is not currently accepting connections");
        return Err(ClientError::new("55000", message)
            .detail("It was disabled on pgherd's console.")
            .hint("ENABLE on the console lets clients in again."));
    }
    Ok(())
}

/// Asks for the password the way that the stored verifier needs.
async fn authenticate(
    worker: &Worker,
    stream: &mut Stream,
    user: &str,
    channel: Channel,
) -> Result<(), LoginFailure> {
    let shared = &worker.shared;
    let role = match shared.verifiers.lookup(user).await {
        Ok(role) => Some(role),
        Err(LookupError::NoSuchRole) => None,
        Err(error) => {
            tracing::warn!(user, %error, "a password cannot be checked");
            return Err(ClientError::new("57P03", "the password cannot be checked now")
                .hint("No server could be asked for the stored password. Try again later.")
                .into());
        }
    };
    let verifier = role.as_ref().and_then(|role| role.verifier_at(SystemTime::now()));
    let checked = match verifier {
        Some(Verifier::Md5(verifier)) => check_md5(stream, verifier).await?,
        Some(Verifier::Scram(verifier)) => check_scram(shared, stream, user, Some(verifier), channel).await?,
        None => check_scram(shared, stream, user, None, channel).await?,
    };
    match (checked, role) {
        (Ok(credential), Some(role)) if role.can_login => {
            shared.credentials.set(user, credential);
            Ok(())
        }
        (Ok(_), Some(_)) => {
            Err(ClientError::new("28000", format!("role \"{user}\" is not permitted to log in")).into())
        }
        (Err(AuthError::Failed) | Ok(_), _) => {
            // The password may have been changed: the next login must find the new one.
            shared.verifiers.login_failed(user);
            Err(ClientError::new("28P01", format!("password authentication failed for user \"{user}\""))
                .into())
        }
        (Err(error), _) => {
            let refusal = ClientError::new(error.sqlstate(), error.to_string());
            Err(error.detail().map_or(refusal.clone(), |detail| refusal.detail(detail)).into())
        }
    }
}

async fn check_md5(
    stream: &mut Stream,
    verifier: &Md5Verifier,
) -> Result<Result<Credential, AuthError>, LoginFailure> {
    let salt: [u8; 4] = rand::random();
    let mut out = Vec::new();
    write::authentication(&mut out, 5, &salt);
    stream.write_all(&out).await?;
    let response = read_response(stream, "password").await?;
    Ok(md5::check(verifier, salt, &response).map(|()| Credential::Md5(verifier.clone())))
}

async fn check_scram(
    shared: &Shared,
    stream: &mut Stream,
    user: &str,
    verifier: Option<&ScramVerifier>,
    channel: Channel,
) -> Result<Result<Credential, AuthError>, LoginFailure> {
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
    let exchange =
        ScramServer::new(verifier, user, &shared.mock_secret, &rand::random()).over(channel, mechanism);
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
            stream.write_all(&out).await?;
            Ok(Ok(Credential::Keys(keys)))
        }
        Err(error) => Ok(Err(error)),
    }
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
