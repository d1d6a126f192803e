//! The life of the process: configuration, build, serve, drain.

use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgherd_failover::Routing;
use pgherd_failover::actor::{self, Control, ControlSettings};
use pgherd_health::Node;
use pgherd_protocol::prepared::Statements;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cancel::CancelKeys;
use crate::check::{CONFIGURATION_ERROR, print_problems};
use crate::cli::RunArgs;
use crate::client::listen::Hubs;
use crate::client::welcome::Welcomes;
use crate::config::{self, Config, Live, Loaded, Problem, Sources};
use crate::control;
use crate::credentials::Credentials;
use crate::crew::Crew;
use crate::descriptors::Bounds;
use crate::failures::Failures;
use crate::handover::{Estate, Household, Inherited, Met, Predecessor, Sockets};
use crate::hidden::Catalogues;
use crate::hosts::Hosts;
use crate::http::{self, Http};
use crate::identities::Identities;
use crate::listener::{self, Listeners};
use crate::log::Log;
use crate::memory::Memory;
use crate::one_copy::{Few, OneCopy};
use crate::places::By;
use crate::reload::{self, Reload, Reloader};
use crate::sequences::AllSequences;
use crate::server::table::{Backends, Target};
use crate::server::{distance, marks, probes};
use crate::shared::{Ending, Shared};
use crate::strangers::Strangers;
use crate::tls::{self, ClientTls};
use crate::traces::{self, Traces};
use crate::traffic::Traffic;
use crate::verifiers::{Endpoint, Reader, Timing, Verifiers};
use crate::vitals::Vitals;
use crate::watchdog::Watchdog;
use crate::worker::{WorkerHandle, WorkerId};

/// The file that the command line names, and what it and the other sources said.
type Read = (Option<PathBuf>, Sources);

/// How often the main thread shows that it turns.
const TURNS_EVERY: Duration = Duration::from_millis(500);
/// How long a pgherd that takes over waits until it knows the primary.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);

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
    let Loaded { config, sources, .. } = loaded;
    let served = runtime.block_on(serve((args.config.clone(), sources), config, log));
    // Workers that still serve have their timers there; they end with the process.
    std::mem::forget(runtime);
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(read: Read, config: Config, log: Log) -> io::Result<()> {
    let tls = ClientTls::new(&config.listen.tls)
        .map_err(|fault| io::Error::other(Problem::from(fault).to_string()))?;
    let handover = config.runtime.handover.as_deref();
    let (predecessor, given) = match handover {
        Some(path) => Predecessor::find(path).await?.unzip(),
        None => (None, None),
    };
    let mut inherited = Inherited::with(given.unwrap_or_default());
    let sockets = Sockets::default();
    let listeners = Listeners::bind(&config.listen, &mut inherited, &sockets)?;
    let http = http::bind(&config.http, &mut inherited)?;
    inherited.close();
    if handover.is_some() {
        listeners.keep(&sockets)?;
        http.iter().try_for_each(|http| sockets.keep(http))?;
    }
    let process = Process::start(read, &config, (tls, log), predecessor.is_some())?;
    process.run(&config, (listeners, sockets, http), predecessor).await
}

/// What runs.
struct Process {
    shared: Arc<Shared>,
    crew: Arc<Crew>,
    workers: Vec<WorkerHandle>,
    control: Control,
    control_thread: JoinHandle<()>,
    publishing: task::JoinHandle<()>,
    tasks: TaskTracker,
    /// Ends all that is not a worker.
    stop: CancellationToken,
    /// A worker has ended that should not, or a task.
    broken: CancellationToken,
    watchdog: Watchdog,
}

