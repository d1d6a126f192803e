//! Checking who a client is, and telling it about its session.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use pgherd_protocol::customs::Customs;
use pgherd_protocol::error::{ClientError, ErrorFields};
use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::session::Pooling;
use pgherd_protocol::startup::{CancelKey, Startup};
use pgherd_protocol::write;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::acquire::Access;
use super::authenticate::Applicant;
use super::home;
use super::replication::{self, Passage, Replication};
use super::unserved::not_in_time;
use super::welcome;
use super::wishes::{self, Defaults};
use crate::cancel::Registration;
use crate::config::{Config, PoolMode};
use crate::console::{self, Visitor};
use crate::identities::{Change, Identity};
use crate::peer::Peer;
use crate::places::Places;
use crate::roster::{Card, Listed};
use crate::seat::Seat;
use crate::server::marks::After;
use crate::shared::Shared;
use crate::strangers::Place;
use crate::stream::Stream;
use crate::verifiers::{LookupError, Role};
use crate::worker::Worker;

/// A client that has proven who it is, and what it needs a server for.
pub(crate) struct LoggedIn {
    pub(super) access: Access,
    pub(crate) registration: Registration,
    pub(crate) counted: Places,
    pub(super) listed: Listed,
    pub(super) mode: PoolMode,
    pub(super) pooling: Pooling,
}

