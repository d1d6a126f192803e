//! The pgherd that starts, seen by the one that runs.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockAddr;
use tokio::net::UnixListener;
use tokio::time::timeout;

use super::link::socket;
use super::{Estate, Link, Message, Met};
use crate::cancel::Neighbour;

/// How long one that has connected may take to say that it wants to take over.
const SPEAKS_WITHIN: Duration = Duration::from_secs(5);
/// Those that wait while one takes over.
const BACKLOG: i32 = 4;
/// Pause after an accept that failed.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The listening sockets of this process, to be handed over.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    open: Mutex<Vec<OwnedFd>>,
    /// The files of Unix sockets are not this process's to remove: another listens there.
    stay: Arc<AtomicBool>,
}

impl Sockets {
    /// Keeps another handle of a listening socket.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub(crate) fn keep(&self, socket: &impl AsFd) -> io::Result<()> {
        self.open.lock().push(socket.as_fd().try_clone_to_owned()?);
        Ok(())
    }

    /// Says whether another process has them, which is not to lose the file of a Unix socket.
    pub(crate) fn stay(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stay)
    }

    /// This process serves, and the one before does not any more: what is left at the end is its to remove.
    pub(super) fn own(&self) {
        self.stay.store(false, Ordering::Relaxed);
    }

    /// Closes all: whoever connects is refused, unless another process has them.
    pub(crate) fn close(&self) {
        self.open.lock().clear();
    }
}

/// Where those that are to take over announce themselves.
#[derive(Debug)]
pub(super) struct Reception {
    path: PathBuf,
    /// What the path leads to.
    inode: Option<u64>,
    socket: UnixListener,
}

impl Reception {
    /// Listens at this path, in place of whoever did before. Only processes of the same user, and root, are heard.
    ///
    /// # Errors
    /// When that cannot be; names the path and its key.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let bound = bind(path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("runtime.handover: cannot listen at {}: {error}", path.display()),
            )
        });
        Ok(Self { socket: bound?, path: path.to_owned(), inode: inode(path) })
    }

    /// Hands over to whoever comes. Ready when another serves and decides; until then a successor that fails is forgotten, and this
    /// one goes on.
    pub(super) async fn hand_over(mut self, estate: &Estate<'_>) -> Met {
        loop {
            let succeeded = match self.accept().await {
                Ok(link) => succeeded(link, estate).await,
                Err(error) => Err(error),
            };
            match succeeded {
                Ok(newer) => return newer,
                Err(error) => tracing::warn!(%error, "a pgherd that wanted to take over did not"),
            }
            tokio::time::sleep(BACK_OFF).await;
            // As before: it has not begun to decide, since it had not said that it serves.
            estate.control.lead().await;
            estate.accepting.send_replace(true);
            self.keep_path();
        }
    }

    /// A successor that has failed may have taken the path already.
    fn keep_path(&mut self) {
        if inode(&self.path) == self.inode {
            return;
        }
        match Self::open(&self.path) {
            Ok(reception) => *self = reception,
            Err(error) => tracing::warn!(%error, "nobody can take over from this pgherd any more"),
        }
    }

    async fn accept(&self) -> io::Result<Link> {
        Link::new(self.socket.accept().await?.0)
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| file.ino())
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = socket()?;
    // Under another name first, so that there is always somebody at this one.
    let mut other = path.as_os_str().to_owned();
    other.push(format!(".{}", std::process::id()));
    let other = PathBuf::from(other);
    let _ = fs::remove_file(&other);
    socket.bind(&SockAddr::unix(&other)?)?;
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    fs::rename(&other, path)?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

async fn succeeded(link: Link, estate: &Estate<'_>) -> io::Result<Met> {
    let ended = || io::Error::other("it has ended");
    let hello = timeout(SPEAKS_WITHIN, link.receive()).await;
    if !matches!(hello, Ok(Ok(Some((Message::Hello, _))))) {
        return Err(io::Error::other("it did not say that it wanted to"));
    }
    tracing::info!("another pgherd takes over");
    let given: Vec<OwnedFd> =
        estate.sockets.open.lock().iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
    link.send_with(&Message::Sockets, &given.iter().map(AsFd::as_fd).collect::<Vec<_>>()).await?;
    drop(given);
    let mut newer = estate.household.meet(link, Neighbour::Newer);
    // From here on without a deadline: to it the end of the connection would be the end of this process.
    if !newer.says(&Message::Ready).await {
        return Err(ended());
    }
    estate.accepting.send_replace(false);
    tokio::select! {
        _ = estate.control.stand_aside() => {}
        _ = newer.says(&Message::Serving) => return Err(ended()),
    }
    newer.say(&Message::Aside).await?;
    if !newer.says(&Message::Serving).await {
        return Err(ended());
    }
    estate.sockets.stay.store(true, Ordering::Relaxed);
    Ok(newer)
}
