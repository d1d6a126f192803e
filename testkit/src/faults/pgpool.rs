//! Debian's pgpool before a cluster, with the scripts that its documentation has: a standby is promoted over ssh by repmgr, and the others
//! follow.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio::process::{Child, Command};

use crate::client::RawClient;
use crate::cluster::Cluster;
use crate::command::run;
use crate::files::give_to_postgres;
use crate::processes::{children, signal};
use crate::wait::eventually;

const STARTS_WITHIN: Duration = Duration::from_secs(30);
const PCP_PORT: u16 = 9898;
const PCP_PASSWORD: &str = "pgpool";

/// It looks at its servers every second, and gives one up that does not answer for as long as pgherd's `failover.confirm`.
const SETTINGS: &str = "
backend_clustering_mode = 'streaming_replication'
port = 5432
enable_pool_hba = on
num_init_children = 32
max_pool = 1
load_balance_mode = on
failover_on_backend_error = on
health_check_period = 1
health_check_timeout = 4
health_check_max_retries = 0
connect_timeout = 4000
sr_check_period = 1
";

/// A pgpool that runs, until it is dropped.
#[derive(Debug)]
pub(super) struct Pgpool {
    pub(super) address: SocketAddr,
    process: Child,
}

impl Drop for Pgpool {
    /// Its processes are called by what they do, so that nobody else finds them by their environment.
    fn drop(&mut self) {
        let Some(pid) = self.process.id() else { return };
        // It makes no more of them.
        let _ = signal(pid, Signal::STOP);
        for process in children(pid).into_iter().chain([pid]) {
            let _ = signal(process, Signal::KILL);
        }
    }
}

impl Pgpool {
    pub(super) async fn start(cluster: &Cluster) -> Result<Self> {
        let (_, host, place) = cluster.next_pgherd();
        let directory = cluster.directory().join("pgpool");
        fs::create_dir(&directory)?;
        for (name, text, mode) in files(cluster, host, &directory).await? {
            let path = directory.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            give_to_postgres(&path).await?;
        }
        give_to_postgres(&directory).await?;
        let file = |name: &str| directory.join(name);
        let log = fs::File::create(file("log"))?;
        let mut command = place.command_as_postgres("pgpool");
        command.args(["-n", "-D", "-f"]).arg(file("pgpool.conf")).arg("-a").arg(file("pool_hba.conf"));
        command.arg("-F").arg(file("pcp.conf")).env("PCPPASSFILE", file("pcppass"));
        command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().context("cannot run pgpool")?;
        let address = SocketAddr::from((host, 5432));
        eventually("a client of pgpool", STARTS_WITHIN, || async {
            let password = cluster.credentials().password("app");
            let mut client = RawClient::login(address, "app", "app", password).await?;
            let made = client.query("CREATE TABLE IF NOT EXISTS probe ()").await?;
            Ok(made.error().is_none().then_some(()))
        })
        .await
        .with_context(|| fs::read_to_string(file("log")).unwrap_or_default())?;
        Ok(Self { address, process })
    }
}

/// The files of its directory, with their modes.
async fn files(
    cluster: &Cluster,
    host: Ipv4Addr,
    directory: &Path,
) -> Result<Vec<(&'static str, String, u32)>> {
    let passwords = cluster.credentials();
    let hash = run("pg_md5", Command::new("pg_md5").arg(PCP_PASSWORD)).await?;
    Ok(vec![
        ("pgpool.conf", configuration(cluster, host, directory), 0o600),
        ("pool_hba.conf", "host all all 0.0.0.0/0 scram-sha-256\n".to_owned(), 0o600),
        ("pool_passwd", format!("app:TEXT{}\n", passwords.password("app")), 0o600),
        ("pcp.conf", format!("postgres:{}\n", hash.trim()), 0o600),
        ("pcppass", format!("*:*:postgres:{PCP_PASSWORD}\n"), 0o600),
        ("failover.sh", failover_script(cluster), 0o700),
        ("follow.sh", follow_script(cluster, host), 0o700),
    ])
}

fn configuration(cluster: &Cluster, host: Ipv4Addr, directory: &Path) -> String {
    let here = directory.display();
    let mut text = format!(
        "{SETTINGS}listen_addresses = '{host}'\nsocket_dir = '{here}'\n\
         pcp_listen_addresses = '{host}'\npcp_port = {PCP_PORT}\npcp_socket_dir = '{here}'\n\
         wd_ipc_socket_dir = '{here}'\nlogdir = '{here}'\npid_file_name = '{here}/pgpool.pid'\n\
         pool_passwd = '{here}/pool_passwd'\n\
         failover_command = '{here}/failover.sh %d %P %m %H'\n\
         follow_primary_command = '{here}/follow.sh %d %h %M'\n"
    );
    for check in ["sr_check", "health_check"] {
        let password = cluster.monitor_password();
        text += &format!(
            "{check}_user = 'repmgr'\n{check}_password = '{password}'\n{check}_database = 'repmgr'\n"
        );
    }
    for server in cluster.servers() {
        let (id, name, data) = (server.backend_id(), server.name(), server.data_directory());
        text += &format!(
            "backend_hostname{id} = '{}'\nbackend_port{id} = {}\nbackend_weight{id} = 1\n\
             backend_data_directory{id} = '{}'\nbackend_flag{id} = 'ALLOW_TO_FAILOVER'\n\
             backend_application_name{id} = '{name}'\n",
            server.address(),
            server.port(),
            data.display()
        );
    }
    text
}

/// repmgr on a host, over ssh.
fn repmgr(cluster: &Cluster, host: &str, command: &str) -> String {
    let directory = cluster.directory().display();
    let port = cluster.servers().first().map_or(222, crate::Server::ssh_port);
    let program = cluster.repmgr_program().unwrap_or_else(|_| PathBuf::from("repmgr"));
    format!(
        "ssh -q -o BatchMode=yes -o ConnectTimeout=5 -o UserKnownHostsFile={directory}/known_hosts \
         -i {directory}/ssh_key_postgres -p {port} postgres@{host} {} -f {directory}/by-host/{host}/repmgr.conf {command}",
        program.display()
    )
}

fn failover_script(cluster: &Cluster) -> String {
    let promote = repmgr(cluster, "$host", "standby promote");
    format!(
        "#!/bin/sh\nfailed=$1 primary=$2 next=$3 host=$4\n\
         [ \"$next\" -ge 0 ] || exit 0\n[ \"$failed\" = \"$primary\" ] || exit 0\nexec {promote}\n"
    )
}

fn follow_script(cluster: &Cluster, host: Ipv4Addr) -> String {
    let follow = repmgr(cluster, "$host", "standby follow");
    format!(
        "#!/bin/sh\nnode=$1 host=$2\n{follow} || exit 1\n\
         exec pcp_attach_node -w -h {host} -p {PCP_PORT} -U postgres -n \"$node\"\n"
    )
}
