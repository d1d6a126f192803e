//! Sessions to the servers' sshd, opened beforehand and kept, and scripts run over them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pgherd_health::{Node, NodeId};
use russh::client::{self, Handle};
use russh::keys::known_hosts::{known_host_keys_path, learn_known_hosts_path};
use russh::keys::{
    Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, load_secret_key,
};
use russh::{Channel, ChannelMsg};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::ran::{Failure, Ran};
use super::settings::SshSettings;

/// A session whose peer is silent for about four times this long is given up.
const KEEPALIVE: Duration = Duration::from_secs(1);
const KEEPALIVES_UNANSWERED: usize = 3;
/// Time between two looks at whether a session is still there.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two attempts to open a session that cannot be opened.
const RETRY: Duration = Duration::from_secs(5);
/// More output of a command than this is thrown away.
const OUTPUT_KEPT: usize = 64 * 1024;

/// The sessions to all servers.
#[derive(Debug)]
pub(super) struct Ssh {
    settings: SshSettings,
    slots: HashMap<NodeId, Slot>,
}

#[derive(Debug)]
struct Slot {
    node: Node,
    session: Mutex<Option<Session>>,
}

#[derive(Clone)]
struct Session(Arc<Handle<HostKeys>>);

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_closed() { "Session(closed)" } else { "Session(open)" })
    }
}

impl Ssh {
    pub(super) fn new(nodes: &[Node], settings: SshSettings) -> Self {
        let slot = |node: &Node| (node.id, Slot { node: node.clone(), session: Mutex::new(None) });
        Self { settings, slots: nodes.iter().map(slot).collect() }
    }