impl Process {
    /// Starts all threads and tasks; nothing is accepted yet. `aside`: another pgherd decides for now.
    fn start(read: Read, config: &Config, (tls, log): (ClientTls, Log), aside: bool) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let settings = ControlSettings { aside, etcd: control::lease(config), ..control::settings(config) };
        let live = Live::new(config.clone());
        let backends = Arc::new(Backends::new(Arc::clone(&live), config.runtime.workers.get()));
        let clients = Arc::<Backends>::clone(&backends);
        let (control, control_thread) = actor::start(settings, clients, stop.clone())?;
        let (reload, reloads) = Reload::channel();
        let (traces, told) = Traces::new(&config.trace);
        let (shared, reader) = build(config, tls, (live, backends), (control.clone(), reload), traces);
        let tasks = TaskTracker::new();
        let broken = CancellationToken::new();
        tasks.spawn(vital(broken.clone(), reader.run(stop.clone())));
        let reloader = Reloader::new(read, Arc::clone(&shared), log, reloads);
        tasks.spawn(vital(broken.clone(), reloader.run(stop.clone())));
        tasks.spawn(vital(broken.clone(), marks::keep(control.clone(), Arc::clone(&shared.backends))));
        tasks.spawn(vital(broken.clone(), distance::keep(control.clone(), Arc::clone(&shared.backends))));
        tasks.spawn(vital(broken.clone(), probes::keep(control.clone(), Arc::clone(&shared.probes))));
        // No session needs these.
        tasks.spawn(traces::follow(control.clone(), Arc::clone(&shared)));
        tasks.spawn(traces::export(told, Arc::clone(&shared), stop.clone()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(turn(Arc::clone(&shared.vitals))));
        let publishing = tokio::spawn(publish(control.routing.clone(), Arc::clone(&shared)));
        let (crew, inboxes) = Crew::new(config.runtime.workers.get());
        let start = |(id, inbox)| {
            WorkerHandle::start(WorkerId(id), Arc::clone(&shared), (Arc::clone(&crew), inbox), broken.clone())
        };
        let workers = inboxes.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        let watchdog = Watchdog::start(Arc::clone(&shared.vitals))?;
        Ok(Self { shared, crew, workers, control, control_thread, publishing, tasks, stop, broken, watchdog })
    }

    /// Serves until it is told to end or another has taken over, then drains.
    async fn run(
        mut self,
        config: &Config,
        (listeners, sockets, http): (Listeners, Sockets, Option<std::net::TcpListener>),
        predecessor: Option<Predecessor>,
    ) -> io::Result<()> {
        let (shared, crew) = (Arc::clone(&self.shared), Arc::clone(&self.crew));
        let mut signals = Signals::listen()?;
        let hangups = reload::at_hangups(shared.reload.clone())?;
        let cancel_keys = Arc::clone(&shared.cancel_keys);
        let household = Household { cancel_keys, crew: Arc::clone(&crew), tasks: self.tasks.clone() };
        let accepting = watch::Sender::new(predecessor.is_none());
        let http = http
            .map(|listener| Http::start(listener, (Arc::clone(&shared), &crew), accepting.subscribe()))
            .transpose()?;
        let control = self.control.clone();
        let estate =
            Estate { household: &household, sockets: &sockets, control: &control, accepting: &accepting };
        let ready = || tell_service_manager(NotifyState::Ready);
        if predecessor.is_none() {
            ready();
        }
        let settled = async {
            settled(&shared.backends).await;
            ready();
        };
        let mut passing = pin!(estate.pass(config.runtime.handover.as_deref(), predecessor, settled));
        let bounds = (&*shared.config, &shared.descriptors);
        let accepted = listener::accept(listeners, &crew, bounds, accepting.subscribe());
        tracing::info!(address = %config.listen.address, workers = self.workers.len(), "pgherd serves");
        let mut newer = None;
        tokio::select! {
            () = accepted => {}
            () = hangups => {}
            () = tls::watch(&shared.tls) => {}
            // Better to be started again than to serve by a table that nobody keeps.
            _ = &mut self.publishing => return Err(io::Error::other("the control thread has ended: a defect of pgherd")),
            () = self.broken.cancelled() => return Err(io::Error::other("a worker thread, or a task that all need, has ended: a defect of pgherd")),
            passed = &mut passing => {
                newer = Some(passed?);
                tracing::info!("draining: another pgherd has taken over");
            }
            told = signals.next() => match told {
                Told::Drain(signal) => tracing::info!(signal, "draining"),
                Told::End(signal) => end_at_once(signal),
            },
            () = shared.ending.begun() => tracing::info!("draining, as ordered on the console"),
        }
        // From here on nobody new is let in: the listener was dropped with its task.
        sockets.close();
        http.iter().for_each(Http::drain);
        tell_service_manager(NotifyState::Stopping);
        self.drain(signals, (newer, passing)).await
    }

    /// Waits until all sessions have ended, and ends the rest. Another may take over meanwhile, if none has.
    async fn drain(
        self,
        mut signals: Signals,
        (mut newer, mut passing): (Option<Met>, Pin<&mut impl Future<Output = io::Result<Met>>>),
    ) -> io::Result<()> {
        self.crew.close();
        // Whoever is started in its place is to find nobody else who decides.
        let control = self.control.clone();
        let aside = async move { control.stand_aside().await };
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(aside));
        let workers = self.workers;
        let mut drained = task::spawn_blocking(|| workers.into_iter().for_each(WorkerHandle::join));
        let mut can_pass = newer.is_none();
        loop {
            tokio::select! {
                _ = &mut drained => break tracing::info!("all sessions have ended"),
                never = signals.end() => never,
                passed = &mut passing, if can_pass => {
                    can_pass = false;
                    newer = passed.inspect_err(|error| tracing::warn!(%error, "another pgherd does not take over")).ok();
                }
            }
        }
        if let Some(newer) = &mut newer {
            tokio::select! {
                () = newer.outlive_older() => {}
                never = signals.end() => never,
            }
        }
        // From here on threads end, and do not turn any more.
        drop(self.watchdog);
        self.stop.cancel();
        let _ = self.publishing.await;
        let joined = task::spawn_blocking(|| self.control_thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the control thread ended by a panic; this is a defect of pgherd");
        }
        // Only now that nothing of this process acts any more may the other see its end.
        drop(newer);
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }
}

