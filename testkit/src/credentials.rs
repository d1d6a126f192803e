use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

/// The users that every cluster has.
const USERS: [&str; 4] = ["postgres", "repmgr", "app", "legacy"];

/// The passwords of a cluster's users: `postgres` and `repmgr` (superusers), `app` (owner of the database `app`, SCRAM) and
/// `legacy` (a verifier of md5). They are generated with the template.
#[derive(Clone)]
pub struct Credentials(BTreeMap<String, String>);

impl Credentials {
    /// The password of a user; empty for a user that testkit did not make.
    pub fn password(&self, user: &str) -> &str {
        self.0.get(user).map_or("", String::as_str)
    }

    pub(crate) fn generate() -> Result<Self> {
        USERS.iter().map(|user| Ok(((*user).to_owned(), random_password()?))).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Ok(Self(pairs.map(|(user, password)| (user.to_owned(), password.to_owned())).collect()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let lines: String = self.0.iter().map(|(user, password)| format!("{user} {password}\n")).collect();
        write_secret(path, &lines)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// Writes a file that only its owner reads.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| path.display().to_string())?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}

fn random_password() -> Result<String> {
    let mut bytes = [0; 12];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
