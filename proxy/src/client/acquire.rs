//! How a session comes to a server connection.

use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pgherd_health::NodeId;
use pgherd_protocol::auth::LoginError;
use pgherd_protocol::error::ClientError;
use pgherd_protocol::parameters::Parameters;
use pgherd_protocol::session::Sequences;
use tokio::time::Instant;

use super::reads::Standbys;
use super::unserved::{cancelled, no_primary, pool_is_full};
use crate::hidden::Outlook;
use crate::peer::Peer;
use crate::seat::{Seat, WaitEnd};
use crate::server::connect::{ConnectError, ConnectRequest};
use crate::server::connection::ServerConnection;
use crate::server::lease::{Grant, Lease, Permit};
use crate::server::pool::{Checkout, Pool};
use crate::server::table::{Server, Target};
use crate::traffic::Account;
use crate::worker::Worker;

/// Takes back what the last client's startup packet said. RESET ALL leaves out who the session is.
pub(super) const RESET: &str = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL";

/// A server connection that a session holds.
#[derive(Debug)]
pub(crate) struct Held {
    /// The server, for messages.
    pub(super) server: Arc<Server>,
    /// The connection.
    pub(crate) lease: Lease,
}

/// Why a session gets no server connection.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client is told this, and may go on.
    Told(ClientError),
    /// The server refused the login or a parameter; the body of its ErrorResponse.
    Refused(Box<[u8]>),
    /// Nobody is there any more who could be told.
    Gone,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Told(error)
    }
}

/// What a session needs a server connection for.
#[derive(Debug)]
pub(crate) struct Access {
    /// What is in force in the session.
    pub(super) parameters: Arc<Parameters>,
    pub(super) seat: Arc<Seat>,
    /// Where what it does is counted.
    pub(super) account: Arc<Account>,
    /// What its texts are suspected of; none in session mode.
    pub(super) outlook: Option<Arc<Outlook>>,
    /// How the sessions of its database and user use sequences, as far as that is known.
    pub(super) sequences: Arc<Sequences>,
    /// The connection that it has for life, in session mode, while it does not use it: got at the login, or left aside for a read on a
    /// standby.
    pub(super) home: Option<Held>,
    /// The pool that served last, good as long as its server is the primary.
    cached: Option<(Arc<Server>, Arc<Pool>)>,
    /// Where it reads besides.
    pub(super) standbys: Standbys,
}

/// What a look at the table and the pool gave.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// A connection that is ready.
    Held(Held),
    /// All are in use: the seat will tell.
    Queued(Arc<Server>),
    /// Something has to be done, or waited for, first.
    Slow(Slow),
}

/// What takes longer.
#[derive(Debug)]
pub(crate) enum Slow {
    /// A connection that is not on this worker, or has other parameters.
    Prepare(Held),
    /// None is idle, and one more may be opened.
    Open(Arc<Server>, Permit),
    /// There is no primary now.
    Wait,
}

impl Slow {
    /// The standby that it is about, if it is about one.
    fn standby(&self) -> Option<NodeId> {
        match self {
            Self::Prepare(Held { server, .. }) | Self::Open(server, _) => {
                (!server.is_primary()).then_some(server.node.id)
            }
            Self::Wait => None,
        }
    }
}

enum Trouble {
    Final(Failure),
    Unreachable,
    NoPrimary,
    /// No more connections can be opened, but one of the pool will come free; what to say if none does.
    Full(Failure),
    TryAgain,
}

impl Access {
    pub(crate) fn new(parameters: Arc<Parameters>, seat: Arc<Seat>, account: Arc<Account>) -> Self {
        let sequences = Arc::default();
        let standbys = Standbys::new(seat.card().id);
        let (outlook, home, cached) = (None, None, None);
        Self { parameters, seat, account, outlook, sequences, home, cached, standbys }
    }

    pub(super) fn database(&self) -> &Arc<str> {
        &self.seat.card().database
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.seat.card().peer
    }

    pub(super) fn user(&self) -> &Arc<str> {
        &self.seat.card().user
    }

