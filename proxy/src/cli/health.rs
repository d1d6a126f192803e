//! `pgherd health`: does pgherd serve? For health checks of containers, in whose image there is no other program that could ask.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::HealthArgs;
use super::console::{self, Failure};

/// How long an answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Asks the running pgherd; nothing is printed where all is well.
///
/// # Errors
/// When the process has no means for that.
pub(super) fn run(args: &HealthArgs) -> io::Result<ExitCode> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    console::run(async {
        let config = console::load(args.config.as_deref())?;
        let address = config
            .http
            .address
            .ok_or_else(|| Failure::Unreachable("http.address is off: there is nobody to ask".to_owned()))?;
        let address = local(address);
        let asked = timeout(ANSWERS_WITHIN, ask(address, path)).await;
        let why = match asked {
            Ok(Ok(status)) if status.is_success() => return Ok(Ok(ExitCode::SUCCESS)),
            Ok(Ok(status)) => {
                return Err(Failure::Refused(format!("http://{address}{path} says {status}")));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", ANSWERS_WITHIN.as_secs()),
        };
        Err(Failure::Unreachable(format!("http://{address}{path} (http.address): {why}")))
    })
}

/// Where an address that is listened at is reached on the same machine.
fn local(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(address: SocketAddr, path: &str) -> io::Result<hyper::StatusCode> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let request = Request::get(path).header("host", address.to_string()).body(String::new());
    let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    Ok(response.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_on_the_same_machine() {
        for (listens, asked) in
            [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:8080", "[::1]:8080"), ("10.0.0.7:80", "10.0.0.7:80")]
        {
            let address = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text} is an address"));
            assert_eq!(local(address(listens)), address(asked));
        }
    }
}
