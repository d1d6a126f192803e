//! The files of a cluster and of its servers.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::command::run;
use crate::credentials::write_secret;
use crate::postgres::{SERVER_CONF, program_directory, server_conf};
use crate::repmgr::Node;
use crate::server::Server;
use crate::sshd::{self, ClientKey, generate_key, known_hosts_line};
use crate::template::postgres_id;

/// What repmgr is told of a server.
pub(crate) fn node<'a>(server: &'a Server, programs: &'a Path, cluster_directory: &Path) -> Node<'a> {
    Node {
        id: server.id(),
        name: server.name(),
        conninfo: format!(
            "host={} port={} user=repmgr dbname=repmgr connect_timeout=2",
            server.address(),
            server.port()
        ),
        directory: server.directory(),
        programs,
        ssh_options: format!(
            "-q -o BatchMode=yes -o ConnectTimeout=5 -o UserKnownHostsFile={directory}/known_hosts -i {directory}/ssh_key_postgres -p {}",
            server.ssh_port(),
            directory = cluster_directory.display()
        ),
    }
}

/// The clients' key, once for this process and once for the user `postgres`.
pub(crate) async fn make_client_key(directory: &Path) -> Result<ClientKey> {
    let key =
        ClientKey { private: directory.join("ssh_key"), for_postgres: directory.join("ssh_key_postgres") };
    let public = generate_key(&key.private, "testkit").await?;
    fs::write(directory.join("authorized_keys"), public)?;
    write_secret(&key.for_postgres, &fs::read_to_string(&key.private)?)?;
    give_to_postgres(&key.for_postgres).await?;
    fs::create_dir(directory.join("by-host"))?;
    Ok(key)
}

/// Makes the user `postgres` the owner.
pub(crate) async fn give_to_postgres(path: &Path) -> Result<()> {
    std::os::unix::fs::chown(path, Some(postgres_id("-u").await?), Some(postgres_id("-g").await?))
        .with_context(|| path.display().to_string())
}

/// Makes the files of one server; gives its line of `known_hosts`.
pub(crate) async fn prepare(
    server: Server,
    template: PathBuf,
    primary: Ipv4Addr,
    cluster_directory: PathBuf,
    settings: Vec<(String, String)>,
    disk_mebibytes: Option<u32>,
) -> Result<String> {
    let directory = server.directory();
    fs::create_dir(directory)?;
    if let Some(size) = disk_mebibytes {
        // The sweep of the lease unmounts it.
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}M"), "testkit"]).arg(directory);
        run(&format!("{}: disk", server.name()), &mut mount).await?;
    }
    give_to_postgres(directory).await?;
    std::os::unix::fs::symlink(
        directory,
        cluster_directory.join("by-host").join(server.address().to_string()),
    )?;
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--reflink=auto"]).arg(&template).arg(server.data_directory());
    run(&format!("{}: copy of the template", server.name()), &mut copy).await?;

    let conf = server_conf(server.name(), server.address(), server.port(), directory, &settings);
    fs::write(directory.join(SERVER_CONF), conf)?;
    if server.address() != primary {
        let conninfo = format!(
            "host={primary} port={} user=repmgr application_name={} connect_timeout=2",
            server.port(),
            server.name()
        );
        fs::write(server.data_directory().join("standby.signal"), "")?;
        give_to_postgres(&server.data_directory().join("standby.signal")).await?;
        let auto_conf = server.data_directory().join("postgresql.auto.conf");
        fs::write(
            auto_conf,
            format!("primary_conninfo = '{conninfo}'\nrecovery_target_timeline = 'latest'\n"),
        )?;
    }
    let programs = program_directory()?;
    fs::write(server.repmgr_conf(), node(&server, &programs, &cluster_directory).configuration())?;
    let sshd = sshd::configuration(server.address(), server.ssh_port(), directory, &cluster_directory);
    fs::write(directory.join("sshd_config"), sshd)?;
    let pgpass = directory.join("pgpass");
    write_secret(&pgpass, &format!("*:*:*:repmgr:{}\n", server.password("repmgr")))?;
    let host_key = directory.join("ssh_host_key");
    let public = generate_key(&host_key, server.name()).await?;
    for secret in [pgpass, host_key] {
        give_to_postgres(&secret).await?;
    }
    Ok(known_hosts_line(server.address(), server.ssh_port(), &public))
}
