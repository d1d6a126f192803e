//! Clients of whom the operating system says who they are.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use pgherd_testkit::{Cluster, Context, Pgherd, Result, bail, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::front::{Front, PATIENCE};

const ROLES: &str = "CREATE ROLE root LOGIN PASSWORD 'pw'; CREATE ROLE anna LOGIN PASSWORD 'pw'; \
                     CREATE ROLE bert LOGIN PASSWORD 'pw'; CREATE ROLE staff; CREATE ROLE eva LOGIN PASSWORD 'pw' IN ROLE staff";
/// Who is let in without a password gives no key for the servers.
const USERLIST: &str = "\"root\" \"pw\"\n\"anna\" \"pw\"\n\"bert\" \"pw\"\n\"eva\" \"pw\"\n";

const RULES: &str = "\
# TYPE DATABASE USER      ADDRESS METHOD
local  app      anna,bert         peer map=os
local  app      eva               peer map=members
local  all      all               peer
host   all      all       all     scram-sha-256
";

const MAPS: &str = "\
# MAP    SYSTEM-USER DATABASE-USER
os       root        anna
os       /^p(.*)es$  bert
members  postgres    +staff
";

/// pgherd with a Unix socket that everybody may connect to.
struct Place {
    front: Front,
    directory: TempDir,
}

impl Place {
    async fn with(files: &[(&str, &str)]) -> Result<Self> {
        let cluster = Cluster::builder().servers(1).start().await?;
        cluster.server(1)?.query(ROLES).await?;
        let directory = tempfile::tempdir()?;
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
        let mut pgherd = Pgherd::builder(&cluster).set("listen.unix", directory.path().display().to_string());
        for (key, text) in files {
            let path = cluster.directory().join(key);
            std::fs::write(&path, text)?;
            pgherd = pgherd.set(key, path.display().to_string());
        }
        let pgherd = pgherd.start().await?;
        pgherd.wait_log("writes are open", PATIENCE).await?;
        Ok(Self { front: Front { cluster, pgherd }, directory })
    }

    /// What psql prints that this user of the operating system runs, and who it is at the server; or the error.
    async fn who(&self, system_user: &str, user: &str) -> Result<String, String> {
        let port = self.front.pgherd.address().port();
        let at = format!("host={} port={port} user={user} dbname=app", self.directory.path().display());
        let mut command = Command::new("setpriv");
        command.args(["--reuid", system_user, "--regid", system_user, "--clear-groups"]);
        command.args(["psql", "-XAtqw", "-d", &at, "-c", "SELECT session_user"]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| error.to_string())?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    async fn refused(&self, system_user: &str, user: &str) -> Result<String> {
        match self.who(system_user, user).await {
            Ok(who) => bail!("{system_user} was let in as {who}"),
            Err(error) => Ok(error),
        }
    }
}

#[tokio::test]
async fn a_user_of_the_operating_system_is_whom_the_maps_let_it_be() -> Result<()> {
    ensure!(system_user() == "root", "this test changes users");
    let files = [("auth.hba_file", RULES), ("auth.ident_file", MAPS), ("auth.userlist_file", USERLIST)];
    let place = Place::with(&files).await?;
    // With a map, by its name or by what it looks like, and by a role that the user is a member of.
    for (system_user, user) in [("root", "anna"), ("postgres", "bert"), ("postgres", "eva"), ("root", "root")]
    {
        let who = place.who(system_user, user).await;
        ensure!(who.as_deref() == Ok(user), "{system_user} as {user}: {who:?}");
    }
    // Nobody else, whatever else it may be.
    for (system_user, user) in
        [("postgres", "anna"), ("root", "bert"), ("root", "eva"), ("postgres", "root"), ("daemon", "anna")]
    {
        let told = place.refused(system_user, user).await?;
        let expected = format!("Peer authentication failed for user \"{user}\"");
        ensure!(told.contains(&expected), "{system_user} as {user}: {told}");
    }
    let line = place.front.pgherd.wait_log("no map allows this", PATIENCE).await?;
    ensure!(line.contains("system=\"postgres\"") && line.contains("user=\"anna\""), "{line}");
    Ok(())
}

#[tokio::test]
async fn without_rules_who_has_the_systems_name_needs_no_password_if_pgherd_has_one() -> Result<()> {
    ensure!(system_user() == "root", "this test changes users");
    let place = Place::with(&[("auth.userlist_file", USERLIST)]).await?;
    ensure!(place.who("root", "root").await.as_deref() == Ok("root"));
    // All others are asked for their passwords.
    for (system_user, user) in [("root", "anna"), ("postgres", "root"), ("postgres", "app")] {
        let told = place.refused(system_user, user).await?;
        ensure!(told.contains("no password supplied"), "{system_user} as {user}: {told}");
    }
    Ok(())
}

/// The user that the tests run as.
fn system_user() -> String {
    let id = std::process::Command::new("id").arg("-un").output();
    id.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .context("id")
        .unwrap_or_default()
}
