//! The herd that suffers, how each fault is done to it, and how it is healed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::time::{sleep, timeout};

use super::kind::{Kind, Packets, Stage};
use crate::chance::Chance;
use crate::client::RawClient;
use crate::cluster::Cluster;
use crate::history::Running;
use crate::network::{Network, Party};
use crate::pgherd::{Pgherd, PgherdBuilder};
use crate::server::Server;

/// How long writes may be away before the campaign ends.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take until all servers are back where they belong.
const WHOLE_WITHIN: Duration = Duration::from_secs(120);
/// A server that is down and that nobody works on is started after this long, as something that watches over it would.
const STARTED_AFTER: Duration = Duration::from_secs(3);
/// So many writes say that writes go on.
const SOME: usize = 60;

/// A cluster whose network can be cut, and pgherd before it.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) cluster: Cluster,
    pub(crate) pgherd: Pgherd,
}

impl Field {
    pub(crate) async fn start(synchronous: u8) -> Result<Self> {
        Self::start_with(synchronous, |_, pgherd| Ok(pgherd)).await
    }

    /// With more settings of pgherd.
    pub(crate) async fn start_with(
        synchronous: u8,
        set: impl FnOnce(&Cluster, PgherdBuilder) -> Result<PgherdBuilder>,
    ) -> Result<Self> {
        let cluster =
            Cluster::builder().network(Network::Namespaces).synchronous(synchronous).start().await?;
        let pgherd =
            Pgherd::builder(&cluster).set("failover.min_interval", "0s").set("failover.cold_grace", "2s");
        let pgherd = set(&cluster, pgherd)?.start().await?;
        pgherd.wait_log("writes are open", PATIENCE).await?;
        Ok(Self { cluster, pgherd })
    }

    /// Does it, waits until writes go on, and heals it; but for servers that are down, which [`Field::make_whole`] starts.
    pub(crate) async fn suffer(&mut self, kind: Kind, running: &Running, chance: &mut Chance) -> Result<()> {
        let primary = self.cluster.primary().await?;
        let standbys = self.cluster.standbys().await;
        let one = usize::try_from(chance.below(standbys.len().try_into()?))?;
        let standby = standbys.get(one).context("no standby")?;
        match kind {
            Kind::KillPostmaster => primary.kill9().await?,
            Kind::KillPrimary => primary.kill9_all().await?,
            Kind::StopPrimary => primary.stop_clean().await?,
            Kind::RestartPrimary => {
                primary.stop_clean().await?;
                self.launch(&primary).await?;
            }
            Kind::FreezePrimary => {
                primary.freeze().await?;
                running.wait_acknowledged(SOME, PATIENCE).await?;
                // It was killed, unless ssh came too late.
                primary.thaw().await?;
            }
            Kind::IsolatePrimary => {
                self.cluster.isolate(Party::Server(primary.id())).await?;
                running.wait_acknowledged(SOME, PATIENCE).await?;
                self.cluster.heal().await?;
            }
            Kind::PartPrimaryFromPgherd(packets) => {
                self.part(packets, Party::Proxy, &primary).await?;
                sleep(between(2000, 8000, chance)).await;
                self.cluster.heal().await?;
            }
            Kind::PartPrimaryFromStandbys(packets) => {
                for standby in &standbys {
                    self.part(packets, Party::Server(standby.id()), &primary).await?;
                }
                sleep(between(1000, 6000, chance)).await;
                self.cluster.heal().await?;
            }
            Kind::KillStandby => standby.kill9_all().await?,
            Kind::StopStandby => standby.stop_clean().await?,
            Kind::FreezeStandby => {
                standby.freeze().await?;
                sleep(between(1000, 6000, chance)).await;
                standby.thaw().await?;
            }
            Kind::IsolateStandby => {
                self.cluster.isolate(Party::Server(standby.id())).await?;
                sleep(between(1000, 6000, chance)).await;
                self.cluster.heal().await?;
            }
            Kind::PartStandbyFromPgherd => {
                self.part(Packets::All, Party::Proxy, standby).await?;
                sleep(between(1000, 6000, chance)).await;
                self.cluster.heal().await?;
            }
            Kind::KillPgherd => self.pgherd.restart().await?,
            Kind::KillPgherdIn(stage) => self.kill_pgherd(stage, &primary, chance).await?,
            Kind::KillPrimaryAndStandby => {
                tokio::try_join!(primary.kill9_all(), standby.kill9_all())?;
                sleep(between(1000, 3000, chance)).await;
                let first = if chance.below(2) == 0 { &primary } else { standby };
                self.launch(first).await?;
            }
            Kind::KillAll => self.kill_all(chance).await?,
        }
        running.wait_acknowledged(SOME, PATIENCE).await
    }

