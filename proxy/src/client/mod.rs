//! Clients: startup and login, then a session whose statements run on leased server connections.

pub(crate) mod acquire;
mod again;
mod authenticate;
mod blocks;
mod exchange;
mod home;
mod in_band;
mod leftovers;
pub(crate) mod listen;
mod login;
mod meter;
mod own_statements;
mod own_work;
mod parting;
mod pipe;
mod proxied;
mod reads;
mod relay;
mod replication;
mod session;
mod startup;
mod travel;
mod turns;
mod unserved;
mod vacate;
mod watch;
pub(crate) mod welcome;
mod wishes;

use std::rc::Rc;
use std::time::Duration;

use pgherd_protocol::error::ClientError;
use pgherd_protocol::startup::CancelKey;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::console::{self, Visitor};
use crate::crew::Connected;
use crate::peer::{Peer, PeerAddress};
use crate::strangers::{Refused, Strangers};
use crate::stream::Stream;
use crate::worker::{Worker, WorkerId};
use login::{Admitted, LoginFailure};
use startup::Opening;

pub(crate) use replication::Replication;
pub(crate) use session::Session;
pub(crate) use travel::Traveller;
pub(crate) use turns::Turns;
pub(crate) use watch::{Limits, Moment, Watch};

/// Time for the last words to a client whose login has taken too long.
const LOGIN_GRACE: Duration = Duration::from_millis(200);

/// Startup and login. The session that it leads to, if it does, is for the caller to run, as a task of its own: so it does
/// not carry the space of its login for life.
pub(crate) async fn greet(worker: Rc<Worker>, connection: Connection) -> TaskEnd {
    let Connection { mut stream, mut peer, counted } = connection;
    if let PeerAddress::Tcp(_) = peer.address
        && let Err(error) = stream.socket().set_options(&worker.shared.config.load().pool.tcp)
    {
        tracing::debug!(%peer, %error, "a client went away at once");
        return TaskEnd::Nothing;
    }
    let limit = worker.shared.config.load().pool.client_login_timeout;
    let deadline = Instant::now() + limit;
    // A little later, so that a client that has proven who it is hears why it is not served.
    let opening =
        tokio::time::timeout_at(deadline + LOGIN_GRACE, open(&worker, &mut stream, &mut peer, deadline));
    let opened = tokio::select! {
        biased;
        opened = opening => opened,
        // Whoever has not said yet what it wants would not understand why.
        () = worker.parting() => return TaskEnd::Nothing,
    };
    match opened {
        Ok(Ok(Opened::Session(client))) => {
            return TaskEnd::Session(Box::new(Session::new(worker, (stream, counted), client)));
        }
        Ok(Ok(Opened::Console(visitor))) => {
            // What is left of the login is not kept for it, nor does it keep an ordinary session's task large.
            let served = Box::pin(console::serve(worker, stream, visitor)).await;
            drop(counted);
            tracing::debug!(%peer, error = served.err().map(|error| error.to_string()), "a console was left");
        }
        Ok(Ok(Opened::Replication(replication))) => {
            Box::pin(replication.run(&worker, &mut stream)).await;
            tracing::debug!(%peer, "a replication connection ended");
        }
        Ok(Ok(Opened::Cancel(key))) => worker.shared.cancel_keys.cancel(key).await,
        Ok(Ok(Opened::Nothing)) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a client went away during login"),
        Err(_) => {
            if worker.shared.strangers.may_be_told_of(&peer.address) {
                tracing::info!(%peer, ?limit, "a client did not log in in time");
            }
        }
    }
    TaskEnd::Nothing
}

/// How the task of a login or of a session ended.
pub(crate) enum TaskEnd {
    /// A session that is to be served.
    Session(Box<Session>),
    /// A session that is to be served by another worker.
    Leaves(Box<Session>, WorkerId),
    /// The client's connection has ended.
    Nothing,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pub(crate) peer: Peer,
    /// It counts as the worker's as long as this lives.
    pub(crate) counted: Connected,
}

/// What a connection turned out to be for.
enum Opened {
    Session(login::LoggedIn),
    Console(Visitor),
    Replication(replication::Passage),
    Cancel(CancelKey),
    Nothing,
}

/// Startup and login.
async fn open(
    worker: &Rc<Worker>,
    stream: &mut Stream,
    peer: &mut Peer,
    deadline: Instant,
) -> std::io::Result<Opened> {
    let strangers = &worker.shared.strangers;
    if let Err(error) = proxied::find_client(stream, peer, &worker.shared.config).await? {
        if strangers.may_be_told_of(&peer.address) {
            tracing::info!(%peer, %error, "a load balancer does not say for whom it connects");
        }
        return Ok(Opened::Nothing);
    }
    // Not sooner: all that a load balancer connects for are at its address.
    let config = worker.shared.config.load();
    let most = config.listen.max_unauthenticated_per_address;
    let is_short = worker.shared.memory.has_reached(config.memory_limit);
    drop(config);
    let place = match strangers.enter(&peer.address, most, is_short) {
        Ok(place) => place,
        Err(why) => {
            turn_away(stream, peer, strangers, why).await?;
            return Ok(Opened::Nothing);
        }
    };
    let startup = match startup::receive(stream, peer, &worker.shared).await? {
        Opening::Startup(startup) => startup,
        Opening::Cancel(key) => return Ok(Opened::Cancel(key)),
        Opening::Refused(message) => {
            stream.write_all(&message).await?;
            return Ok(Opened::Nothing);
        }
        Opening::Closed => return Ok(Opened::Nothing),
    };
    let (user, database) = (startup.user.clone(), startup.database.clone());
    let logged_in = tokio::select! {
        logged_in = login::log_in(worker, stream, peer, (startup, place), deadline) => logged_in,
        () = worker.parting() => {
            Err(ClientError::new("57P01", "terminating connection due to administrator command").into())
        }
    };
    match logged_in {
        Ok(admitted) => {
            tracing::debug!(%peer, user, database, "a client logged in");
            Ok(match admitted {
                Admitted::ToServers(client) => Opened::Session(client),
                Admitted::ToConsole(visitor) => Opened::Console(visitor),
                Admitted::Replicating(replication) => Opened::Replication(replication),
            })
        }
        Err(LoginFailure::Refused(refusal)) => {
            if strangers.may_be_told_of(&peer.address) {
                tracing::info!(%peer, user, database, reason = ?refusal.to_string(), "a login was refused");
            }
            stream.write_all(&refusal.message).await?;
            Ok(Opened::Nothing)
        }
        Err(LoginFailure::Gone(error)) => Err(error),
    }
}

/// Closes a stranger's connection. What it has sent is not waited for.
async fn turn_away(
    stream: &mut Stream,
    peer: &Peer,
    strangers: &Strangers,
    why: Refused,
) -> std::io::Result<()> {
    let may_be_told_of = strangers.may_be_told_of(&peer.address);
    let error = match why {
        Refused::Address => {
            if may_be_told_of {
                let limit = "listen.max_unauthenticated_per_address";
                tracing::warn!(%peer, limit, "too many connections of one address that have not logged in");
            }
            ClientError::new("53300", "sorry, too many clients already")
                .detail("Too many connections from this address have not logged in yet.")
        }
        Refused::Memory => {
            if may_be_told_of {
                tracing::warn!(%peer, limit = "memory.limit", "no memory for more connections that log in");
            }
            ClientError::new("53200", "out of memory")
                .detail("pgherd has as much memory as it may, and others are logging in.")
        }
    };
    stream.write_all(&error.last_words()).await
}
