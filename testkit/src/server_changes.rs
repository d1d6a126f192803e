//! What tests change at a server: its settings, repmgr's, who watches over it, and whose files it has.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::command::run;
use crate::postgres::SERVER_CONF;
use crate::server::Server;

impl Server {
    /// Sets one parameter in its own configuration file, for its next start or reload.
    pub fn set(&self, parameter: &str, value: &str) -> Result<()> {
        let mut file = fs::File::options().append(true).open(self.directory().join(SERVER_CONF))?;
        Ok(writeln!(file, "{parameter} = '{}'", value.replace('\'', "''"))?)
    }

    /// Sets one parameter in its `repmgr.conf`.
    pub fn set_repmgr(&self, parameter: &str, value: &str) -> Result<()> {
        let text = fs::read_to_string(self.repmgr_conf())?;
        let others = text.lines().filter(|line| line.split('=').next() != Some(parameter));
        let mut text: String = others.map(|line| format!("{line}\n")).collect();
        let _ = writeln!(text, "{parameter}='{value}'");
        Ok(fs::write(self.repmgr_conf(), text)?)
    }

    /// Starts repmgrd, which from now on promotes this server or has it follow another. It ends with the cluster.
    pub async fn start_repmgrd(&self) -> Result<()> {
        for (parameter, value) in [
            ("failover", "automatic"),
            ("monitor_interval_secs", "1"),
            ("reconnect_attempts", "2"),
            ("reconnect_interval", "1"),
        ] {
            self.set_repmgr(parameter, value)?;
        }
        let mut command = self.command("repmgrd");
        let file = |name: &str| self.directory().join(name);
        command.arg("-f").arg(self.repmgr_conf()).arg("--pid-file").arg(file("repmgrd.pid"));
        let log = fs::File::create(file("repmgrd.log"))?;
        command.arg("--daemonize=true").stdout(log.try_clone()?).stderr(log);
        ensure!(command.status().await?.success(), "{}: repmgrd", self.name());
        Ok(())
    }

    /// Puts the files of another cluster's server in the place of its own, as where a volume was lost and an empty server was made
    /// in its place. This server must be down; the other one is stopped. The users keep the passwords that they have here.
    pub async fn become_copy_of(&self, other: &Server) -> Result<()> {
        ensure!(self.postmaster_pid().is_none(), "{} runs", self.name());
        let alter = |user| format!("ALTER ROLE {user} PASSWORD '{}';", self.password(user));
        other.query(&["postgres", "repmgr", "app"].map(alter).concat()).await?;
        other.stop_clean().await?;
        fs::rename(self.data_directory(), self.directory().join("data-before"))?;
        let mut copy = Command::new("cp");
        copy.arg("--archive").arg(other.data_directory()).arg(self.data_directory());
        run(&format!("{}: copy of {}", self.name(), other.name()), &mut copy).await.map(drop)
    }
}
