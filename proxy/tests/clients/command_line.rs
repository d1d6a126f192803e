//! pgherd's own commands, as they reach the pgherd that runs: over TLS, and over its Unix socket.

use pgherd_testkit::{Authority, Cluster, Context, Pgherd, PgherdBuilder, Result, ensure, eventually};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout};

use crate::front::{Front, PATIENCE};
use crate::tls::Pki;

/// One server, and a pgherd that wants TLS of whoever comes over the network.
async fn front(pki: impl FnOnce(&Cluster, PgherdBuilder) -> Result<PgherdBuilder>) -> Result<Front> {
    let cluster = Cluster::builder().servers(1).start().await?;
    let pgherd = pki(&cluster, Pgherd::builder(&cluster))?.set("listen.tls.mode", "require").start().await?;
    pgherd.wait_log("writes are open", PATIENCE).await?;
    Ok(Front { cluster, pgherd })
}

#[tokio::test]
async fn commands_speak_tls_as_libpqs_variables_say() -> Result<()> {
    let mut pki = None;
    let front = front(|cluster, pgherd| {
        let made = Pki::new(cluster)?;
        let pgherd = made.serve(pgherd);
        pki = Some(made);
        pgherd
    })
    .await?;
    let (pki, directory) = (pki.context("no certificates")?, front.cluster.directory());
    let ca = pki.ca.display().to_string();
    let stranger = Authority::new("another authority")?.write(directory, "stranger")?.display().to_string();
    let ask = async |mode: Option<&str>, root: Option<&str>| {
        let mode = mode.map(|mode| ("PGSSLMODE", mode));
        let environment: Vec<(&str, &str)> =
            mode.into_iter().chain(root.map(|root| ("PGSSLROOTCERT", root))).collect();
        front.pgherd.ask_with(&environment, &["status"]).await
    };
    for (mode, root) in [(None, None), (Some("require"), None), (Some("verify-ca"), Some(ca.as_str()))] {
        let asked = ask(mode, root).await?;
        ensure!(asked.code == 0 && asked.said.contains("Steady"), "{mode:?}: {asked:?}");
    }
    for (mode, root, why) in [
        // The certificate is for another name.
        ("verify-full", Some(&ca), "certificate"),
        ("verify-ca", Some(&stranger), "certificate"),
        ("disable", None, "TLS is required"),
        ("sometimes", None, "PGSSLMODE is no mode of libpq"),
    ] {
        let asked = ask(Some(mode), root.map(String::as_str)).await?;
        ensure!(asked.code == 3 && asked.complained.contains(why), "{mode}: {asked:?}");
    }
    let address = front.pgherd.address().ip().to_string();
    pki.authority.server(&[&address])?.write(directory, "pgherd")?;
    front.pgherd.send(Signal::HUP)?;
    eventually("its certificate is for its address", PATIENCE, || async {
        let asked = ask(Some("verify-full"), Some(&ca)).await?;
        Ok((asked.code == 0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn commands_use_the_unix_socket_if_there_is_one() -> Result<()> {
    let mut sockets = String::new();
    let front = front(|cluster, pgherd| {
        let directory = cluster.directory().join("sockets");
        std::fs::create_dir(&directory)?;
        sockets = directory.display().to_string();
        Ok(Pki::new(cluster)?.serve(pgherd)?.set("listen.unix", sockets.clone()))
    })
    .await?;
    // There is no TLS on it, and none is asked for.
    let verifying = [("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", "/nowhere")];
    for arguments in [&["status"][..], &["status", "--host", &sockets]] {
        let asked = front.pgherd.ask_with(&verifying, arguments).await?;
        ensure!(asked.code == 0 && asked.said.contains("Steady"), "{arguments:?}: {asked:?}");
    }
    let elsewhere = front.pgherd.ask(&["status", "--host", "/nowhere"]).await?;
    ensure!(elsewhere.code == 3 && elsewhere.complained.contains("at /nowhere/.s.PGSQL."), "{elsewhere:?}");
    let wrong = front.pgherd.ask_with(&[("PGPASSWORD", "wrong")], &["status"]).await?;
    ensure!(wrong.code == 3 && wrong.complained.contains("password authentication failed"), "{wrong:?}");
    let refused = front.pgherd.ask(&["detach", "0"]).await?;
    ensure!(refused.code == 1 && refused.complained.contains("node 0 is the primary"), "{refused:?}");
    Ok(())
}

/// Pages of `status --watch`, each of which clears the terminal first.
struct Pages {
    said: BufReader<ChildStdout>,
    text: String,
    _process: Child,
}

impl Pages {
    fn of(mut process: Child) -> Result<Self> {
        let said = BufReader::new(process.stdout.take().context("no output")?);
        Ok(Self { said, text: String::new(), _process: process })
    }

    /// Reads until a page with these words has come.
    async fn wait(&mut self, words: &str) -> Result<()> {
        let reads = async {
            loop {
                let pages = self.text.split("\u{1b}[H\u{1b}[2J").skip(1);
                if pages.last().is_some_and(|page| page.contains(words)) {
                    return Ok(());
                }
                let mut chunk = [0; 4096];
                let read = self.said.read(&mut chunk).await?;
                ensure!(read > 0, "it has ended: {}", self.text);
                self.text.push_str(&String::from_utf8_lossy(chunk.get(..read).unwrap_or_default()));
            }
        };
        tokio::time::timeout(PATIENCE, reads).await.with_context(|| format!("no page with {words:?}"))?
    }
}

#[tokio::test]
async fn status_is_shown_again_and_again_also_while_pgherd_is_away() -> Result<()> {
    let mut front = Front::start().await?;
    let mut pages = Pages::of(front.pgherd.watch(&["status", "--watch"])?)?;
    pages.wait("Primary     node 0").await?;
    front.pgherd.kill9().await?;
    pages.wait("pgherd cannot be reached").await?;
    front.pgherd.start().await?;
    pages.wait("Primary     node 0").await
}

#[tokio::test]
async fn a_health_check_says_that_pgherd_serves_whatever_becomes_of_the_servers() -> Result<()> {
    let mut front = Front::start().await?;
    for arguments in [&["health"][..], &["health", "--ready"]] {
        let asked = front.pgherd.ask(arguments).await?;
        ensure!(asked.code == 0 && asked.said.is_empty() && asked.complained.is_empty(), "{asked:?}");
    }
    let mistaken = front.pgherd.ask_with(&[("PGHERD_POOL__SIZE", "many")], &["health"]).await?;
    ensure!(mistaken.code == 0, "it runs with what it was started with: {mistaken:?}");
    let other = format!("{}:5432", front.server()?.address());
    let other = front.pgherd.ask(&["health", "--address", &other]).await?;
    ensure!(other.code == 3, "a server of PostgreSQL is no pgherd: {other:?}");
    let off = front.pgherd.ask_with(&[("PGHERD_HTTP__ADDRESS", "off")], &["health"]).await?;
    ensure!(off.code == 3 && off.complained.contains("http.address is off"), "{off:?}");
    front.server()?.kill9().await?;
    eventually("the primary is missed", PATIENCE, || async {
        let asked = front.pgherd.ask(&["status"]).await?;
        Ok((!asked.said.contains("Steady")).then_some(()))
    })
    .await?;
    let asked = front.pgherd.ask(&["health"]).await?;
    ensure!(asked.code == 0, "that there is no primary is no fault of its own: {asked:?}");
    front.pgherd.send(Signal::STOP)?;
    let asked = front.pgherd.ask(&["health"]).await?;
    ensure!(asked.code == 3 && asked.complained.contains("no answer within 2 s"), "{asked:?}");
    front.pgherd.send(Signal::CONT)?;
    front.pgherd.kill9().await?;
    let asked = front.pgherd.ask(&["health"]).await?;
    ensure!(asked.code == 3 && asked.complained.contains("(http.address)"), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn a_pgherd_that_ends_is_healthy_and_not_ready() -> Result<()> {
    let front = Front::start().await?;
    let session = front.connect().await?;
    session.batch_execute("BEGIN").await?;
    front.pgherd.send(Signal::TERM)?;
    eventually("it is not ready", PATIENCE, || async {
        let asked = front.pgherd.ask(&["health", "--ready"]).await?;
        Ok((asked.code == 1 && asked.complained.contains("/readyz says 503")).then_some(()))
    })
    .await?;
    let asked = front.pgherd.ask(&["health"]).await?;
    ensure!(asked.code == 0, "{asked:?}");
    Ok(())
}
