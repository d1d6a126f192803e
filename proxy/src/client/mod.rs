//! Clients: startup and login, then a session whose statements run on leased server connections.

mod acquire;
mod login;
pub(crate) mod parameters;
mod pipe;
mod relay;
mod session;
mod startup;
pub(crate) mod welcome;

use std::net::SocketAddr;
use std::rc::Rc;

use pgherd_protocol::startup::CancelKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::worker::Worker;
use login::LoginFailure;
use startup::Opening;

/// Serves one connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, mut stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a client went away at once");
        return;
    }
    let limit = worker.shared.pool.client_login_timeout;
    // Boxed, so that a session does not carry the space of its login for life.
    let opening = Box::pin(tokio::time::timeout(limit, open(&worker, &mut stream, peer)));
    let membership = worker.enter();
    let opened = tokio::select! {
        opened = opening => opened,
        () = membership.draining() => return,
    };
    match opened {
        Ok(Ok(Opened::Session(client))) => {
            session::Session::new(worker, membership, stream, peer, client).run().await;
        }
        Ok(Ok(Opened::Cancel(key))) => worker.shared.cancel_keys.cancel(key).await,
        Ok(Ok(Opened::Nothing)) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a client went away during login"),
        Err(_) => tracing::info!(%peer, ?limit, "a client did not log in in time"),
    }
}

/// What a connection turned out to be for.
enum Opened {
    Session(login::LoggedIn),
    Cancel(CancelKey),
    Nothing,
}

/// Startup and login.
async fn open(worker: &Rc<Worker>, stream: &mut TcpStream, peer: SocketAddr) -> std::io::Result<Opened> {
    let startup = match startup::receive(stream).await? {
        Opening::Startup(startup) => startup,
        Opening::Cancel(key) => return Ok(Opened::Cancel(key)),
        Opening::Refused(message) => {
            stream.write_all(&message).await?;
            return Ok(Opened::Nothing);
        }
        Opening::Closed => return Ok(Opened::Nothing),
    };
    let (user, database) = (startup.user.clone(), startup.database.clone());
    match login::log_in(worker, stream, startup).await {
        Ok(logged_in) => {
            tracing::debug!(%peer, user, database, "a client logged in");
            Ok(Opened::Session(logged_in))
        }
        Err(LoginFailure::Refused(refusal)) => {
            tracing::info!(%peer, user, database, reason = %refusal, "a login was refused");
            stream.write_all(&refusal.message).await?;
            Ok(Opened::Nothing)
        }
        Err(LoginFailure::Gone(error)) => Err(error),
    }
}
