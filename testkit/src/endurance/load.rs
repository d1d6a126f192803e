//! All clients of the long run, and what they have done together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{Client, PLAIN, WORKER};
use super::ledger::SCHEMA;
use crate::client::RawClient;
use crate::faults::Field;
use crate::server::Server;

/// What they all know.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) address: SocketAddr,
    pub(super) tls: ClientConfig,
}

/// What clients have done and seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// By name.
    pub(super) acts: BTreeMap<&'static str, u64>,
    /// ReadyForQuery that said that no transaction is open.
    pub(super) transactions: u64,
    /// Every ReadyForQuery.
    pub(super) queries: u64,
    /// Of the one client whose bytes pass as they are, to pgherd and from it.
    pub(super) bytes: (u64, u64),
    pub(super) connections: u64,
    pub(super) connections_lost: u64,
    /// Errors by SQLSTATE.
    pub(super) errors: BTreeMap<String, u64>,
    /// Answers that were not what was asked for.
    pub(super) wrong: Vec<String>,
}

impl Totals {
    pub(super) fn count(&mut self, act: &'static str) {
        *self.acts.entry(act).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        other.acts.into_iter().for_each(|(act, times)| *self.acts.entry(act).or_default() += times);
        other.errors.into_iter().for_each(|(code, times)| *self.errors.entry(code).or_default() += times);
        self.transactions += other.transactions;
        self.queries += other.queries;
        self.bytes = (self.bytes.0 + other.bytes.0, self.bytes.1 + other.bytes.1);
        self.connections += other.connections;
        self.connections_lost += other.connections_lost;
        self.wrong.extend(other.wrong);
    }

    /// How many errors clients were told, and how many connections they lost.
    pub(super) fn mishaps(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.connections_lost
    }
}

/// The clients, between two bouts.
#[derive(Debug)]
pub(super) struct Load(Mutex<Vec<Client>>);

impl Load {
    /// Makes the tables and roles. One client more does only what passes through pgherd byte by byte.
    pub(super) async fn new(field: &Field, clients: u32, seed: u64, tls: ClientConfig) -> Result<Self> {
        let primary = field.cluster.primary().await?;
        primary.query_in("app", SCHEMA).await?;
        for role in [WORKER, PLAIN] {
            let sql = format!("CREATE ROLE {role} LOGIN PASSWORD '{role}' IN ROLE app");
            primary.query_in("app", &sql).await?;
        }
        let common = Arc::new(Common { address: field.pgherd.address(), tls });
        let client = |number| Client::new(Arc::clone(&common), number, seed, number == clients);
        Ok(Self(Mutex::new((0..=clients).map(client).collect())))
    }

    /// Has all clients work so long.
    pub(super) async fn bout(self: &Arc<Self>, time: Duration, number: u64) -> Result<Totals> {
        let stop = CancellationToken::new();
        let working = Arc::clone(self).work(stop.clone(), number);
        tokio::pin!(working);
        tokio::select! {
            ended = &mut working => bail!("clients ended by themselves: {ended:?}"),
            () = tokio::time::sleep(time) => stop.cancel(),
        }
        working.await
    }

    /// Has all clients work until they are told to stop; gives what they have done meanwhile.
    pub(super) async fn work(self: Arc<Self>, stop: CancellationToken, bout: u64) -> Result<Totals> {
        let mut clients = self.0.lock().await;
        let mut running = JoinSet::new();
        for client in clients.drain(..) {
            running.spawn(client.live(stop.clone(), bout));
        }
        let mut totals = Totals::default();
        while let Some(client) = running.join_next().await {
            let mut client = client.context("a client panicked")?;
            totals.add(std::mem::take(&mut client.totals));
            clients.push(client);
        }
        Ok(totals)
    }

    /// Holds what all were told against the table; gives what is wrong.
    pub(super) async fn audit(&self, server: &Server) -> Result<Vec<String>> {
        let (mut wrong, mut all) = (Vec::new(), 0);
        for client in self.0.lock().await.iter() {
            let (of_one, rows) = client.ledger.audit(client.number, server).await?;
            wrong.extend(of_one);
            all += rows;
        }
        let (sure, unsure) = self.rows().await;
        if !(sure..=sure + unsure).contains(&all) {
            wrong.push(format!("the table has {all} rows, and not {sure} to {}", sure + unsure));
        }
        Ok(wrong)
    }

    /// Rows that must be in the table, and those that may.
    pub(super) async fn rows(&self) -> (u64, u64) {
        let clients = self.0.lock().await;
        clients.iter().map(|it| it.ledger.rows()).fold((0, 0), |all, it| (all.0 + it.0, all.1 + it.1))
    }
}

/// One more that asks for nothing but its login: a connection in the clear, or over TLS.
pub(super) async fn connect(common: &Common, user: &str, secure: bool) -> Result<RawClient> {
    let mut client = RawClient::connect(common.address).await?;
    if secure {
        // SSLRequest.
        client.send(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
        anyhow::ensure!(client.read_byte().await? == Some(b'S'), "TLS was refused");
        client = client.secure(common.tls.clone(), "localhost").await?;
    }
    client.start(user, "app", user).await?;
    Ok(client)
}
