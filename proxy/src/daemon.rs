//! The life of the process: configuration, build, serve, drain.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use pgherd_failover::actor::{self, Control, ControlSettings};
use pgherd_failover::{ExecutorSettings, Mode, RepmgrSettings, Routing, SshSettings};
use pgherd_health::{Node, Password, ProberSettings};
use pgherd_protocol::prepared::Statements;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cancel::CancelKeys;
use crate::check::{CONFIGURATION_ERROR, print_problems};
use crate::cli::RunArgs;
use crate::client::welcome::Welcomes;
use crate::config::{self, Config, Executor, FailoverMode, Live, LogFormat, LogLevel};
use crate::crew::Crew;
use crate::descriptors::Bounds;
use crate::listener;
use crate::server::table::Backends;
use crate::shared::{Credentials, Shared, SharedParameters};
use crate::verifiers::{Endpoint, Reader, Settings, Timing, Verifiers};
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
    start_log(&loaded.config.log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(loaded.config));
    // Workers that still serve have their timers there; they end with the process.
    std::mem::forget(runtime);
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: Config) -> io::Result<()> {
    let listener = listener::bind(config.listen.address)?;
    let stop = CancellationToken::new();
    let (control, control_thread) = actor::start(control_settings(&config), stop.clone())?;
    let (shared, reader) = build(&config, control.clone());
    let reading = tokio::spawn(reader.run(stop.clone()));
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
    let accepting = listener::accept(listener, &crew, bounds, stop_listening.clone());
    tokio::select! {
        () = accepting => {}
        // Better to be started again than to serve by a table that nobody keeps.
        _ = &mut publishing => return Err(io::Error::other("the control thread has ended: a defect of pgherd")),
        () = broken.cancelled() => return Err(io::Error::other("a worker thread has ended: a defect of pgherd")),
        error = disregard_hangups() => return Err(error),
        signal = shutdown_signal() => {
            tracing::info!(signal = signal?, timeout = ?config.runtime.drain_timeout, "draining");
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
    let _ = (reading.await, publishing.await);
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

fn start_log(log: &config::Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Other crates' details are not an operator's business.
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("pgherd", level)
        .with_target("pgherd_failover", level)
        .with_target("pgherd_health", level);
    let subscriber = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Text => subscriber.with(tracing_subscriber::fmt::layer().with_ansi(false)).init(),
        LogFormat::Json => subscriber.with(tracing_subscriber::fmt::layer().json()).init(),
    }
}

/// What the workers share, and the task that reads stored passwords.
fn build(config: &Config, control: Control) -> (Arc<Shared>, Reader) {
    let live = Live::new(config.clone());
    let backends = Arc::new(Backends::new(Arc::clone(&live), config.runtime.workers.get()));
    let settings = Settings {
        user: config.monitor.user.clone(),
        password: config.monitor.password.clone(),
        database: config.monitor.database.clone(),
        timing: Timing::default(),
    };
    let known = Arc::clone(&backends);
    let all = Arc::clone(&live);
    let source = Arc::new(move || {
        let listed: Vec<_> = known.load().servers().map(|server| endpoint(&server.node)).collect();
        // Before anything is known of the servers any of them may be asked.
        if listed.is_empty() { all.load().nodes.iter().map(endpoint).collect() } else { listed }
    });
    let (verifiers, reader) = Verifiers::new(settings, source);
    let shared = Shared {
        config: live,
        backends,
        verifiers,
        credentials: Credentials::default(),
        parameters: SharedParameters::default(),
        statements: Statements::default(),
        cancel_keys: Arc::new(CancelKeys::default()),
        welcomes: Welcomes::default(),
        mock_secret: rand::random(),
        descriptors: Bounds::claim(config.nodes.len(), config.pool.size + config.pool.pinned_size),
        clients: Arc::default(),
        waiting: Arc::default(),
        control,
    };
    (Arc::new(shared), reader)
}

fn control_settings(config: &Config) -> ControlSettings {
    let Config { monitor, failover, .. } = config;
    let password = monitor.password.as_ref().map(|secret| Password::new(secret.expose().to_owned()));
    let prober = ProberSettings {
        timeout: monitor.timeout,
        ..ProberSettings::new(monitor.user.clone(), password, monitor.database.clone(), monitor.interval)
    };
    let Executor::Ssh = failover.executor;
    ControlSettings {
        nodes: config.nodes.clone(),
        system_identifier: None,
        machine: decision_settings(failover, monitor.interval),
        prober,
        executor: ExecutorSettings {
            ssh: SshSettings {
                user: failover.ssh.user.clone(),
                port: failover.ssh.port,
                key: failover.ssh.key.clone(),
                known_hosts: failover.ssh.known_hosts.clone(),
                trust_first_use: false,
                connect_timeout: failover.ssh.connect_timeout,
            },
            repmgr: RepmgrSettings {
                binary: failover.repmgr.binary.clone(),
                config: failover.repmgr.config.clone(),
                pg_bindir: failover.repmgr.pg_bindir.clone(),
            },
        },
    }
}

fn decision_settings(failover: &config::Failover, interval: Duration) -> pgherd_failover::Settings {
    pgherd_failover::Settings {
        mode: match failover.mode {
            FailoverMode::Automatic => Mode::Automatic,
            FailoverMode::Manual => Mode::Manual,
        },
        interval,
        confirm: failover.confirm,
        restart_grace: failover.restart_grace,
        start_grace: failover.start_grace,
        cold_grace: failover.cold_grace,
        max_data_loss: failover.max_data_loss,
        min_interval: failover.min_interval,
        ..pgherd_failover::Settings::default()
    }
}

fn endpoint(node: &Node) -> Endpoint {
    Endpoint { host: node.host.clone(), port: node.port }
}

/// Never ends but with an error: SIGHUP, with which daemons are told to read their configuration again, must not end
/// every session.
async fn disregard_hangups() -> io::Error {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => return error,
    };
    while hangups.recv().await.is_some() {
        tracing::warn!("SIGHUP changes nothing: the configuration is read when pgherd starts");
    }
    std::future::pending().await
}

async fn shutdown_signal() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