    /// A number that stands for the database and the user.
    pub(super) fn place(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&**self.database(), &**self.user()).hash(&mut hasher);
        hasher.finish()
    }

    /// The session's own connection, or asks the primary's pool for one.
    pub(crate) fn try_now(&mut self, worker: &Worker) -> Attempt {
        if let Some(home) = self.home.take() {
            return Attempt::Held(home);
        }
        let table = worker.shared.backends.load();
        let Target::Open(server) = &table.writes else { return Attempt::Slow(Slow::Wait) };
        let pool = match &self.cached {
            Some((known, pool)) if Arc::ptr_eq(known, server) => pool,
            _ => {
                let pool = server.pool(self.database(), self.user());
                &self.cached.insert((Arc::clone(server), pool)).1
            }
        };
        match pool.check_out(worker.id, &self.seat, &self.parameters) {
            Checkout::Granted(grant) => self.granted(Arc::clone(server), grant, worker),
            Checkout::Queued => Attempt::Queued(Arc::clone(server)),
            Checkout::Closed => Attempt::Slow(Slow::Wait),
        }
    }

    /// The connection on which the session has taken its last number of a sequence, if it is the primary's and idle.
    pub(super) fn try_own(&self, worker: &Worker) -> Option<Attempt> {
        let table = worker.shared.backends.load();
        let Target::Open(server) = &table.writes else { return None };
        let (_, pool) = self.cached.as_ref().filter(|(known, _)| Arc::ptr_eq(known, server))?;
        let lease = pool.check_out_drawn_by(self.seat.card().id)?;
        Some(self.granted(Arc::clone(server), Grant::Lease(lease), worker))
    }

    /// A connection that is to be had without waiting for other clients.
    pub(crate) async fn at_once(&mut self, worker: &Worker) -> Option<Held> {
        match self.try_now(worker) {
            Attempt::Held(held) => Some(held),
            Attempt::Slow(slow) => self.finish(slow, worker).await.ok(),
            Attempt::Queued(_) => {
                self.seat.leave();
                None
            }
        }
    }

    /// A connection of the primary's pool that nobody has used for so long.
    pub(crate) async fn rested(&self, worker: &Worker, rested: Duration) -> Option<Held> {
        let server = worker.shared.backends.primary()?;
        let lease = server.pool(self.database(), self.user()).lend_rested(rested)?;
        self.prepare(Held { server, lease }, worker).await.ok()
    }

    /// True if the primary's pool has a connection to give.
    pub(crate) fn can_be_served_now(&self, worker: &Worker) -> bool {
        match &worker.shared.backends.load().writes {
            Target::Open(server) => server.pool(self.database(), self.user()).can_serve(),
            Target::Held { .. } => false,
        }
    }

    pub(super) fn granted(&self, server: Arc<Server>, grant: Grant, worker: &Worker) -> Attempt {
        match grant {
            Grant::Lease(lease) => {
                let mut held = Held { server, lease };
                let prepared = held.lease.connection().is_some_and(|connection| {
                    connection.home == worker.id && connection.has(&self.parameters)
                });
                if prepared { Attempt::Held(held) } else { Attempt::Slow(Slow::Prepare(held)) }
            }
            Grant::Permit(permit) => Attempt::Slow(Slow::Open(server, permit)),
        }
    }

    /// Goes on from an attempt until there is a connection, or the client's patience is at its end. `gone` is ready when
    /// nobody waits any more.
    pub(crate) async fn persist(
        &mut self,
        worker: &Worker,
        mut attempt: Attempt,
        mut gone: impl FnMut() -> Poll<()>,
    ) -> Result<Held, Failure> {
        let mut patience = None;
        loop {
            attempt = match attempt {
                Attempt::Held(held) => return Ok(held),
                Attempt::Queued(server) => match self.queue(&server, worker, &mut gone).await? {
                    Some(grant) => self.granted(server, grant, worker),
                    None => self.try_now(worker),
                },
                Attempt::Slow(slow) => {
                    let write_wait = || worker.shared.config.load().failover.write_wait;
                    let deadline = *patience.get_or_insert_with(|| Instant::now() + write_wait());
                    let standby = slow.standby();
                    // Boxed, so that a session does not carry the space for it all its life.
                    match Box::pin(self.take_slow_way(worker, slow, deadline, &mut gone)).await? {
                        Some(held) => return Ok(held),
                        None => {
                            if let Some(standby) = standby {
                                self.standbys.shun(standby);
                            }
                            self.try_now(worker)
                        }
                    }
                }
            };
        }
    }

    /// Waits for its turn; none if the pool was closed meanwhile.
    async fn queue(
        &self,
        server: &Arc<Server>,
        worker: &Worker,
        gone: &mut impl FnMut() -> Poll<()>,
    ) -> Result<Option<Grant>, Failure> {
        let Some(pool) = self.pool_of(server) else { return Ok(None) };
        worker.tend(pool);
        let _left = LeaveAtEnd(&self.seat);
        let end = poll_fn(|cx| match self.seat.poll_wait(cx) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending => gone().map(|()| None),
        });
        match end.await {
            Some(WaitEnd::Granted(grant)) => Ok(Some(grant)),
            Some(WaitEnd::Closed) => Ok(None),
            Some(WaitEnd::Cancelled) => Err(cancelled().into()),
            Some(WaitEnd::TimedOut) => Err(pool_is_full(self, pool, worker).into()),
            None => Err(Failure::Gone),
        }
    }

    /// The pool that was asked last of this server.
    fn pool_of(&self, server: &Arc<Server>) -> Option<&Arc<Pool>> {
        let is_it = |(its, _): &&(Arc<Server>, Arc<Pool>)| Arc::ptr_eq(its, server);
        self.cached.as_ref().filter(is_it).map(|(_, pool)| pool).or_else(|| self.standbys.pool_of(server))
    }

    /// Does what has to be done, unless the client is gone or cancels it before; none if the pool is to be asked again.
    async fn take_slow_way(
        &self,
        worker: &Worker,
        slow: Slow,
        deadline: Instant,
        gone: &mut impl FnMut() -> Poll<()>,
    ) -> Result<Option<Held>, Failure> {
        self.seat.begin_wait();
        let _left = LeaveAtEnd(&self.seat);
        let ended_by_client = poll_fn(|cx| match self.seat.poll_wait(cx) {
            Poll::Ready(_) => Poll::Ready(Failure::from(cancelled())),
            Poll::Pending => gone().map(|()| Failure::Gone),
        });
        tokio::select! {
            biased;
            done = self.open_prepare_or_wait(worker, slow, deadline) => done,
            failure = ended_by_client => Err(failure),
        }
    }

    /// Opens or prepares a connection, or waits for a primary.
    async fn open_prepare_or_wait(
        &self,
        worker: &Worker,
        slow: Slow,
        deadline: Instant,
    ) -> Result<Option<Held>, Failure> {
        let backends = &worker.shared.backends;
        // Before the look at the table, so that no change is missed.
        let mut changes = backends.changes();
        let is_standby = slow.standby().is_some();
        let until = match self.finish(slow, worker).await {
            Ok(held) => return Ok(Some(held)),
            // It may not know the role yet, or the database: the primary has the last word.
            Err(_) if is_standby => return Ok(None),
            Err(Trouble::Final(failure)) => return Err(failure),
            Err(Trouble::Full(_)) if Instant::now() < deadline => return Ok(None),
            Err(Trouble::Full(failure)) => return Err(failure),
            Err(Trouble::TryAgain) => Instant::now(),
            Err(Trouble::Unreachable) => {
                deadline.min(Instant::now() + worker.shared.config.load().pool.server_login_retry)
            }
            Err(Trouble::NoPrimary) if matches!(backends.load().writes, Target::Open(_)) => Instant::now(),
            Err(Trouble::NoPrimary) => deadline,
        };
        let max_waiting = worker.shared.config.load().failover.max_waiting;
        let Some(_waiting) = worker.shared.waiting.enter(max_waiting) else {
            return Err(no_primary(worker).detail("failover.max_waiting clients wait already").into());
        };
        let _ = tokio::time::timeout_at(until, changes.changed()).await;
        if Instant::now() < deadline { Ok(None) } else { Err(no_primary(worker).into()) }
    }

    /// Does what has to be done first, if there is a primary.
    async fn finish(&self, slow: Slow, worker: &Worker) -> Result<Held, Trouble> {
        match slow {
            Slow::Prepare(held) => self.prepare(held, worker).await,
            Slow::Open(server, permit) => self.open(server, permit, worker).await,
            Slow::Wait => Err(Trouble::NoPrimary),
        }
    }

    /// Opens a connection and prepares it.
    async fn open(&self, server: Arc<Server>, permit: Permit, worker: &Worker) -> Result<Held, Trouble> {
        if !server.may_be_tried() {
            return Err(Trouble::Unreachable);
        }
        match connect(&server, (self.database(), self.user()), &[], worker).await {
            Ok(connection) => {
                let lease = permit.fill(connection).ok_or(Trouble::TryAgain)?;
                self.prepare(Held { server, lease }, worker).await
            }
            Err(error) => {
                let may_come_free = error.is_for_want_of_room() && permit.refused();
                Err(match self.judge(error, &server, worker) {
                    Trouble::Final(failure) if may_come_free => Trouble::Full(failure),
                    trouble => trouble,
                })
            }
        }
    }

    fn judge(&self, error: ConnectError, server: &Server, worker: &Worker) -> Trouble {
        if error.is_about_the_server() {
            tracing::debug!(server = %server.node, %error, "cannot open a connection");
            worker.shared.doubt(server.node.id);
            return Trouble::Unreachable;
        }
        tracing::info!(server = %server.node, database = %self.database(), user = %self.user(), %error, "no server connection");
        Trouble::Final(match error {
            ConnectError::Refused(body) => Failure::Refused(body),
            ConnectError::NoDescriptors => ClientError::new("53000", "pgherd has too many files open")
                .hint("Raise the limit of open files (ulimit -n) of pgherd.")
                .into(),
            ConnectError::Tls(why) => self.not_as_wanted(server, &why),
            ConnectError::Login(error @ LoginError::ChannelBindingRequired(_)) => {
                self.not_as_wanted(server, &error.to_string())
            }
            ConnectError::Login(LoginError::NoCredential) => ClientError::new(
                "28000",
                format!("pgherd has no password to log in as user \"{}\" at {}", self.user(), server.node),
            )
            .hint(
                "Who is let in without a password gives none away: put the user's into auth.userlist_file or [[auth.map]] \
                 of pgherd.",
            )
            .into(),
            other => {
                ClientError::new(
                    "28P01",
                    format!("login of user \"{}\" at {} failed: {other}", self.user(), server.node),
                )
                .hint("The password may have been changed: connect again.")
                .into()
            }
        })
    }

    /// The server can be reached, but not as `backends.tls` wants it.
    fn not_as_wanted(&self, server: &Server, why: &str) -> Failure {
        let text = format!("connection to server {} for user \"{}\" failed: {why}", server.node, self.user());
        ClientError::new("08001", text).into()
    }

    /// Brings a connection to this worker and to the session's parameters.
    async fn prepare(&self, mut held: Held, worker: &Worker) -> Result<Held, Trouble> {
        held.lease.move_to(worker.id).map_err(|_| Trouble::TryAgain)?;
        let Some(connection) = held.lease.connection() else { return Err(Trouble::TryAgain) };
        if connection.has(&self.parameters) {
            return Ok(held);
        }
        let set = self.parameters.to_sql().unwrap_or_default();
        for name in self.parameters.custom_names() {
            connection.state.customs.add(name);
        }
        // In messages of their own: the second is read under the server's own settings, not under the last client's. What
        // goes wrong with the first is no fault of this client.
        match connection.run_all([RESET, &set], &worker.buffers).await {
            Ok([Ok(()), Ok(())]) => {
                connection.applied = Some(Arc::clone(&self.parameters));
                Ok(held)
            }
            Ok([Ok(()), Err(body)]) => Err(Trouble::Final(Failure::Refused(body))),
            Ok([Err(_), _]) => Err(Trouble::TryAgain),
            Err(error) => {
                tracing::debug!(server = %held.server.node, %error, "a connection was lost before it was used");
                worker.shared.doubt(held.server.node.id);
                Err(Trouble::Unreachable)
            }
        }
    }
}

