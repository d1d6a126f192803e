//! Where the configuration goes, and the passwords that it names files for.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::draft::Password;
use super::source::Fault;

/// Standard output, or a file.
pub(super) struct Output {
    path: Option<PathBuf>,
    /// Whether what is there may be overwritten.
    force: bool,
}

/// Who may read a file with a password.
const SECRET: u32 = 0o600;
/// Who may read the others: there is no password in them.
const PLAIN: u32 = 0o644;

impl Output {
    /// Standard output for `-` and for none.
    pub(super) fn new(path: Option<&Path>, force: bool) -> Result<Self, Fault> {
        let path = match path.filter(|path| *path != Path::new("-")) {
            None => None,
            Some(path) if path.file_name().is_none() => return Err(Fault::of(path, "is no name of a file")),
            Some(path) => {
                let absolute = std::path::absolute(path);
                Some(absolute.map_err(|error| Fault::of(path, format!("can't be written: {error}")))?)
            }
        };
        Ok(Self { path, force })
    }

    /// The file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// How the paths of files with passwords begin, that stand beside the file.
    pub(super) fn beside(&self) -> Option<String> {
        self.path.as_ref().map(|path| path.with_extension("").display().to_string())
    }

    /// Writes the passwords and the file, or none of them where one is there. Says what was written.
    pub(super) fn write(&self, text: &str, passwords: &[Password]) -> Result<Vec<String>, Fault> {
        let Some((path, beside)) = self.path.as_ref().zip(self.beside()) else { return Ok(Vec::new()) };
        let secret = |it: &Password| PathBuf::from(format!("{beside}.{}.password", it.name));
        let mut paths = passwords.iter().map(secret).chain([path.clone()]);
        if let Some(there) = paths.find(|path| !self.force && path.symlink_metadata().is_ok()) {
            return Err(Fault::of(&there, "is there already: --force overwrites it"));
        }
        let mut written = Vec::new();
        for password in passwords {
            let path = secret(password);
            self.put(&path, &[password.text.as_bytes(), b"\n"], SECRET)?;
            written.push(path.display().to_string());
        }
        self.put(path, &[text.as_bytes()], PLAIN)?;
        written.push(path.display().to_string());
        Ok(written)
    }

    fn put(&self, path: &Path, parts: &[&[u8]], mode: u32) -> Result<(), Fault> {
        let put = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            options.write(true).mode(mode).create_new(!self.force).create(true).truncate(self.force);
            let mut file = options.open(path)?;
            if mode == SECRET {
                // A file that was there keeps its permissions otherwise.
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            parts.iter().try_for_each(|part| file.write_all(part))
        };
        put().map_err(|error| Fault::of(path, format!("can't be written: {error}")))
    }
}
