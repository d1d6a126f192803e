//! TLS at a server, and its rules for who comes with it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::time::Duration;

use anyhow::Result;

use crate::certificates::{Authority, Identity};
use crate::server::Server;
use crate::wait::eventually;

const PATIENCE: Duration = Duration::from_secs(30);

impl Server {
    /// Has it speak TLS from now on, with this certificate; it verifies those of clients by `clients`. Called again, it takes
    /// another certificate.
    pub async fn speak_tls(&self, identity: &Identity, clients: &Authority) -> Result<()> {
        let (certificate, key) = identity.write(self.directory(), "server-tls")?;
        let authorities = clients.write(self.directory(), "client-tls")?;
        let owner = fs::metadata(self.data_directory())?;
        for path in [&certificate, &key, &authorities] {
            chown(path, Some(owner.uid()), Some(owner.gid()))?;
        }
        let settings = format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'\n",
            certificate.display(),
            key.display(),
            authorities.display()
        );
        let mut file = fs::File::options().append(true).open(self.directory().join("server.conf"))?;
        file.write_all(settings.as_bytes())?;
        self.reload_for_all().await
    }

    /// Puts these lines in the place of its `pg_hba.conf`. `postgres`, as whom testkit itself comes, must be let in without TLS.
    pub async fn set_rules(&self, lines: &str) -> Result<()> {
        fs::write(self.data_directory().join("pg_hba.conf"), lines)?;
        self.reload_for_all().await
    }

    /// Waits until whoever connects finds the configuration that there is now.
    async fn reload_for_all(&self) -> Result<()> {
        let before = self.scalar("SELECT pg_conf_load_time()").await?;
        self.reload().await?;
        eventually(format!("{} has read its configuration", self.name()), PATIENCE, || async {
            let read = self.scalar(&format!("SELECT pg_conf_load_time() > '{before}'")).await?;
            Ok((read == "t").then_some(()))
        })
        .await
    }
}