/// A task that all sessions need: if it ends by a panic, the process ends.
fn vital<F: Future>(broken: CancellationToken, task: F) -> impl Future<Output = F::Output> {
    let told = broken.drop_guard();
    async move {
        let output = task.await;
        // Where it has ended in time there is nothing to tell.
        told.disarm();
        output
    }
}

/// Shows that the main thread turns. Never ends.
async fn turn(vitals: Arc<Vitals>) {
    loop {
        vitals.main_turns();
        tokio::time::sleep(TURNS_EVERY).await;
    }
}

/// Puts each decision of the control loop into force, until the loop ends.
async fn publish(mut routing: watch::Receiver<Arc<Routing>>, shared: Arc<Shared>) {
    let mut servers = shared.config.load().nodes.len();
    loop {
        let decision = Arc::clone(&routing.borrow_and_update());
        if servers != decision.nodes.len() {
            servers = decision.nodes.len();
            shared.descriptors.share_out(servers, shared.config.load().pool.most_connections());
        }
        shared.backends.publish(&decision);
        if routing.changed().await.is_err() {
            return;
        }
    }
}

/// What the workers share, and the task that reads stored passwords.
fn build(
    config: &Config,
    tls: ClientTls,
    (live, backends): (Arc<Live>, Arc<Backends>),
    (control, reload): (Control, Reload),
    traces: Traces,
) -> (Arc<Shared>, Reader) {
    let epoch = Instant::now();
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
        parameters: OneCopy::default(),
        names: OneCopy::default(),
        addresses: OneCopy::default(),
        limits: OneCopy::default(),
        policies: Few::default(),
        sequences: AllSequences::default(),
        statements: Statements::default(),
        catalogues: Catalogues::new(&config.routing.functions),
        hubs: Hubs::default(),
        cancel_keys: Arc::new(CancelKeys::default()),
        roster: Arc::default(),
        traffic: Traffic::new(config.runtime.workers.get(), epoch),
        traces,
        epoch,
        welcomes: Welcomes::default(),
        strangers: Strangers::default(),
        memory: Memory::default(),
        failures: Failures::default(),
        identities: Identities::default(),
        hosts: Hosts::default(),
        descriptors: Bounds::claim(config.nodes.len(), config.pool.most_connections()),
        ending: Ending::default(),
        reserved: Arc::default(),
        clients: Arc::default(),
        clients_by_role: By::default(),
        clients_by_database: By::default(),
        replication: Arc::default(),
        waiting: Arc::default(),
        probes: Arc::default(),
        vitals: Arc::new(Vitals::new(config.runtime.workers.get(), control.pulse.clone())),
        control,
        reload,
    };
    (Arc::new(shared), reader)
}

fn endpoint(node: &Node) -> Endpoint {
    Endpoint { host: node.host.clone(), port: node.port }
}

/// What a signal asks for.
enum Told {
    /// Let clients finish.
    Drain(&'static str),
    /// Do not.
    End(&'static str),
}

/// The signals that end the process; none is missed from the first look on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next one. Cancel-safe.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Drain("SIGTERM"),
            _ = self.interrupt.recv() => Told::Drain("SIGINT"),
            _ = self.quit.recv() => Told::End("SIGQUIT"),
        }
    }

    /// Ends the process at the next one.
    async fn end(&mut self) -> ! {
        let (Told::Drain(signal) | Told::End(signal)) = self.next().await;
        end_at_once(signal)
    }
}

/// Threads that still serve end with the process.
fn end_at_once(signal: &str) -> ! {
    tracing::warn!(signal, "ending at once");
    std::process::exit(1)
}

/// Waits until there is a primary, or has been none for a while: who takes over does not have clients wait that the one before would
/// serve.
async fn settled(backends: &Backends) {
    let mut changes = backends.changes();
    let open = async {
        while !matches!(backends.load().writes, Target::Open(_)) && changes.changed().await.is_ok() {}
    };
    let _ = tokio::time::timeout(SETTLES_WITHIN, open).await;
}

/// For a unit of systemd with `Type=notify`.
fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
