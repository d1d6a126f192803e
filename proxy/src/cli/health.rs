//! `pgherd health`: does the process answer? For health checks of containers, in whose image there is no other program that could ask.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper::header::{HOST, SERVER};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use pgherd_tls::{Mode, ServerTls, Settings};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
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
        let (address, has_tls) = place(args)?;
        let scheme = if has_tls { "https" } else { "http" };
        let unreachable =
            |why: &str| Failure::Unreachable(format!("{scheme}://{address}{path} (http.address): {why}"));
        let asked = async {
            let stream = TcpStream::connect(address).await?;
            if has_tls {
                ask(encrypted(stream, address).await?, address, path).await
            } else {
                ask(stream, address, path).await
            }
        };
        match timeout(ANSWERS_WITHIN, asked).await {
            Ok(Ok(answer)) if !answer.is_of_pgherd => Err(unreachable("who answers there is no pgherd")),
            Ok(Ok(answer)) if answer.status.is_success() => Ok(Ok(ExitCode::SUCCESS)),
            Ok(Ok(answer)) => {
                Err(Failure::Refused(format!("{scheme}://{address}{path} says {}", answer.status)))
            }
            Ok(Err(error)) => Err(unreachable(&error.to_string())),
            Err(_) => Err(unreachable(&format!("no answer within {} s", ANSWERS_WITHIN.as_secs()))),
        }
    })
}

/// Where it is asked, and whether with TLS. An error elsewhere in the configuration is no fault of the pgherd that runs, which was started with
/// another.
fn place(args: &HealthArgs) -> Result<(SocketAddr, bool), Failure> {
    let http = match (args.address, config::load_http(args.config.as_deref())) {
        (Some(address), http) => return Ok((address, http.is_some_and(|http| http.tls.is_some()))),
        (None, Some(http)) => http,
        (None, None) => console::load(args.config.as_deref())?.http,
    };
    let off = || Failure::Unreachable("http.address is off: there is nobody to ask".to_owned());
    Ok((http.address.map(console::local).ok_or_else(off)?, http.tls.is_some()))
}

/// With whatever certificate: it may be for another name than this address, and nothing that is asked or answered is secret.
async fn encrypted(stream: TcpStream, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let settings = Settings { mode: Mode::Require, ..Settings::default() };
    let tls = ServerTls::load(settings).map_err(io::Error::other)?;
    let (config, name) = tls.handshake(&address.ip().to_string(), address.ip()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

struct Answer {
    status: StatusCode,
    is_of_pgherd: bool,
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    path: &str,
) -> io::Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let request = Request::get(path).header(HOST, address.to_string()).body(String::new());
    let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    let is_of_pgherd = response.headers().get(SERVER).is_some_and(|server| server == http::NAME);
    Ok(Answer { status: response.status(), is_of_pgherd })
}
