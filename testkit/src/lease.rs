//! One address block, one directory and one set of names for each cluster on this machine.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::processes::bury_daemons;

/// Blocks are 127.0.2.0/24 to 127.0.254.0/24: the system's own names are in 127.0.0.0/24 and 127.0.1.0/24.
const BLOCKS: std::ops::RangeInclusive<u8> = 2..=254;
const SWEEP: &str = include_str!("sweep.sh");

/// The exclusive use of one address block; everything of the cluster that has it is gone after its drop.
#[derive(Debug)]
pub(crate) struct Lease {
    block: u8,
    directory: PathBuf,
    /// Held until after the sweep of the drop, so that nobody else uses the block before.
    _lock: File,
    reaper: Child,
}

impl Lease {
    /// Takes a free block whose addresses have `ports` free, `preferred` if it can be had; sweeps what dead owners left.
    pub(crate) fn take(ports: &[u16], preferred: Option<u8>) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "testkit starts servers as user postgres: run it as root"
        );
        let base = base_directory()?;
        sweep_orphans(&base)?;
        for block in candidates(preferred) {
            let lock_path = base.join(format!("{block}.lock"));
            let Some(lock) = try_lock(&lock_path)? else { continue };
            if !ports_are_free(Ipv4Addr::new(127, 0, block, 1), ports) {
                remove_lock(&lock_path);
                continue;
            }
            let directory = base.join(block.to_string());
            if directory.exists() {
                sweep(&directory)?;
            }
            fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
            let reaper = start_reaper(&directory, &lock_path)?;
            return Ok(Self { block, directory, _lock: lock, reaper });
        }
        bail!(
            "no block of 127.0.2.0-127.0.254.255 has the ports {ports:?} free: does something listen on 0.0.0.0?"
        )
    }

    pub(crate) fn block(&self) -> u8 {
        self.block
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = sweep(&self.directory) {
            // The reaper is the second chance: its input ends without a word when the child is dropped.
            eprintln!("testkit: {error:#}");
            return;
        }
        if let Some(mut input) = self.reaper.stdin.take() {
            let _ = input.write_all(b"done\n");
        }
        let _ = self.reaper.wait();
        bury_daemons();
        remove_lock(&self.directory.with_extension("lock"));
    }
}

/// The directory of all clusters of this machine: in memory where there is room, since the copies of the
/// template are small and a busy disk would make each cluster wait for seconds. `TESTKIT_DIR` overrides it.
pub(crate) fn base_directory() -> Result<PathBuf> {
    let base = match std::env::var_os("TESTKIT_DIR") {
        Some(directory) => directory.into(),
        None if has_room(Path::new("/dev/shm")) => PathBuf::from("/dev/shm/pgherd-testkit"),
        None => PathBuf::from("/tmp/pgherd-testkit"),
    };
    fs::create_dir_all(&base).with_context(|| format!("cannot create {}", base.display()))?;
    let owner = fs::symlink_metadata(&base)?;
    ensure!(owner.is_dir() && owner.uid() == 0, "{} is not a directory of root", base.display());
    Ok(base)
}

/// Whether a file system is large: in containers `/dev/shm` often has 64 MiB. Its size, not what is free at the moment, so
/// that all processes of the machine use the same directory.
fn has_room(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|size| size.f_blocks.saturating_mul(size.f_frsize) >= 4 << 30)
}

/// The lock of a file, or nothing while another process holds it.
fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = create_lock(path).with_context(|| path.display().to_string())?;
    match file.try_lock() {
        // Its last owner may have removed it meanwhile, and another may lock a new one of the same name.
        Ok(()) => Ok(fs::metadata(path).is_ok_and(|it| Some(it.ino()) == inode(&file)).then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Opens a lock file; its directory goes with its last file, and so may just have gone.
fn create_lock(path: &Path) -> io::Result<File> {
    let open = || File::options().create(true).append(true).open(path);
    for _ in 0..100 {
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
            }
            opened => return opened,
        }
    }
    open()
}

fn inode(file: &File) -> Option<u64> {
    file.metadata().ok().map(|it| it.ino())
}

/// Removes the file of a lock that is held, and the directory with it if it was the last.
fn remove_lock(path: &Path) {
    // What cannot be removed does no harm.
    let _ = fs::remove_file(path);
    let _ = path.parent().map(fs::remove_dir);
}

/// The preferred block first, then all from one that differs between processes, so that they seldom collide.
fn candidates(preferred: Option<u8>) -> impl Iterator<Item = u8> {
    let count = u32::from(*BLOCKS.end() - *BLOCKS.start()) + 1;
    let first = std::process::id().wrapping_mul(31) % count;
    let start = *BLOCKS.start();
    preferred.into_iter().chain(
        (0..count)
            .map(move |step| (first + step) % count)
            .filter_map(move |offset| Some(start + u8::try_from(offset).ok()?)),
    )
}

fn ports_are_free(address: Ipv4Addr, ports: &[u16]) -> bool {
    ports.iter().all(|port| TcpListener::bind((address, *port)).is_ok())
}

fn sweep_orphans(base: &Path) -> Result<()> {
    for entry in fs::read_dir(base).into_iter().flatten() {
        let entry = entry?;
        let is_block = entry.file_name().to_str().is_some_and(|name| name.parse::<u8>().is_ok());
        if !is_block {
            continue;
        }
        let lock_path = entry.path().with_extension("lock");
        let Some(_lock) = try_lock(&lock_path)? else { continue };
        if entry.path().exists() {
            sweep(&entry.path())?;
        }
        remove_lock(&lock_path);
    }
    Ok(())
}

fn sweep(directory: &Path) -> Result<()> {
    let status = shell(directory, "now").status().context("cannot run bash")?;
    ensure!(
        status.success() && !directory.exists(),
        "{} could not be removed: {status}",
        directory.display()
    );
    Ok(())
}

/// A process that outlives its owner's kill, by any signal, and then sweeps.
fn start_reaper(directory: &Path, lock: &Path) -> Result<Child> {
    shell(directory, "orphan")
        .arg(lock)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run bash")
}

fn shell(directory: &Path, mode: &str) -> Command {
    let mut command = Command::new("bash");
    // A process group of its own: the terminal's Ctrl-C and a test runner's kill do not reach it.
    command.args(["-c", SWEEP, "sweep", mode]).arg(directory).current_dir("/").process_group(0);
    command
}
