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

use pgherd_protocol::error::{ClientError, Severity};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::worker::Worker;
use startup::Opening;

/// Serves one connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, mut stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a client went away at once");
        return;
    }
    let limit = worker.shared.pool.client_login_timeout;
    // Boxed, so that a session does not carry the space of its login for life.
    let opening = Box::pin(tokio::time::timeout(limit, open(&worker, &mut stream, peer))).await;
    let session = match opening {
        Ok(Ok(Some(opened))) => session::Session::new(worker, stream, peer, opened),
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a client went away during login");
            return;
        }
        Err(_) => {
            tracing::info!(%peer, ?limit, "a client did not log in in time");
            return;
        }
    };
    session.run().await;
}

/// Startup and login; none if the connection has served its purpose.
async fn open(
    worker: &Rc<Worker>,
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> std::io::Result<Option<login::LoggedIn>> {
    let startup = match startup::receive(stream).await? {
        Opening::Startup(startup) => startup,
        Opening::Cancel(key) => {
            worker.shared.cancel_keys.cancel(key).await;
            return Ok(None);
        }
        Opening::Refused(error) => {
            refuse(stream, &error).await?;
            return Ok(None);
        }
        Opening::Closed => return Ok(None),
    };
    let (user, database) = (startup.user.clone(), startup.database.clone());
    match login::log_in(worker, stream, startup).await? {
        Ok(logged_in) => {
            tracing::debug!(%peer, user, database, "a client logged in");
            Ok(Some(logged_in))
        }
        Err(refusal) => {
            tracing::info!(%peer, user, database, reason = %refusal, "a login was refused");
            stream.write_all(&refusal.message).await?;
            Ok(None)
        }
    }
}

async fn refuse(stream: &mut TcpStream, error: &ClientError) -> std::io::Result<()> {
    let mut out = Vec::new();
    error.write(&mut out, Severity::Fatal);
    stream.write_all(&out).await
}