/// Opens a connection to a server's database for a user, with these parameters besides in its startup packet.
///
/// # Errors
/// See [`ConnectError`].
pub(crate) async fn connect(
    server: &Server,
    (database, user): (&str, &str),
    parameters: &[(&str, &str)],
    worker: &Worker,
) -> Result<Box<ServerConnection>, ConnectError> {
    let config = worker.shared.config.load_full();
    let request = ConnectRequest {
        node: &server.node,
        database,
        user,
        parameters,
        credential: worker.shared.credential(&config, database, user),
        tls: &config.server_tls,
        timeout: config.pool.server_connect_timeout,
        tcp: &config.pool.tcp,
        lifetime: config.pool.server_lifetime_for(database, user),
        cancel_timeout: config.pool.cancel_wait_timeout,
        max_prepared_statements: config.pool.prepared_statements,
        unnamed: config.pool.prepare_unnamed.plans(),
        worker: worker.id,
        descriptors: &worker.shared.descriptors,
    };
    let opened = request.open().await;
    server.was_tried(!opened.as_ref().is_err_and(ConnectError::is_about_the_server));
    let connection = opened?;
    server.watch_over(&connection.cutter);
    if parameters.is_empty() {
        let reported = &connection.state.parameters;
        worker.shared.welcomes.learn(database, user, Parameters::default(), reported);
    }
    Ok(connection)
}

/// Ends the wait on a seat, however it ends.
pub(super) struct LeaveAtEnd<'a>(pub(super) &'a Seat);

impl Drop for LeaveAtEnd<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A connection to any server, for what needs no primary: the primary's if there is one.
pub(super) async fn any_server(access: &mut Access, worker: &Worker) -> Result<Held, Failure> {
    let standby = {
        let table = worker.shared.backends.load();
        match &table.writes {
            Target::Open(_) => None,
            Target::Held { .. } => table.readable.first().cloned(),
        }
    };
    if let Some(server) = standby {
        let pool = server.pool(access.database(), access.user());
        let found = match pool.check_out(worker.id, &access.seat, &access.parameters) {
            Checkout::Granted(Grant::Lease(lease)) => access.prepare(Held { server, lease }, worker).await,
            Checkout::Granted(Grant::Permit(permit)) => access.open(server, permit, worker).await,
            Checkout::Queued | Checkout::Closed => Err(Trouble::TryAgain),
        };
        access.seat.leave();
        match found {
            Ok(held) => return Ok(held),
            Err(Trouble::Final(failure)) => return Err(failure),
            Err(_) => {}
        }
    }
    let first = access.try_now(worker);
    access.persist(worker, first, || Poll::Pending).await
}
