//! `pgherd health`: does the process answer? For health checks of containers, in whose image there is no other program that could ask.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper::header::{HOST, SERVER};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::HealthArgs;
use super::console::{self, Failure};
use crate::{config, http};

/// How long an answer may take: less than a container engine waits for its health check.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Asks the running pgherd; nothing is printed where all is well.
///
/// # Errors
/// When the process has no means for that.
pub(super) fn run(args: &HealthArgs) -> io::Result<ExitCode> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    console::run(async {
        let address = address(args)?;
        let unreachable =
            |why: &str| Failure::Unreachable(format!("http://{address}{path} (http.address): {why}"));
        match timeout(ANSWERS_WITHIN, ask(address, path)).await {
            Ok(Ok(answer)) if !answer.is_of_pgherd => Err(unreachable("who answers there is no pgherd")),
            Ok(Ok(answer)) if answer.status.is_success() => Ok(Ok(ExitCode::SUCCESS)),
            Ok(Ok(answer)) => Err(Failure::Refused(format!("http://{address}{path} says {}", answer.status))),
            Ok(Err(error)) => Err(unreachable(&error.to_string())),
            Err(_) => Err(unreachable(&format!("no answer within {} s", ANSWERS_WITHIN.as_secs()))),
        }
    })
}

/// Where it is asked. An error elsewhere in the configuration is no fault of the pgherd that runs, which was started with another.
fn address(args: &HealthArgs) -> Result<SocketAddr, Failure> {
    let http = match (args.address, config::load_http(args.config.as_deref())) {
        (Some(address), _) => return Ok(address),
        (None, Some(http)) => http,
        (None, None) => console::load(args.config.as_deref())?.http,
    };
    let off = || Failure::Unreachable("http.address is off: there is nobody to ask".to_owned());
    http.address.map(console::local).ok_or_else(off)
}

struct Answer {
    status: StatusCode,
    is_of_pgherd: bool,
}

async fn ask(address: SocketAddr, path: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let request = Request::get(path).header(HOST, address.to_string()).body(String::new());
    let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    let is_of_pgherd = response.headers().get(SERVER).is_some_and(|server| server == http::NAME);
    Ok(Answer { status: response.status(), is_of_pgherd })
}
