//! The life of the process: configuration, build, serve, drain.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use pgherd_failover::{Epoch, Routing, Writes};
use pgherd_health::{Node, NodeId, TimelineId};
use pgherd_protocol::prepared::Statements;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cancel::CancelKeys;
use crate::check::print_problems;
use crate::cli::RunArgs;
use crate::client::welcome::Welcomes;
use crate::config::{self, Config, LogFormat, LogLevel};
use crate::listener;
use crate::server::table::Backends;
use crate::shared::{Credentials, Gauge, Shared};
use crate::verifiers::{Endpoint, Reader, Settings, Timing, Verifiers};
use crate::worker::{WorkerHandle, WorkerId};

/// Connections beyond `pool.max_clients` that may be logging in, or being told that there are too many.
const LOGGING_IN: usize = 1000;

/// `pgherd run`.
///
/// # Errors
/// When the process cannot be set up: the address is taken, or threads cannot be made.
pub(crate) fn run(args: &RunArgs) -> io::Result<ExitCode> {
    let loaded = match config::load(args.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            print_problems(&mut io::stderr(), &rejected.errors, &rejected.warnings)?;
            return Ok(ExitCode::from(1));
        }
    };
    print_problems(&mut io::stderr(), &[], &loaded.warnings)?;
    start_log(&loaded.config.log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(loaded.config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config) -> io::Result<()> {
    let listener = listener::bind(config.listen.address)?;
    let (hints, _hints) = mpsc::channel(64);
    let (shared, reader) = build(&config, hints);
    let stop = CancellationToken::new();
    let reading = tokio::spawn(reader.run(stop.clone()));
    let primary = config.nodes.first().map(|node| node.id).unwrap_or(NodeId(0));
    shared.backends.publish(&Routing {
        generation: 1,
        writes: Writes::Open(Epoch { system_identifier: 0, timeline: TimelineId(1), primary }),
        readable: Vec::new(),
    });
    let workers: Vec<_> = (0..config.runtime.workers.get())
        .map(|id| WorkerHandle::start(WorkerId(id), Arc::clone(&shared)))
        .collect::<io::Result<_>>()?;
    tracing::info!(address = %config.listen.address, workers = workers.len(), "pgherd serves");
    let stop_listening = CancellationToken::new();
    let limit = config.pool.max_clients.saturating_add(LOGGING_IN);
    let accepting = listener::accept(listener, &workers, limit, stop_listening.clone());
    tokio::select! {
        () = accepting => {}
        signal = shutdown_signal() => {
            tracing::info!(signal = signal?, timeout = ?config.runtime.drain_timeout, "draining");
            stop_listening.cancel();
        }
    }
    let threads: Vec<_> = workers.into_iter().map(WorkerHandle::end).collect();
    let drained = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| drop(thread.join())));
    tokio::select! {
        _ = drained => tracing::info!("all sessions have ended"),
        signal = shutdown_signal() => tracing::warn!(signal = signal?, "ending at once"),
    }
    stop.cancel();
    let _ = reading.await;
    Ok(())
}

fn start_log(log: &config::Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Other crates' details are not an operator's business.
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("pgherd", level);
    let subscriber = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Text => subscriber.with(tracing_subscriber::fmt::layer().with_ansi(false)).init(),
        LogFormat::Json => subscriber.with(tracing_subscriber::fmt::layer().json()).init(),
    }
}

/// What the workers share, and the task that reads stored passwords.
fn build(config: &Config, hints: mpsc::Sender<NodeId>) -> (Arc<Shared>, Reader) {
    let pool = Arc::new(config.pool.clone());
    let backends =
        Arc::new(Backends::new(config.nodes.clone(), config.runtime.workers.get(), Arc::clone(&pool)));
    let settings = Settings {
        user: config.monitor.user.clone(),
        password: config.monitor.password.clone(),
        database: config.monitor.database.clone(),
        timing: Timing::default(),
    };
    let known = Arc::clone(&backends);
    let all: Vec<_> = config.nodes.iter().map(endpoint).collect();
    let source = Arc::new(move || {
        let listed: Vec<_> = known.load().servers().map(|server| endpoint(&server.node)).collect();
        // Before anything is known of the servers any of them may be asked.
        if listed.is_empty() { all.clone() } else { listed }
    });
    let (verifiers, reader) = Verifiers::new(settings, source);
    let shared = Shared {
        write_wait: config.failover.write_wait,
        drain_timeout: config.runtime.drain_timeout,
        backends,
        verifiers,
        credentials: Credentials::default(),
        statements: Statements::default(),
        cancel_keys: Arc::new(CancelKeys::default()),
        welcomes: Welcomes::default(),
        mock_secret: rand::random(),
        clients: Gauge::new(pool.max_clients),
        waiting: Gauge::new(config.failover.max_waiting),
        pool,
        hints,
    };
    (Arc::new(shared), reader)
}

fn endpoint(node: &Node) -> Endpoint {
    Endpoint { host: node.host.clone(), port: node.port }
}

async fn shutdown_signal() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
