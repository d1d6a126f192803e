//! The life of the process: configuration, build, serve, drain.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use pgherd_failover::Routing;
use pgherd_failover::actor::{self, Control};
use pgherd_health::Node;
use pgherd_protocol::prepared::Statements;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cancel::CancelKeys;
use crate::check::{CONFIGURATION_ERROR, print_problems};
use crate::cli::RunArgs;
use crate::client::listen::Hubs;
use crate::client::welcome::Welcomes;
use crate::config::{self, Config, Live, Problem};
use crate::control;
use crate::crew::Crew;
use crate::descriptors::Bounds;
use crate::failures::Failures;
use crate::hosts::Hosts;
use crate::listener::{self, Listeners};
use crate::log::Log;
use crate::places::ByName;
use crate::reload::{self, Reload, Reloader};
use crate::server::table::Backends;
use crate::shared::{Credentials, Ending, Shared, SharedParameters};
use crate::tls::{self, ClientTls};
use crate::traffic::Traffic;
use crate::verifiers::{Endpoint, Reader, Timing, Verifiers};
use crate::worker::{WorkerHandle, WorkerId};

/// `pgherd run`.
///
/// # Errors
/// When the process cannot be set up: the address is taken, or threads cannot be made.
pub(crate) fn run(args: &RunArgs) -> io::Result<ExitCode> {
    let loaded = match config::load(args.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            print_problems(&mut io::stderr(), &rejected.errors, &rejected.warnings)?;
            return Ok(ExitCode::from(CONFIGURATION_ERROR));
        }
    };
    print_problems(&mut io::stderr(), &[], &loaded.warnings)?;
    let log = Log::start(loaded.config.log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(args, loaded.config, log));
    // Workers that still serve have their timers there; they end with the process.
    std::mem::forget(runtime);
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(args: &RunArgs, config: Config, log: Log) -> io::Result<()> {
    let tls = ClientTls::new(&config.listen.tls)
        .map_err(|fault| io::Error::other(Problem::from(fault).to_string()))?;
    let listeners = Listeners::bind(&config.listen)?;
    let stop = CancellationToken::new();
    let (control, control_thread) = actor::start(control::settings(&config), stop.clone())?;
    let (reload, reloads) = Reload::channel();
    let (shared, reader) = build(&config, tls, (control.clone(), reload));
    let reading = tokio::spawn(reader.run(stop.clone()));
    let hangups = reload::at_hangups(shared.reload.clone())?;
    let reloader = Reloader::new(args.config.clone(), Arc::clone(&shared), log, reloads);
    let reloading = tokio::spawn(reloader.run(stop.clone()));
    let mut publishing = tokio::spawn(publish(control.routing, Arc::clone(&shared.backends)));
    let broken = CancellationToken::new();
    let (crew, arrivals) = Crew::new(config.runtime.workers.get());
    let start = |(id, arrivals)| {
        WorkerHandle::start(WorkerId(id), Arc::clone(&shared), (Arc::clone(&crew), arrivals), broken.clone())
    };
    let workers: Vec<_> = arrivals.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
    tracing::info!(address = %config.listen.address, workers = workers.len(), "pgherd serves");
    let stop_listening = CancellationToken::new();
    let bounds = (&*shared.config, &shared.descriptors);
    let accepting = listener::accept(listeners, &crew, bounds, stop_listening.clone());
    tokio::select! {
        () = accepting => {}
        () = hangups => {}
        () = tls::watch(&shared.tls) => {}
        // Better to be started again than to serve by a table that nobody keeps.
        _ = &mut publishing => return Err(io::Error::other("the control thread has ended: a defect of pgherd")),
        () = broken.cancelled() => return Err(io::Error::other("a worker thread has ended: a defect of pgherd")),
        signal = shutdown_signal() => {
            tracing::info!(signal = signal?, timeout = ?config.runtime.drain_timeout, "draining");
            stop_listening.cancel();
        }
        () = shared.ending.begun() => {
            tracing::info!(timeout = ?config.runtime.drain_timeout, "draining, as ordered on the console");
            stop_listening.cancel();
        }
    }
    crew.close();
    let drained = tokio::task::spawn_blocking(|| workers.into_iter().for_each(WorkerHandle::join));
    tokio::select! {
        _ = drained => tracing::info!("all sessions have ended"),
        signal = shutdown_signal() => {
            tracing::warn!(signal = signal?, "ending at once");
            // Threads that still serve end with the process.
            std::process::exit(1);
        }
    }
    stop.cancel();
    let _ = (reading.await, reloading.await, publishing.await);
    if control_thread.join().is_err() {
        tracing::error!("the control thread ended by a panic; this is a defect of pgherd");
    }
    Ok(())
}

/// Puts each decision of the control loop into force, until the loop ends.
async fn publish(mut routing: watch::Receiver<Arc<Routing>>, backends: Arc<Backends>) {
    loop {
        let decision = Arc::clone(&routing.borrow_and_update());
        backends.publish(&decision);
        if routing.changed().await.is_err() {
            return;
        }
    }
}

/// What the workers share, and the task that reads stored passwords.
fn build(config: &Config, tls: ClientTls, (control, reload): (Control, Reload)) -> (Arc<Shared>, Reader) {
    let epoch = Instant::now();
    let live = Live::new(config.clone());
    let backends = Arc::new(Backends::new(Arc::clone(&live), config.runtime.workers.get()));
    let (known, now) = (Arc::clone(&backends), Arc::clone(&live));
    let source = Arc::new(move || {
        let listed: Vec<_> = known.load().servers().map(|server| endpoint(&server.node)).collect();
        let config = now.load();
        // Before anything is known of the servers any of them may be asked.
        let endpoints = if listed.is_empty() { config.nodes.iter().map(endpoint).collect() } else { listed };
        (control::who_asks(&config), endpoints)
    });
    let (verifiers, reader) = Verifiers::new(Timing::default(), source);
    let shared = Shared {
        config: live,
        backends,
        tls,
        verifiers,
        credentials: Credentials::default(),
        parameters: SharedParameters::default(),
        statements: Statements::default(),
        hubs: Hubs::default(),
        cancel_keys: Arc::new(CancelKeys::default()),
        roster: Arc::default(),
        traffic: Traffic::new(config.runtime.workers.get(), epoch),
        epoch,
        welcomes: Welcomes::default(),
        failures: Failures::default(),
        hosts: Hosts::default(),
        descriptors: Bounds::claim(config.nodes.len(), config.pool.most_connections()),
        ending: Ending::default(),
        reserved: Arc::default(),
        clients: Arc::default(),
        clients_by_role: ByName::default(),
        clients_by_database: ByName::default(),
        replication: Arc::default(),
        waiting: Arc::default(),
        control,
        reload,
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
