//! The data directory that every server of every cluster starts as a copy of.
//!
//! It is a primary that was stopped cleanly. A copy with `standby.signal` is a standby of another copy: both are at
//! the same checkpoint of the same timeline. All clusters from one template have the same system identifier.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::command::{POSTGRES_USER, Place, run};
use crate::credentials::{Credentials, SCRAM_ITERATIONS};
use crate::lease::base_directory;
use crate::postgres::{COMMON_CONF, HBA_CONF, SERVER_CONF};

/// To be raised when the way in which a template is made changes.
const FORMAT: u32 = 2;
const INITDB: [&str; 8] = [
    "--data-checksums",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--no-sync",
    "-U",
    "postgres",
    "-A",
    "scram-sha-256",
];
const DATABASES: &str = "CREATE DATABASE repmgr OWNER repmgr; CREATE DATABASE app OWNER app;";

/// A finished template.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) data_directory: PathBuf,
    pub(crate) credentials: Credentials,
}

impl Template {
    /// The cached template for these programs; made now if there is none.
    pub(crate) async fn cached(programs: &Path) -> Result<Self> {
        let templates = cache_directory()?;
        let directory = templates.join(key(programs).await?);
        fs::create_dir_all(&templates).with_context(|| templates.display().to_string())?;
        if !directory.exists() {
            let lock = fs::File::create(directory.with_extension("lock"))?;
            let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
            if !directory.exists() {
                // The user `postgres` may not be able to go where the cache is.
                let building = base_directory()?.join(format!("template-{}", std::process::id()));
                let made = Self::make(programs, &building).await;
                let moved = match made {
                    Ok(()) => move_directory(&building, &directory).await,
                    failed => failed,
                };
                fs::remove_dir_all(&building).with_context(|| building.display().to_string())?;
                moved?;
            }
            drop(lock);
        }
        Self::open(&directory)
    }

    /// A template with a system identifier of its own, in a directory that must not exist.
    pub(crate) async fn fresh(programs: &Path, directory: &Path) -> Result<Self> {
        Self::make(programs, directory).await?;
        Self::open(directory)
    }

    fn open(directory: &Path) -> Result<Self> {
        let credentials = Credentials::read(&directory.join("passwords"))?;
        Ok(Self { data_directory: directory.join("data"), credentials })
    }

    async fn make(programs: &Path, directory: &Path) -> Result<()> {
        if directory.exists() {
            fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        fs::create_dir_all(directory)?;
        std::os::unix::fs::chown(directory, Some(postgres_id("-u").await?), Some(postgres_id("-g").await?))?;
        let place = Place::new(directory.to_owned(), None);
        let data = directory.join("data");
        let superuser = directory.join("superuser");
        let credentials = Credentials::generate()?;
        credentials.write(&directory.join("passwords"))?;
        fs::write(&superuser, credentials.password("postgres"))?;
        let mut initdb = place.command_as_postgres(programs.join("initdb"));
        run("initdb", initdb.args(INITDB).arg("--pgdata").arg(&data).arg("--pwfile").arg(&superuser)).await?;
        fs::remove_file(&superuser)?;
        fs::write(data.join("postgresql.conf"), COMMON_CONF)?;
        fs::write(data.join("pg_hba.conf"), HBA_CONF)?;
        let socket = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\n",
            directory.display()
        );
        fs::write(directory.join(SERVER_CONF), socket)?;

        control(&place, programs, &data, "start").await?;
        let filled = fill(&place, programs, directory, &credentials).await;
        control(&place, programs, &data, "stop").await?;
        filled
    }
}

/// Where templates are kept from one run to the next: beside the programs that cargo built, so that `cargo clean` removes
/// them too. `TESTKIT_CACHE` overrides it.
fn cache_directory() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("TESTKIT_CACHE") {
        return Ok(directory.into());
    }
    let program = std::env::current_exe()?;
    let beside = program.parent().context("the program has no directory")?;
    // Tests are in `deps`.
    let built = if beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
    Ok(built.join("testkit-templates"))
}

/// Copies to a place of the same file system as the goal, so that nobody ever sees half of it.
async fn move_directory(from: &Path, to: &Path) -> Result<()> {
    let copy = to.with_extension("copy");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    run("copy of the template", Command::new("cp").arg("--archive").arg(from).arg(&copy)).await?;
    fs::rename(&copy, to).with_context(|| to.display().to_string())
}

async fn control(place: &Place, programs: &Path, data: &Path, what: &str) -> Result<()> {
    let log = data.with_file_name("log");
    let mut command = place.command_as_postgres(programs.join("pg_ctl"));
    command.arg("--pgdata").arg(data).arg("--log").arg(&log).args(["--wait", "--mode=fast", what]);
    run(&format!("template: pg_ctl {what}"), &mut command)
        .await
        .map(drop)
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())
}

async fn fill(place: &Place, programs: &Path, directory: &Path, credentials: &Credentials) -> Result<()> {
    let roles = format!(
        "ALTER ROLE postgres PASSWORD '{}';\n\
         CREATE ROLE repmgr LOGIN SUPERUSER PASSWORD '{}'; ALTER ROLE repmgr SET search_path TO repmgr, \"$user\", public;\n\
         CREATE ROLE app LOGIN PASSWORD '{}';\n\
         SET password_encryption = 'md5'; CREATE ROLE legacy LOGIN PASSWORD '{}';",
        credentials.scram_verifier("postgres")?,
        credentials.scram_verifier("repmgr")?,
        credentials.scram_verifier("app")?,
        credentials.password("legacy"),
    );
    let mut steps = vec![("postgres", roles.as_str())];
    steps.extend(DATABASES.split_inclusive(';').map(|statement| ("postgres", statement)));
    steps.push(("repmgr", "CREATE EXTENSION repmgr; CHECKPOINT;"));
    for (database, sql) in steps {
        let mut psql = place.command_as_postgres(programs.join("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"])
            .arg(directory);
        run("template: psql", psql.args(["-c", sql])).await?;
    }
    Ok(())
}

/// What a template depends on, as a name.
async fn key(programs: &Path) -> Result<String> {
    let postgres =
        run("postgres --version", Command::new(programs.join("postgres")).arg("--version")).await?;
    let repmgr = run("repmgr --version", Command::new(programs.join("repmgr")).arg("--version")).await?;
    let mut hasher = DefaultHasher::new();
    (FORMAT, SCRAM_ITERATIONS, &postgres, &repmgr, INITDB, DATABASES, COMMON_CONF, HBA_CONF)
        .hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// The numeric id (`-u`) or group id (`-g`) of the user `postgres`.
pub(crate) async fn postgres_id(which: &str) -> Result<u32> {
    let text = run("id postgres", Command::new("id").args([which, POSTGRES_USER])).await?;
    let id = text.trim().parse()?;
    ensure!(id != 0, "PostgreSQL refuses to run as root");
    Ok(id)
}