/// Where a client is let in.
pub(crate) enum Admitted {
    /// To servers.
    ToServers(LoggedIn),
    /// To the console.
    ToConsole(Visitor),
    /// To a server, for replication.
    Replicating(Passage),
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
        Self { message: error.last_words(), reason: error.message }
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

/// Authenticates the client, which has a stranger's place until then, and sends everything up to the first ReadyForQuery. A client that has proven who it is gets an
/// error if no server answers before `deadline`.
pub(super) async fn log_in(
    worker: &Rc<Worker>,
    stream: &mut Stream,
    peer: &Peer,
    (mut startup, place): (Startup, Place),
    deadline: Instant,
) -> Result<Admitted, LoginFailure> {
    let shared = &worker.shared;
    let minor = startup.spoken_minor();
    if startup.minor > minor || !startup.unknown_extensions.is_empty() {
        let mut out = Vec::new();
        write::negotiate_protocol_version(&mut out, minor, &startup.unknown_extensions);
        stream.write_all(&out).await?;
    }
    let replication = Replication::asked_for(&startup)?;
    if replication != Replication::No && console::is_console(&startup.database) {
        return Err(ClientError::new("0A000", "pgherd's console has no replication").into());
    }
    if replication == Replication::Physical {
        // It is for no database (`ProcessStartupPacket()` in PostgreSQL's `postmaster.c`): no rule is asked about the one that it
        // names, so nothing may depend on it.
        startup.database.clear();
    }
    // Before the configuration is looked at: it is no older.
    let begun_at = std::time::Instant::now();
    let config = shared.config.load_full();
    let applicant =
        Applicant { shared, config: &config, stream, peer, startup: &startup, replication, begun_at };
    let role = applicant.authenticate().await?;
    let identity = note_identity(worker, &startup.user, role.as_deref())?;
    drop(place);
    if console::is_console(&startup.database) {
        return Ok(Admitted::ToConsole(console::admit(worker, &startup, peer, stream)?));
    }
    check_gates(shared, &startup.database)?;
    let server_user = config.auth.server_user(&startup.database, &startup.user);
    let (identity_there, role_there) = note_identity_there(worker, server_user, &startup.user).await?;
    // Those who have not proven who they are keep nobody out.
    let counted = take_places(shared, &config, &startup, role.as_deref())?;
    let (parameters, after) = parameters(&startup, server_user, (shared, &config))?;
    let names = (shared.names.share(startup.database.as_str()), shared.names.share(server_user));
    let local = stream.socket().local_addr().ok().map(|address| shared.addresses.share(address));
    let ends = (peer.clone(), local);
    let card = Card::new(shared.roster.number(), names, ends, Arc::clone(&parameters));
    let seat = Arc::new(Seat::new(Card { replication, ..card }));
    if replication != Replication::No {
        let mut asked = startup.parameters;
        asked.extend(startup.replication.map(|value| ("replication".to_owned(), value)));
        let opened = replication::open(worker, stream, (&asked, minor), (seat, counted, deadline));
        return Ok(Admitted::Replicating(Box::pin(opened).await?));
    }
    let mut access = Access::new(Arc::clone(&parameters), Arc::clone(&seat), Arc::default());
    let defaults = Defaults::of(role_there.or(role).as_deref(), access.database());
    access.standbys.begin(defaults, after, &shared.backends.positions());
    let found = tokio::time::timeout_at(deadline, welcome::find(worker, &mut access)).await;
    let welcome = match found {
        Ok(welcome) => welcome?,
        Err(_) => return Err(not_in_time(worker, &access).into()),
    };
    // A session that keeps its server connection shows the client that server process's id, so that what is said of it
    // (pg_stat_activity, NOTIFY) is recognised, and pg_terminate_backend() reaches it.
    let mode = shared.config.load().pool.mode_for(access.database(), access.user());
    let pooling = Box::pin(home::pooling(mode, &mut access, worker, deadline)).await;
    let wanted = || shared.config.load().pool.hidden_state_for(access.database(), access.user());
    access.outlook = Some(shared.catalogues.outlook(access.database(), access.user(), wanted));
    let pid = access
        .home
        .as_mut()
        .and_then(|held| held.lease.connection())
        .map(|connection| connection.cancel.pid());
    let policy = || shared.config.load().pool.sequences_for(access.database(), access.user());
    access.sequences = shared.sequences.of(access.database(), access.user(), policy);
    access.account = shared.traffic.account(access.database(), access.user());
    let registration = shared.cancel_keys.register(&seat, pid, minor);
    let listed = shared.roster.enter(&seat);
    // Who was not listed yet when another of this name came was not sent away.
    check_identity(shared, &startup.user, identity)?;
    check_identity(shared, server_user, identity_there)?;
    stream.write_all(&greeting(welcome.iter(), &registration.key)).await?;
    Ok(Admitted::ToServers(LoggedIn { access, registration, counted, listed, mode, pooling }))
}

/// As [`note_identity`] for the user that the client is at the servers, if that is another, and that role. Where none can be asked now, nothing
/// is known.
async fn note_identity_there(
    worker: &Worker,
    server_user: &str,
    user: &str,
) -> Result<(Option<Identity>, Option<Arc<Role>>), ClientError> {
    if server_user == user {
        return Ok((None, None));
    }
    match worker.shared.verifiers.lookup(server_user).await {
        Ok(role) => Ok((note_identity(worker, server_user, Some(&role))?, Some(role))),
        Err(LookupError::NoSuchRole) => {
            Err(ClientError::new("28000", format!("role \"{server_user}\" does not exist")))
        }
        Err(_) => Ok((None, None)),
    }
}

/// Refuses a client whose role was found to be another meanwhile.
fn check_identity(shared: &Shared, user: &str, identity: Option<Identity>) -> Result<(), ClientError> {
    let stands = identity.is_none_or(|identity| shared.identities.stands(user, identity));
    if stands { Ok(()) } else { Err(is_another(user)) }
}

/// Where the role has other settings than at the login before, or is another one, no connection of before is lent to it; and those who
/// logged in as the other one are sent away, for they would go on as this one.
fn note_identity(worker: &Worker, user: &str, role: Option<&Role>) -> Result<Option<Identity>, ClientError> {
    let shared = &worker.shared;
    let Some((role, identity)) = role.and_then(|role| Some((role, role.identity?))) else { return Ok(None) };
    let change = shared.identities.note(user, identity, role.fetched_at);
    match change {
        Change::Nothing => return Ok(Some(identity)),
        Change::Outdated => return Err(is_another(user)),
        Change::Settings | Change::Role => {}
    }
    shared.welcomes.forget(user);
    shared.backends.renew_of_user(user);
    if change == Change::Role {
        let is_its =
            |seat: &&Arc<Seat>| *seat.card().user == *user && !console::is_console(&seat.card().database);
        shared.roster.all().iter().filter(is_its).for_each(|seat| seat.dismiss());
        worker.summon_all();
    }
    Ok(Some(identity))
}

/// The client has proven to be a role that was dropped meanwhile.
fn is_another(user: &str) -> ClientError {
    ClientError::new("28000", format!("role \"{user}\" was dropped, and another one has its name"))
        .hint("Connect again.")
}

/// All that a client is told that is let in, up to the first ReadyForQuery.
pub(super) fn greeting<'a>(parameters: impl Iterator<Item = (&'a str, &'a str)>, key: &CancelKey) -> Vec<u8> {
    let mut out = Vec::new();
    write::authentication(&mut out, 0, &[]);
    for (name, value) in parameters {
        write::parameter_status(&mut out, name, value);
    }
    write::backend_key_data(&mut out, key);
    write::ready_for_query(&mut out, b'I');
    out
}

