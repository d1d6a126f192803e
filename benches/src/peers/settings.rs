//! The peers' configuration files: the same user, password, verifier and pool size for all.

use std::net::Ipv4Addr;
use std::path::Path;

use super::{Peer, socket_address};
use crate::postgres::{DATABASE, MONITOR_USER, Postgres, USER, pool_user};

/// pgbouncer's name for the database where it pools sessions.
pub(super) const PGBOUNCER_SESSIONS: &str = "bench_sessions";

/// What the files of one start are made from.
pub(super) struct Settings<'a> {
    pub(super) postgres: &'a Postgres,
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
    /// Server connections of a pool.
    pub(super) pool_size: u32,
    /// Users, of whom each has a pool.
    pub(super) users: u32,
    /// pgbouncer can carry prepared statements from one server connection to another.
    pub(super) carries_statements: bool,
    /// Clients at once.
    pub(super) clients: u32,
    /// The certificate and the private key that clients are shown, if they speak TLS.
    pub(super) tls: Option<&'a [String; 2]>,
    /// pgherd's threads that serve clients, if not as many as it takes by itself.
    pub(super) workers: Option<u32>,
}

/// The files of the certificate and of its private key.
const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";

impl Settings<'_> {
    pub(super) fn listen(&self) -> String {
        socket_address((self.address, self.port))
    }

    /// The files of `peer`, which will lie in `directory`.
    pub(super) fn files(&self, peer: Peer, directory: &Path) -> Vec<(&'static str, String)> {
        let mut files = match peer {
            Peer::Direct | Peer::Relay | Peer::RelayAgain => Vec::new(),
            Peer::Pgherd => vec![("pgherd.toml", self.pgherd(directory, "primary"))],
            Peer::PgherdReads => vec![("pgherd.toml", self.pgherd(directory, "standbys"))],
            Peer::Pgbouncer => vec![
                ("pgbouncer.ini", self.pgbouncer(directory)),
                // The verifier, not the password: it serves clients and logs in to PostgreSQL with their keys.
                ("users.txt", self.verifiers()),
            ],
            Peer::Haproxy => vec![("haproxy.cfg", self.haproxy())],
            Peer::Pgpool => vec![
                ("pgpool.conf", self.pgpool(directory)),
                ("pool_hba.conf", "host all all 127.0.0.0/8 scram-sha-256\n".to_owned()),
                // pgpool answers SCRAM on both sides only if it knows the password itself.
                ("pool_passwd", format!("{USER}:TEXT{}\n", self.postgres.login.password)),
                ("pcp.conf", String::new()),
            ],
        };
        if let Some([certificate, key]) = self.tls {
            files.extend([(CERTIFICATE, certificate.clone()), (KEY, key.clone())]);
        }
        files
    }

    fn verifiers(&self) -> String {
        let line = |number| format!("\"{}\" \"{}\"\n", pool_user(number), self.postgres.verifier);
        (0..self.users).map(line).collect()
    }

    fn pgherd(&self, directory: &Path, reads: &str) -> String {
        let (listen, address, size, clients) = (self.listen(), self.address, self.pool_size, self.clients);
        let password = &self.postgres.monitor_password;
        let nodes = (0..).zip(self.postgres.ports());
        let nodes: Vec<_> = nodes
            .map(|(number, port): (u16, u16)| {
                format!("\"{number}:{address}:{port}:1:/data:ALLOW_TO_FAILOVER\"")
            })
            .collect();
        let (nodes, directory) = (nodes.join(", "), directory.display());
        let workers = self.workers.map_or_else(String::new, |workers| format!("workers = {workers}\n"));
        let tls = self.tls.map_or_else(String::new, |_| {
            format!("[listen.tls]\ncert = \"{directory}/{CERTIFICATE}\"\nkey = \"{directory}/{KEY}\"\n\n")
        });
        format!(
            "[listen]\naddress = \"{listen}\"\n\n{tls}\
             [backends]\nnodes = [{nodes}]\n\n[routing]\nreads = \"{reads}\"\n\n\
             [monitor]\nuser = \"{MONITOR_USER}\"\npassword = \"{password}\"\ndatabase = \"postgres\"\n\n\
             [pool]\nmode = \"transaction\"\nsize = {size}\nmax_clients = {clients}\n\n\
             [failover]\nmode = \"manual\"\n\n[runtime]\ndrain_timeout = \"1s\"\n{workers}"
        )
    }

    fn pgbouncer(&self, directory: &Path) -> String {
        let (address, port, size, clients) = (self.address, self.port, self.pool_size, self.clients);
        let server = format!("host={address} port={} dbname={DATABASE}", self.postgres.login.port);
        let directory = directory.display();
        // An older one does not know it.
        let statements = if self.carries_statements { "max_prepared_statements = 200\n" } else { "" };
        let tls = self.tls.map_or_else(
            || "client_tls_sslmode = disable".to_owned(),
            |_| {
                format!(
                    "client_tls_sslmode = allow\nclient_tls_cert_file = {directory}/{CERTIFICATE}\n\
                     client_tls_key_file = {directory}/{KEY}"
                )
            },
        );
        format!(
            "[databases]\n{DATABASE} = {server} pool_mode=transaction pool_size={size}\n\
             {PGBOUNCER_SESSIONS} = {server} pool_mode=session pool_size={clients}\n\n\
             [pgbouncer]\nlisten_addr = {address}\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {directory}/users.txt\nmax_client_conn = {clients}\n\
             {tls}\n{statements}server_tls_sslmode = disable\nlog_connections = 0\n\
             log_disconnections = 0\nlog_stats = 0\n"
        )
    }

    fn haproxy(&self) -> String {
        let (listen, most) = (self.listen(), self.clients);
        let server = socket_address((self.address, self.postgres.login.port));
        format!(
            "global\n    maxconn {most}\n\n\
             defaults\n    mode tcp\n    timeout connect 10s\n    timeout client 1h\n    timeout server 1h\n\n\
             listen postgres\n    bind {listen}\n    server postgres {server}\n"
        )
    }

    fn pgpool(&self, directory: &Path) -> String {
        let (address, port, clients) = (self.address, self.port, self.clients);
        let directory = directory.display();
        let ports = self.postgres.ports();
        let backend = |(number, port): (usize, &u16)| {
            format!(
                "backend_hostname{number} = '{address}'\nbackend_port{number} = {port}\nbackend_weight{number} = 1\n\
                 backend_flag{number} = 'DISALLOW_TO_FAILOVER'\n"
            )
        };
        let backends: String = ports.iter().enumerate().map(backend).collect();
        let balances = if ports.len() > 1 { "on" } else { "off" };
        format!(
            "backend_clustering_mode = 'streaming_replication'\nlisten_addresses = '{address}'\nport = {port}\n\
             socket_dir = '{directory}'\npcp_listen_addresses = '{address}'\npcp_port = {}\n\
             pcp_socket_dir = '{directory}'\nwd_ipc_socket_dir = '{directory}'\nlogdir = '{directory}'\n\
             pid_file_name = '{directory}/pgpool.pid'\n\
             {backends}enable_pool_hba = on\npool_passwd = '{directory}/pool_passwd'\n\
             num_init_children = {clients}\nmax_pool = 1\nchild_life_time = 0\nconnection_cache = on\n\
             load_balance_mode = {balances}\nmemory_cache_enabled = off\nhealth_check_period = 0\n\
             sr_check_user = '{USER}'\nsr_check_password = ''\nsr_check_database = '{DATABASE}'\n",
            port + 100
        )
    }
}