    /// Drops packets between a server and another party.
    pub(crate) async fn part(&self, packets: Packets, other: Party, server: &Server) -> Result<()> {
        let server = Party::Server(server.id());
        match packets {
            Packets::All => self.cluster.partition(other, server).await,
            Packets::There => self.cluster.cut(other, server).await,
            Packets::Back => self.cluster.cut(server, other).await,
        }
    }

    async fn kill_all(&self, chance: &mut Chance) -> Result<()> {
        let mut servers = self.cluster.servers().to_vec();
        for server in &servers {
            server.kill9_all().await?;
        }
        while !servers.is_empty() {
            sleep(between(0, 1500, chance)).await;
            let next = usize::try_from(chance.below(servers.len().try_into()?))?;
            self.launch(&servers.swap_remove(next)).await?;
        }
        Ok(())
    }

    /// Brings pgherd to a stage, kills it there, and starts it at once.
    async fn kill_pgherd(&mut self, stage: Stage, primary: &Server, chance: &mut Chance) -> Result<()> {
        let mut tail = self.pgherd.log_tail();
        let mut order = None;
        match stage {
            Stage::Hold => self.cluster.partition(Party::Proxy, Party::Server(primary.id())).await?,
            Stage::Quiesce | Stage::Stop => order = Some(tokio::spawn(self.switch_over())),
            Stage::Rejoin => {
                primary.kill9_all().await?;
                tail.wait("another primary", PATIENCE, |line| line.contains("writes are open")).await?;
                self.launch(primary).await?;
            }
            _ => primary.kill9().await?,
        }
        // A state may be over before anything else has to be done in it; then the failover is over soon.
        let passes =
            !matches!(stage, Stage::Follow | Stage::Rejoin | Stage::Hold | Stage::Quiesce | Stage::Stop);
        let is_it = |line: &str| line.contains(stage.sign()) || (passes && line.contains("to=Steady"));
        tail.wait(stage.sign(), PATIENCE, is_it).await?;
        self.pgherd.kill9().await?;
        if let Some(order) = order {
            order.abort();
        }
        self.pgherd.start().await?;
        if stage == Stage::Hold {
            sleep(between(1000, 4000, chance)).await;
            self.cluster.heal().await?;
        }
        Ok(())
    }

    /// Orders a switchover, again as long as something else is under way.
    fn switch_over(&self) -> impl Future<Output = Result<()>> + use<> {
        let (address, password) = (self.pgherd.address(), self.cluster.monitor_password().to_owned());
        async move {
            loop {
                let mut console = RawClient::login(address, "repmgr", "pgherd", &password).await?;
                match console.query("SWITCHOVER").await?.error() {
                    Some(error) if error.message().contains("not now") => {
                        sleep(Duration::from_millis(50)).await;
                    }
                    _ => return Ok(()),
                }
            }
        }
    }

    /// Starts a server; that pgherd has done so meanwhile is no error.
    async fn launch(&self, server: &Server) -> Result<()> {
        match server.launch().await {
            Err(error) if server.postmaster_pid().is_none() => Err(error),
            _ => Ok(()),
        }
    }

    /// Starts servers that stay down, and waits until one is the primary, all others stream from it, and pgherd says so too.
    pub(crate) async fn make_whole(&self) -> Result<()> {
        let deadline = Instant::now() + WHOLE_WITHIN;
        let mut down = BTreeMap::new();
        loop {
            for server in self.cluster.servers() {
                if server.is_attended() {
                    down.remove(&server.id());
                } else if down.entry(server.id()).or_insert_with(Instant::now).elapsed() > STARTED_AFTER {
                    self.launch(server).await?;
                }
            }
            let whole = timeout(Duration::from_secs(5), self.is_whole()).await;
            if matches!(whole, Ok(Ok(true))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let why = whole.map_or_else(|_| "no answer".to_owned(), |whole| format!("{whole:?}"));
                bail!("not whole again within {WHOLE_WITHIN:?} ({why})");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_whole(&self) -> Result<bool> {
        if !self.cluster.is_healthy().await? {
            return Ok(false);
        }
        let password = self.cluster.credentials().password("app");
        let mut client = RawClient::login(self.pgherd.address(), "app", "app", password).await?;
        let others = self.cluster.servers().len() - 1;
        let sees = self.pgherd.log().into_iter().rev().find(|line| line.contains("readable=["));
        let readable = sees.and_then(|line| Some(line.split_once("readable=[")?.1.split(',').count()));
        Ok(readable == Some(others) && client.query("SELECT 1").await?.error().is_none())
    }
}

/// A time by chance, in milliseconds.
pub(crate) fn between(least: u64, most: u64, chance: &mut Chance) -> Duration {
    Duration::from_millis(least + chance.below(most - least))
}