/// What is in force in the session as it begins.
fn parameters(
    startup: &Startup,
    server_user: &str,
    (shared, config): (&Shared, &Config),
) -> Result<(Arc<Parameters>, Option<After>), ClientError> {
    let mut customs = Customs::default();
    for name in config.pool.custom_parameters_for(&startup.database, server_user) {
        customs.add(&name.to_ascii_lowercase());
    }
    let mut parameters = Parameters::new(&startup.parameters)?;
    wishes::check(&parameters)?;
    let after = wishes::take_after(&mut parameters)?;
    Ok((shared.parameters.share(parameters.with_customs(&customs)), after))
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

/// Takes the places that the client needs, and says what PostgreSQL says where there is none.
fn take_places(
    shared: &Shared,
    config: &Config,
    startup: &Startup,
    role: Option<&Role>,
) -> Result<Places, ClientError> {
    let Startup { user, database, .. } = startup;
    let full = |message: String| ClientError::new("53300", message);
    let client = shared.clients.enter(config.pool.max_clients).ok_or_else(|| {
        full("sorry, too many clients already".to_owned()).detail("pool.max_clients of pgherd is reached")
    })?;
    let facts = role.and_then(|role| role.facts);
    // Limits are not for superusers.
    let bound = |limit: Option<usize>| limit.filter(|_| facts.is_none_or(|facts| !facts.is_superuser));
    let sizes = config.pool.sizes_for(database, user);
    let role_limit = bound(facts.and_then(|facts| facts.connection_limit));
    let role_limit = least(role_limit, sizes.max_user_client_connections);
    let role = shared.clients_by_role.enter(user, role_limit);
    let role = role.ok_or_else(|| full(format!("too many connections for role \"{user}\"")))?;
    let known = shared.verifiers.database(database);
    if known.is_some_and(|known| !known.allows_connections) {
        let message = format!("database \"{database}\" is not currently accepting connections");
        return Err(ClientError::new("55000", message));
    }
    let database_limit = bound(known.and_then(|known| known.connection_limit));
    let database_limit = least(database_limit, sizes.max_db_client_connections);
    let in_database = shared.clients_by_database.enter(database, database_limit);
    let in_database =
        in_database.ok_or_else(|| full(format!("too many connections for database \"{database}\"")))?;
    Ok(Places { _client: client, _role: role, _database: in_database })
}

/// The smaller of the servers' bound and the configured one, of which 0 is none.
fn least(of_servers: Option<usize>, configured: usize) -> Option<usize> {
    let configured = (configured > 0).then_some(configured);
    of_servers.into_iter().chain(configured).min()
}
