//! Clients that log in, ask one query, and then only stay: what they cost in memory.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::NoTls;
use tokio_rustls::TlsConnector;

use crate::postgres::Login;
use crate::procfs::Memory;

/// Logins under way at once.
const CONCURRENT: usize = 32;
/// The request for TLS: its length, and the number that stands for a version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Clients that stay until dropped.
pub struct Crowd(Vec<Box<dyn Any + Send>>);

impl Crowd {
    /// Opens so many; over TLS if a certificate is to be trusted for it.
    ///
    /// # Errors
    /// When a client cannot log in or its query fails.
    pub async fn open(
        login: &Login,
        clients: u32,
        trusted: Option<&CertificateDer<'static>>,
    ) -> Result<Self> {
        let connector = trusted.map(connector).transpose()?;
        let (mut crowd, mut logging_in) = (Self(Vec::new()), JoinSet::new());
        let mut started = 0;
        while crowd.0.len() < clients as usize {
            while started < clients && logging_in.len() < CONCURRENT {
                logging_in.spawn(open(login.clone(), connector.clone()));
                started += 1;
            }
            let opened = logging_in.join_next().await.context("no login under way")?;
            let opened =
                opened?.with_context(|| format!("idle client {} of {clients}", crowd.0.len() + 1))?;
            crowd.0.push(opened);
        }
        // What still answers the last logins is done well before this.
        sleep(Duration::from_millis(300)).await;
        Ok(crowd)
    }
}

/// Opens the `first` idle clients, which have server connections opened and code read that all of them need, and then `clients` more; returns
/// the memory of the tree of `root` before those and after.
///
/// # Errors
/// As [`Crowd::open`].
pub async fn measure(
    login: &Login,
    (first, clients): (u32, u32),
    trusted: Option<&CertificateDer<'static>>,
    root: u32,
) -> Result<(Memory, Memory)> {
    let first = Crowd::open(login, first, trusted).await?;
    let before = Memory::of_tree(root);
    let crowd = Crowd::open(login, clients, trusted).await?;
    let after = Memory::of_tree(root);
    drop((first, crowd));
    Ok((before, after))
}

fn connector(trusted: &CertificateDer<'static>) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

async fn open(login: Login, connector: Option<TlsConnector>) -> Result<Box<dyn Any + Send>> {
    let mut stream = TcpStream::connect((login.host.as_str(), login.port)).await?;
    let Some(connector) = connector else { return log_in(login, stream).await };
    stream.write_all(&SSL_REQUEST).await?;
    ensure!(stream.read_u8().await? == b'S', "TLS was refused");
    let name = ServerName::try_from(login.host.clone())?;
    log_in(login, connector.connect(name, stream).await?).await
}

async fn log_in<S>(login: Login, stream: S) -> Result<Box<dyn Any + Send>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut config = login.config();
    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, mut connection) = config.connect_raw(stream, NoTls).await?;
    let query = client.simple_query("SELECT 1");
    // The connection ends only with an error while its client lives.
    tokio::select! {
        answer = query => answer.map(drop)?,
        ended = &mut connection => ended?,
    }
    Ok(Box::new((client, connection)))
}
