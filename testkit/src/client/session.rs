use std::ops::Deref;

use anyhow::{Context, Result};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

/// A connection of tokio-postgres together with the task that drives it. It is closed when dropped.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driver: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Session {
    /// Connects without TLS.
    pub async fn connect(connection_string: &str) -> Result<Self> {
        let config: tokio_postgres::Config = connection_string.parse().context("not a connection string")?;
        let (client, connection) = config.connect(NoTls).await?;
        Ok(Self { client, driver: tokio::spawn(connection) })
    }

    /// Whether the connection has been lost.
    pub fn is_lost(&self) -> bool {
        self.client.is_closed()
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