    /// Opens the session to `node`, and opens it again whenever it breaks. Never ends; cancel-safe.
    pub(super) async fn keep_open(&self, node: NodeId) {
        let mut last_failure = None;
        loop {
            match self.session(node).await {
                Ok(_) => {
                    if last_failure.take().is_some() {
                        info!(%node, "ssh session open again");
                    }
                    sleep(LOOK).await;
                }
                Err(failure) => {
                    if last_failure.as_ref() != Some(&failure) {
                        warn!(%node, %failure, "no ssh session: no failover step that needs one can be taken there");
                        last_failure = Some(failure);
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Runs a script with `sh`, on the open session if it is alive, else on a new one.
    pub(super) async fn run(&self, node: NodeId, script: String) -> Result<Ran, Failure> {
        let (session, mut channel) = self.send(node, script).await.map_err(unreachable)?;
        let mut output = Vec::new();
        let keep = |data: &[u8]| {
            let room = OUTPUT_KEPT.saturating_sub(output.len());
            output.extend(data.iter().take(room));
        };
        let status = read(&session, &mut channel, keep).await?;
        Ok(Ran { status, output: String::from_utf8_lossy(&output).into_owned() })
    }

    /// The same for a script whose output is handed on as it comes; gives its exit status. Nothing may be waited for meanwhile: a channel
    /// that nobody reads holds up all others of its session.
    ///
    /// When `until` is ready, which says why, nobody listens any more. What was begun goes on.
    pub(super) async fn stream(
        &self,
        node: NodeId,
        script: String,
        until: impl Future<Output = String>,
        take: impl FnMut(&[u8]),
    ) -> Result<u32, Failure> {
        tokio::pin!(until);
        let (session, mut channel) = tokio::select! {
            sent = self.send(node, script) => sent.map_err(unreachable)?,
            why = &mut until => return Err(Failure::Lost(why)),
        };
        let why = tokio::select! {
            status = read(&session, &mut channel, take) => return status,
            why = until => why,
        };
        // The session may be gone as well.
        let _ = timeout(LOOK, channel.close()).await;
        Err(Failure::Lost(why))
    }

    /// Hands a script to a shell; an open session that turns out to be dead is replaced once.
    ///
    /// sshd takes no byte before the shell runs, and a shell that has not the whole script runs nothing of it. So a
    /// failure here means that nothing was done.
    async fn send(&self, node: NodeId, script: String) -> Result<(Session, Channel<client::Msg>), String> {
        let script = Bytes::from(script);
        let mut reason = String::new();
        for _ in 0..2 {
            let session = self.session(node).await?;
            let sent = async {
                let channel = session.0.channel_open_session().await?;
                channel.exec(false, "exec sh -s").await?;
                channel.data_bytes(script.clone()).await?;
                channel.eof().await?;
                Ok::<_, russh::Error>(channel)
            };
            match timeout(self.settings.connect_timeout, sent).await {
                Ok(Ok(channel)) => return Ok((session, channel)),
                Ok(Err(error)) => reason = error.to_string(),
                Err(_) => "sshd takes no command".clone_into(&mut reason),
            }
            debug!(%node, reason, "ssh session lost");
            self.forget(node, &session).await;
        }
        Err(reason)
    }

    async fn session(&self, node: NodeId) -> Result<Session, String> {
        let slot = self.slots.get(&node).ok_or_else(|| format!("node {node} is not configured"))?;
        let mut session = slot.session.lock().await;
        if let Some(open) = session.as_ref().filter(|open| !open.0.is_closed()) {
            return Ok(open.clone());
        }
        *session = None;
        let opened = timeout(self.settings.connect_timeout, open(&slot.node, &self.settings)).await;
        let opened = opened.unwrap_or_else(|_| Err("sshd does not answer in time".to_owned()))?;
        debug!(%node, "ssh session open");
        Ok(session.insert(opened).clone())
    }

    async fn forget(&self, node: NodeId, dead: &Session) {
        if let Some(slot) = self.slots.get(&node) {
            let mut session = slot.session.lock().await;
            if session.as_ref().is_some_and(|present| Arc::ptr_eq(&present.0, &dead.0)) {
                *session = None;
            }
        }
    }
}

/// Reads what a script writes until it ends; gives its exit status.
async fn read(
    session: &Session,
    channel: &mut Channel<client::Msg>,
    mut take: impl FnMut(&[u8]),
) -> Result<u32, Failure> {
    let mut status = None;
    loop {
        let message = match timeout(LOOK, channel.wait()).await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            // A channel is not always told that its session has ended.
            Err(_) if session.0.is_closed() => break,
            Err(_) => continue,
        };
        match message {
            ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => take(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    status.ok_or_else(|| Failure::Lost("ssh: the connection ended before the command did".to_owned()))
}

fn unreachable(why: String) -> Failure {
    Failure::Unreachable(format!("ssh: {why}"))
}

async fn open(node: &Node, settings: &SshSettings) -> Result<Session, String> {
    let Some(key_file) = settings.key.clone() else { return Err("failover.ssh.key is not set".to_owned()) };
    let known_hosts = settings.known_hosts.clone();
    let (host, port) = (node.host.clone(), settings.port);
    let pins = tokio::task::spawn_blocking(move || {
        let key =
            load_secret_key(&key_file, None).map_err(|error| format!("{}: {error}", key_file.display()))?;
        let pinned = known_hosts.map_or(Ok(Vec::new()), |file| {
            known_host_keys_path(&host, port, &file).map_err(|error| format!("{}: {error}", file.display()))
        });
        Ok::<_, String>((key, pinned?))
    });
    let (key, pinned) = pins.await.map_err(|error| error.to_string())??;
    let pinned: Vec<PublicKey> = pinned.into_iter().map(|(_, key)| key).collect();
    let learn = settings.known_hosts.clone().filter(|_| settings.trust_first_use && pinned.is_empty());
    if pinned.is_empty() && learn.is_none() {
        return Err(format!("no host key of {} is pinned in failover.ssh.known_hosts", node.host));
    }
    let mut config = client::Config {
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES_UNANSWERED,
        nodelay: true,
        ..client::Config::default()
    };
    if !pinned.is_empty() {
        // A server has several keys: ask for one that is pinned.
        config.preferred.key = pinned.iter().flat_map(algorithms).collect();
    }
    let refusal = Arc::new(StdMutex::new(None));
    let handler = HostKeys { host: node.host.clone(), port, pinned, learn, refusal: Arc::clone(&refusal) };
    let explain = |error: russh::Error| {
        let refused = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        refused.unwrap_or_else(|| error.to_string())
    };
    let address = (node.host.as_str(), port);
    let mut handle = client::connect(Arc::new(config), address, handler).await.map_err(explain)?;
    let hash = handle.best_supported_rsa_hash().await.map_err(explain)?.flatten();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    let login = handle.authenticate_publickey(&settings.user, key).await.map_err(explain)?;
    if login.success() {
        Ok(Session(Arc::new(handle)))
    } else {
        Err(format!("sshd does not accept the key for user {}", settings.user))
    }
}

/// The names of the signature algorithms of a pinned key.
fn algorithms(key: &PublicKey) -> Vec<Algorithm> {
    match key.algorithm() {
        Algorithm::Rsa { .. } => [HashAlg::Sha512, HashAlg::Sha256]
            .into_iter()
            .map(|hash| Algorithm::Rsa { hash: Some(hash) })
            .collect(),
        other => vec![other],
    }
}

/// Trusts the pinned keys of one host.
struct HostKeys {
    host: String,
    port: u16,
    pinned: Vec<PublicKey>,
    /// Where to pin the first key seen, if that was asked for and none is pinned.
    learn: Option<PathBuf>,
    refusal: Arc<StdMutex<Option<String>>>,
}

impl client::Handler for HostKeys {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        if self.pinned.iter().any(|pinned| pinned.key_data() == key.key_data()) {
            return Ok(true);
        }
        if let Some(file) = &self.learn {
            learn_known_hosts_path(&self.host, self.port, key, file)?;
            info!(host = %self.host, fingerprint = %key.fingerprint(HashAlg::Sha256), "ssh host key pinned");
            return Ok(true);
        }
        let refusal = format!(
            "the host key of {} is not the pinned one: it is now {}",
            self.host,
            key.fingerprint(HashAlg::Sha256)
        );
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        Ok(false)
    }
}
