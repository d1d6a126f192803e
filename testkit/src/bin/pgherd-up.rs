//! The program behind `make up`: three servers and pgherd before them, until Ctrl-C.

// It talks to whoever runs it.
#![allow(clippy::print_stdout)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pgherd_testkit::{Cluster, Context, Pgherd, Result, Server, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Servers get 127.0.64.1, ... where nobody else has them.
const BLOCK: u8 = 64;
/// A pgherd that ends sooner than this after its start is not started again.
const SHORTEST_LIFE: Duration = Duration::from_secs(5);

/// Starts PostgreSQL servers kept by repmgr, and pgherd before them. Ctrl-C stops them and removes everything.
#[derive(Debug, Parser)]
#[command(name = "make up")]
struct Options {
    /// Where pgherd listens.
    #[arg(long, default_value = "127.0.0.1:6432")]
    listen: SocketAddr,
    /// How many servers, the primary counted.
    #[arg(long, default_value_t = 3)]
    servers: u8,
    /// How many standbys a commit waits for.
    #[arg(long, default_value_t = 0)]
    synchronous: u8,
}

#[tokio::main]
async fn main() -> ExitCode {
    match up(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed, and removed everything: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn up(options: &Options) -> Result<()> {
    let mut stop = Stop::listen()?;
    tokio::select! {
        // Whatever has been started is removed when the future is dropped.
        ended = serve(options) => ended,
        what = stop.wanted() => {
            say(&format!("{what}: stopped everything and removed it"));
            Ok(())
        }
    }
}

/// The signals that end the demonstration.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Stop {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn wanted(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}

/// Starts everything and keeps pgherd running, as a container's supervisor does.
async fn serve(options: &Options) -> Result<()> {
    let begun = Instant::now();
    say(&format!("starting {} PostgreSQL servers with repmgr and sshd", options.servers));
    let cluster = Cluster::builder()
        .servers(options.servers)
        .synchronous(options.synchronous)
        .block(BLOCK)
        .start()
        .await?;
    say(&format!(
        "servers are up after {:.1} s: standbys stream, all are registered",
        begun.elapsed().as_secs_f32()
    ));

    let listen = free_address(options.listen)?;
    say(&format!("starting pgherd on {listen}"));
    let mut pgherd = Pgherd::builder(&cluster).listen(listen).start().await?;
    introduce(&cluster, &pgherd)?;
    loop {
        let started = Instant::now();
        let status = pgherd.ended().await?;
        if started.elapsed() < SHORTEST_LIFE {
            bail!("pgherd ended with {status}:\n{}", last_lines(&pgherd));
        }
        say(&format!("pgherd ended ({status}); starting it again"));
        pgherd.start().await?;
    }
}

/// The address that was asked for, or one with another port if that is taken.
fn free_address(wanted: SocketAddr) -> Result<SocketAddr> {
    if TcpListener::bind(wanted).is_ok() {
        return Ok(wanted);
    }
    let free =
        TcpListener::bind((wanted.ip(), 0)).with_context(|| format!("cannot listen on {}", wanted.ip()))?;
    let address = free.local_addr()?;
    say(&format!("{wanted} is taken (another make up?): using port {} instead", address.port()));
    Ok(address)
}

/// Prints how to connect, what runs where, and what to try.
fn introduce(cluster: &Cluster, pgherd: &Pgherd) -> Result<()> {
    let listen = pgherd.address();
    let host = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    let password = cluster.credentials().password("app");
    let url = format!("postgresql://app:{password}@{host}:{}/app", listen.port());
    let sudo = if std::env::var_os("SUDO_USER").is_some() { "sudo " } else { "" };
    let pid = pgherd.pid().map_or_else(String::new, |pid| pid.to_string());

    println!("\nConnect:\n  psql '{url}'");
    println!("\nWhat runs where:");
    println!("  pgherd  {listen}  pid {pid}\n          log     {}", pgherd.log_path().display());
    println!("          config  {}", pgherd.config_path().display());
    let operator = cluster.credentials().password("repmgr");
    let http = pgherd.http_address()?;
    println!("          manager http://{http}/ (user repmgr, password {operator}), metrics at /metrics");
    for server in cluster.servers() {
        describe(server);
    }
    let key = cluster.ssh_key_path().display();
    let hosts = cluster.known_hosts_path();
    let ssh = format!("{sudo}ssh -i {key} -o UserKnownHostsFile={}", hosts.display());
    let Some(first) = cluster.servers().first() else { return Ok(()) };
    println!("\nInto a server:\n  {ssh} -p {} postgres@{}", first.ssh_port(), first.address());
    println!("\nTry:");
    println!("  pgbench -i '{url}'");
    println!("  pgbench -n -c 16 -T 60 -P 1 --max-tries=50 '{url}'     and meanwhile, in another terminal:");
    println!("  {sudo}kill -9 $({sudo}head -1 {}/postmaster.pid)", first.data_directory().display());
    println!("  tail -f {}", pgherd.log_path().display());
    println!("  {sudo}kill -9 {pid}     pgherd itself: it is started again, as swarm does");
    println!("  bring the old primary back as a standby (NEW: the address of the present primary):");
    println!(
        "  {ssh} -p {} postgres@{} {} -f {} node rejoin --force-rewind -d \"'host=NEW user=repmgr dbname=repmgr'\"",
        first.ssh_port(),
        first.address(),
        cluster.repmgr_program()?.display(),
        first.repmgr_conf().display(),
    );
    println!("\nCtrl-C stops everything and removes it, the data too.");
    Ok(())
}

fn describe(server: &Server) {
    let role = if server.id() == 1 { "primary" } else { "standby" };
    let pid = server.postmaster_pid().map_or_else(String::new, |pid| pid.to_string());
    println!(
        "  {}    {}:{}  {role}  pid {pid}  (sshd: port {})",
        server.name(),
        server.address(),
        server.port(),
        server.ssh_port()
    );
    println!("          data    {}", server.data_directory().display());
    println!("          log     {}", server.log_path().display());
}

fn last_lines(pgherd: &Pgherd) -> String {
    let log = pgherd.log();
    log.get(log.len().saturating_sub(20)..).unwrap_or_default().join("\n")
}

fn say(what: &str) {
    println!("==> {what}");
}
