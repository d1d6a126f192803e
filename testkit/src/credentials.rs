use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// PostgreSQL's own 4,096 would be half of what a short test computes: at each login, of a client and of pgherd, and in programs
/// that are not optimised.
pub(crate) const SCRAM_ITERATIONS: u32 = 16;
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

    /// The verifier of a user's password, as `CREATE ROLE` takes it in place of the password.
    pub(crate) fn scram_verifier(&self, user: &str) -> Result<String> {
        let salt = random_bytes::<16>()?;
        let salted =
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(self.password(user).as_bytes(), &salt, SCRAM_ITERATIONS);
        let keyed = |text: &[u8]| -> Result<_> {
            Ok(Hmac::<Sha256>::new_from_slice(&salted)?.chain_update(text).finalize().into_bytes())
        };
        let stored_key = Sha256::digest(keyed(b"Client Key")?);
        let server_key = keyed(b"Server Key")?;
        let [salt, stored_key, server_key] =
            [&salt[..], &stored_key[..], &server_key[..]].map(|bytes| BASE64.encode(bytes));
        Ok(format!("SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt}${stored_key}:{server_key}"))
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
    Ok(random_bytes::<12>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random_bytes<const LEN: usize>() -> Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
