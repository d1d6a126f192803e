//! HTTP: what orchestrators, balancers and Prometheus ask, and the manager.
//!
//! On a thread and a runtime of its own: whoever asks delays neither clients nor the control loop.

mod manager;
mod metrics;
mod patroni;
mod routes;
pub(crate) mod tls;

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use axum::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pgherd_manager::Peer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::crew::Crew;
use crate::handover::Inherited;
use crate::listener;
use crate::shared::Shared;

/// What answers call themselves.
pub(crate) const NAME: &str = "pgherd";
/// Connections at a time. For one more the oldest makes place: nearly all answers take milliseconds, so that one says nothing or does not read, and
/// a health check that had to wait for it would say that pgherd hangs.
const CONNECTIONS: usize = 256;
/// How long a request's head may take, and the next request of a connection.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may be asked over. What was asked by then has as long again to be answered and read.
const CONNECTION_LASTS: Duration = Duration::from_secs(10);
/// Longest head of a request.
const LONGEST_HEAD: usize = 64 * 1024;
/// Pause after an accept that failed.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Listens, if that is wanted. Where nobody has asked for the default address and it is taken, there is no such listener.
///
/// # Errors
/// When the address cannot be bound; names it and its key.
pub(crate) fn bind(settings: &config::Http, inherited: &mut Inherited) -> io::Result<Option<TcpListener>> {
    let Some(address) = settings.address else { return Ok(None) };
    let bound = inherited.take(address).map_or_else(|| TcpListener::bind(address), Ok);
    match bound.and_then(|listener| listener.set_nonblocking(true).map(|()| listener)) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if settings.is_default => {
            tracing::warn!(%address, %error, "no metrics: the default of http.address is taken");
            Ok(None)
        }
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("http.address: cannot listen on {address}: {error}")))
        }
    }
}

/// The thread that answers; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Http {
    draining: Arc<AtomicBool>,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Http {
    /// Answers whenever `accepting` says so.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(crate) fn start(
        listener: TcpListener,
        (shared, crew): (Arc<Shared>, &Arc<Crew>),
        accepting: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let config = shared.config.load_full();
        let tls = config.http.tls.as_ref().map(|(certificate, key)| tls::load(certificate, key)).transpose();
        let tls = tls.map_err(|fault| io::Error::other(config::Problem::from(fault).to_string()))?;
        let tls = tls.map(TlsAcceptor::from);
        let manager = manager::manager(&shared, crew, &config.http);
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stopped = stop.clone();
        let draining = Arc::<AtomicBool>::default();
        let routes = routes::all(shared, Arc::clone(&draining)).merge(manager.routes());
        let serve = async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => serve(&listener, (routes, tls), accepting).await,
                Err(error) => tracing::warn!(%error, "no metrics: cannot accept connections at http.address"),
            }
        };
        runtime.spawn(manager.keep(stop.clone()));
        let run = move || {
            runtime.block_on(stopped.run_until_cancelled(serve));
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("http".to_owned()).spawn(run)?;
        Ok(Self { draining, stop, thread: Some(thread) })
    }

    /// Says from now on that nobody is let in any more.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of http.address ended by a panic; this is a defect of pgherd");
        }
    }
}

async fn serve(
    socket: &tokio::net::TcpListener,
    (routes, tls): (axum::Router, Option<TlsAcceptor>),
    mut accepting: watch::Receiver<bool>,
) {
    let mut conversations = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS);
    // Where another pgherd serves at the same socket, it is for that one to answer.
    while let Some(accepted) = listener::while_open(&mut accepting, || socket.accept()).await {
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, Peer(peer.ip())),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection at http.address");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        while conversations.try_join_next().is_some() {}
        oldest_first.retain(|conversation| !conversation.is_finished());
        if oldest_first.len() >= CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        let routes = routes.clone().layer(Extension(peer));
        oldest_first.push_back(conversations.spawn(converse(stream, tls.clone(), routes)));
    }
}

/// Serves one connection. Whoever says nothing, or does not read its answers, is gone after a while.
async fn converse(stream: TcpStream, tls: Option<TlsAcceptor>, routes: axum::Router) {
    match tls {
        None => answer(stream, routes).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_WITHIN, tls.accept(stream)).await {
                answer(stream, routes).await;
            }
        }
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, routes: axum::Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(64)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .with_upgrades();
    let mut served = pin!(served);
    // Who leaves in the middle, or says what is not HTTP, is no news.
    if tokio::time::timeout(CONNECTION_LASTS, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(CONNECTION_LASTS, served).await;
    }
}
