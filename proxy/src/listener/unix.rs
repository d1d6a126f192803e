//! The Unix socket: for clients on this machine, of whom the kernel says who they are.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UnixListener;

use crate::peer::{PeerAddress, UnixPeer};

/// A listener whose file goes away with it.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    listener: UnixListener,
    path: Arc<Path>,
    /// The file stays: another process listens there.
    stays: Arc<AtomicBool>,
    /// Device and number of the file, which tell it from one that another pgherd has put in its place.
    file: (u64, u64),
}

/// The socket's file, where libpq looks for it.
pub(crate) fn path_of(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

impl UnixSocket {
    /// Listens in a directory. A socket that is left of a process that has ended is replaced.
    ///
    /// # Errors
    /// When somebody listens there, or the file cannot be made; names it and its key.
    pub(crate) fn bind(
        directory: &Path,
        (mode, backlog): (u32, i32),
        port: u16,
        stays: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let path = path_of(directory, port);
        open(&path, (mode, backlog), stays).map_err(|error| {
            io::Error::new(error.kind(), format!("listen.unix: cannot listen on {}: {error}", path.display()))
        })
    }

    /// Goes on with a listener that was handed over. Its file stays, until this process alone serves.
    ///
    /// # Errors
    /// When it cannot be watched, or its file is gone.
    pub(crate) fn take_over(
        listener: net::UnixListener,
        path: &Path,
        stays: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        stays.store(true, Ordering::Relaxed);
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self { listener, path: path.into(), stays, file: file_id(path)? })
    }

    /// The next connection, and who has made it.
    ///
    /// # Errors
    /// When none can be accepted, or it has gone away already.
    pub(crate) async fn accept(&self) -> io::Result<(OwnedFd, PeerAddress)> {
        let (stream, _) = self.listener.accept().await?;
        let who = stream.peer_cred()?;
        let (pid, path) = (who.pid().unwrap_or(0), Arc::clone(&self.path));
        let peer = UnixPeer { pid, uid: who.uid(), gid: who.gid(), path };
        Ok((stream.into_std()?.into(), PeerAddress::Unix(peer)))
    }
}

impl AsFd for UnixSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if !self.stays.load(Ordering::Relaxed) && file_id(&self.path).is_ok_and(|file| file == self.file) {
            // A file that stays is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path, (mode, backlog): (u32, i32), stays: Arc<AtomicBool>) -> io::Result<UnixSocket> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let bound = (|| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        socket.listen(backlog)?;
        let listener = UnixListener::from_std(net::UnixListener::from(OwnedFd::from(socket)))?;
        Ok(UnixSocket { listener, path: path.into(), stays, file: file_id(path)? })
    })();
    bound.inspect_err(|_| drop(fs::remove_file(path)))
}

/// Removes a socket on which nobody listens. What is no socket stays, and so does one of which that cannot be told.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => {}
    }
    let probe = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // One whose queue is full would make us wait.
    probe.set_nonblocking(true)?;
    match probe.connect(&socket2::SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there")),
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(directory: &Path, port: u16) -> io::Result<UnixSocket> {
        UnixSocket::bind(directory, (0o770, 64), port, Arc::default())
    }

    #[tokio::test]
    async fn a_socket_that_is_left_over_is_replaced_and_one_in_use_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = path_of(directory.path(), 6543);
        assert!(path.ends_with(".s.PGSQL.6543"));
        drop(net::UnixListener::bind(&path).unwrap());
        let socket = bind(directory.path(), 6543).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o770);
        let error = bind(directory.path(), 6543).unwrap_err().to_string();
        let place = path.display();
        assert_eq!(error, format!("listen.unix: cannot listen on {place}: somebody listens there"));
        let client = net::UnixStream::connect(&path).unwrap();
        let (_, peer) = socket.accept().await.unwrap();
        let PeerAddress::Unix(who) = &peer else { panic!("{peer}") };
        assert_eq!(who.pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(peer.to_string(), format!("unix:{}@{place}", who.pid));
        drop((client, socket));
        assert!(!path.exists(), "it goes away with its listener");
    }

    #[tokio::test]
    async fn what_is_anothers_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = path_of(directory.path(), 1);
        fs::write(&path, "a letter").unwrap();
        let error = bind(directory.path(), 1).unwrap_err().to_string();
        assert!(error.ends_with("there is a file that is no socket"), "{error}");
        fs::remove_file(&path).unwrap();
        let socket = bind(directory.path(), 1).unwrap();
        // Another pgherd has put its own in the place.
        fs::remove_file(&path).unwrap();
        let other = net::UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
        let long = directory.path().join("x".repeat(120));
        fs::create_dir(&long).unwrap();
        assert!(bind(&long, 1).unwrap_err().to_string().starts_with("listen.unix: "));
    }
}
