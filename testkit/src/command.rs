//! Programs that testkit runs: as whom, in which network namespace, and errors that name them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The variable that marks every process of a cluster, so that the reaper finds it.
pub(crate) const MARKER: &str = "TESTKIT_CLUSTER";

/// The system's user that servers run as.
pub(crate) const POSTGRES_USER: &str = "postgres";

/// Where and as whom programs of a cluster run.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    cluster_directory: PathBuf,
    namespace: Option<String>,
}

impl Place {
    pub(crate) fn new(cluster_directory: PathBuf, namespace: Option<String>) -> Self {
        Self { cluster_directory, namespace }
    }

    /// A program with this process's own rights.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env(MARKER, &self.cluster_directory).stdin(Stdio::null());
        command
    }

    /// A program of the user `postgres`, with an environment that holds only what it needs. It may bind low ports.
    pub(crate) fn command_as_postgres(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command("setpriv");
        command
            .args(["--reuid", POSTGRES_USER, "--regid", POSTGRES_USER, "--init-groups"])
            .args(["--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service", "--"])
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.cluster_directory)
            .env(MARKER, &self.cluster_directory)
            .current_dir("/");
        command
    }
}

/// Runs a program to its end; an exit status other than 0 is an error that shows what the program wrote.
pub(crate) async fn run(what: &str, command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .await
        .with_context(|| format!("{what}: cannot run {:?}", command.as_std().get_program()))?;
    succeeded(what, &output)
}

/// The standard output of a program that succeeded.
pub(crate) fn succeeded(what: &str, output: &Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{what}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
