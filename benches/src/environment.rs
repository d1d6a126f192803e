//! What a run stands on: installed programs, a scratch directory, a loopback address of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Resource, getrlimit, getuid, setrlimit};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

/// PostgreSQL's port on the address of the run; peers have ports of their own.
pub const POSTGRES_PORT: u16 = 5432;

/// Where a run keeps its files and listens.
#[derive(Debug)]
pub struct Environment {
    /// The loopback address of every server of the run.
    pub address: Ipv4Addr,
    /// PostgreSQL's programs.
    pub pg_bindir: PathBuf,
    /// The certificate for this address that peers show.
    pub certificate: CertificateDer<'static>,
    /// That certificate, and its private key, in PEM. No secret: it is gone with the run.
    pub tls: [String; 2],
    /// The installed pgbouncer can carry prepared statements from one server connection to another.
    pub carries_statements: bool,
    scratch: TempDir,
}

impl Environment {
    /// Makes the scratch directory, finds PostgreSQL and a free address, and lifts the limit of open files.
    ///
    /// # Errors
    /// When PostgreSQL's server or pgbench is not installed, or no address is free.
    pub fn new(pg_bindir: Option<&Path>) -> Result<Self> {
        let pg_bindir = match pg_bindir {
            Some(given) => given.to_owned(),
            None => newest_postgres().context("no PostgreSQL under /usr/lib/postgresql: see --pg-bindir")?,
        };
        for program in ["initdb", "postgres", "pgbench"] {
            ensure!(pg_bindir.join(program).is_file(), "no {program} in {}", pg_bindir.display());
        }
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).context("lift the limit of open files")?;
        let scratch = tempfile::Builder::new().prefix("pgherd-bench-").tempdir()?;
        // Other users' servers keep their directories in here.
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
        let address = free_address()?;
        let made = rcgen::generate_simple_self_signed([address.to_string()])?;
        let certificate = made.cert.der().clone();
        let tls = [pem("CERTIFICATE", &certificate), pem("PRIVATE KEY", &made.signing_key.serialize_der())];
        let pgbouncer = find_program("pgbouncer").map(|program| version(&program, "--version"));
        let carries_statements = pgbouncer.is_some_and(|version| carries_statements(&version));
        Ok(Self { address, pg_bindir, certificate, tls, carries_statements, scratch })
    }

    /// The scratch directory, removed at the end.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Makes (anew) a directory for one server, with these files in it, readable by its owner alone.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn directory(&self, name: &str, files: &[(&str, String)]) -> Result<PathBuf> {
        let directory = self.scratch().join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
        }
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        for (file, text) in files {
            let path = directory.join(file);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            // Private keys are not taken from files that others may read.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(directory)
    }
}

/// Gives a directory to `postgres`, when this program is run by root.
///
/// # Errors
/// When there is no such user.
pub fn give_to_postgres(directory: &Path) -> Result<()> {
    if getuid().is_root() {
        let status = Command::new("chown").args(["-R", "postgres:"]).arg(directory).status()?;
        ensure!(status.success(), "chown -R postgres: {} ended with {status}", directory.display());
    }
    Ok(())
}

/// The full path of an installed program.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// What `program --version` says first.
#[must_use]
pub fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return "unknown".to_owned() };
    // pgpool says it on its error output.
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
}

/// True for a pgbouncer of 1.21 or later, by what it says of its version.
#[must_use]
pub fn carries_statements(version: &str) -> bool {
    let numbers = version.split_whitespace().last().unwrap_or_default();
    let mut numbers = numbers.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(1), Some(21))
}

/// A secret for the users of the run's PostgreSQL, which any local user could reach.
///
/// # Errors
/// When the kernel's random source cannot be read.
pub fn random_password() -> Result<String> {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// See RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let number = |name: &std::ffi::OsStr| name.to_str()?.parse::<u32>().ok();
    let versions = versions.filter_map(|entry| Some((number(&entry.file_name())?, entry.path().join("bin"))));
    versions.filter(|(_, bin)| bin.join("pgbench").is_file()).max().map(|(_, bin)| bin)
}

/// An address of 127.0.0.0/8 where nothing listens on PostgreSQL's port; where to look first depends on the process id,
/// so that runs side by side do not race for one.
fn free_address() -> Result<Ipv4Addr> {
    let start = std::process::id();
    for step in 0..2000 {
        let [.., third, fourth] = (start + step).wrapping_mul(7).to_be_bytes();
        let address = Ipv4Addr::new(127, 0, 128 | third, fourth.clamp(1, 254));
        if TcpListener::bind((address, POSTGRES_PORT)).is_ok() {
            return Ok(address);
        }
    }
    bail!("no address of 127.0.128.0/17 has port {POSTGRES_PORT} free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepared_statements_are_carried_since_1_21() {
        for (version, carries) in [
            ("PgBouncer 1.18.0", false),
            ("PgBouncer 1.21.0", true),
            ("PgBouncer 1.25.2", true),
            ("PgBouncer 2.0", true),
            ("unknown", false),
        ] {
            assert_eq!(carries_statements(version), carries, "{version}");
        }
    }
}
