//! Memory per idle client: how much a peer grows when clients log in, ask one query, and then only stay.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Connection, NoTls, Socket};

use crate::postgres::Login;
use crate::procfs::Memory;

/// Logins under way at once.
const CONCURRENT: usize = 32;

/// Opens `clients` idle clients and returns the memory of the tree of `root` before and after.
///
/// # Errors
/// When a client cannot log in or its query fails.
pub async fn measure(login: &Login, clients: u32, root: u32) -> Result<(Memory, Memory)> {
    let before = Memory::of_tree(root);
    let (mut idle, mut logging_in) = (Vec::new(), JoinSet::new());
    let mut started = 0;
    while idle.len() < clients as usize {
        while started < clients && logging_in.len() < CONCURRENT {
            logging_in.spawn(log_in(login.clone()));
            started += 1;
        }
        let opened = logging_in.join_next().await.context("no login under way")?;
        idle.push(opened?.with_context(|| format!("idle client {} of {clients}", idle.len() + 1))?);
    }
    // What still answers the last logins is done well before this.
    sleep(Duration::from_millis(300)).await;
    let after = Memory::of_tree(root);
    drop(idle);
    Ok((before, after))
}

type Idle = (Client, Connection<Socket, NoTlsStream>);

async fn log_in(login: Login) -> Result<Idle> {
    let (client, mut connection) = login.config().connect(NoTls).await?;
    let query = client.simple_query("SELECT 1");
    // The connection ends only with an error while its client lives.
    tokio::select! {
        answer = query => answer.map(drop)?,
        ended = &mut connection => ended?,
    }
    Ok((client, connection))
}
