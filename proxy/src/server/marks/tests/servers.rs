//! The same with real servers, a standby that replays late, and its crash.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_failover::{Epoch, Writes};
use pgherd_health::{
    Knowledge, Node, NodeId, Password, Probe, ProbeOutcome, Prober, ProberSettings, Samples, Topology,
};
use pgherd_testkit::client::Session;
use pgherd_testkit::{Cluster, Context, Result, Server, ensure, eventually};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::server::marks::Mark;
use crate::server::marks::keeper::Keeper;

const PATIENCE: Duration = Duration::from_secs(60);
const COMMITS: usize = 1000;
const STANDBY: NodeId = NodeId(1);

/// Commits that nobody has read yet, oldest first.
type Unread = RefCell<Vec<(i64, Mark)>>;

async fn write(primary: &Server, unread: &Unread) -> Result<()> {
    let session = primary.connect("postgres", "app").await?;
    let insert = session.prepare("INSERT INTO written VALUES ($1, repeat('x', $2))").await?;
    for number in 1.. {
        let length = i32::try_from(number * 389 % 2000)?;
        session.execute(&insert, &[&number, &length]).await?;
        let mut mark = Mark::default();
        mark.wrote();
        unread.borrow_mut().push((number, mark));
    }
    Ok(())
}

/// What the probes have told.
struct Observer {
    knowledge: Knowledge,
    topology: Option<Topology>,
    keeper: Keeper,
    writes: Writes,
}

impl Observer {
    fn take(&mut self, Probe { node, asked_at, answered_at, outcome }: Probe) {
        let primary = match &outcome {
            ProbeOutcome::Answered(report) if report.is_writable() => Some(Epoch {
                system_identifier: report.system_identifier,
                timeline: report.timeline,
                primary: node,
            }),
            _ => None,
        };
        self.knowledge.observe(node, asked_at, answered_at, outcome);
        if let Some(epoch) = primary {
            self.knowledge.accept(node);
            self.writes = Writes::Open(epoch);
        }
        let topology = Topology::derive(&self.knowledge, Instant::now(), self.topology.as_ref());
        self.keeper.observe(&topology, &self.writes);
        self.topology = Some(topology);
    }

    fn take_samples(&mut self, samples: &Samples) {
        for (node, sample) in &*samples.found().borrow() {
            self.keeper.take(*node, sample);
        }
        samples.demand();
    }

    /// Takes the commits that may be read on this connection, and gives the last of them, and how many they are.
    fn take_readable(&self, unread: &Unread, opened_at: Instant) -> Option<(i64, usize)> {
        let positions = &self.keeper.positions;
        let mut unread = unread.borrow_mut();
        // Some sessions look before the others.
        unread.iter_mut().filter(|(number, _)| number % 3 == 0).for_each(|(_, mark)| mark.resolve(positions));
        let may_be_read = |(_, mark): &(i64, Mark)| positions.allows(mark, STANDBY, opened_at);
        let readable = unread.iter().take_while(|commit| may_be_read(commit)).count();
        let last = unread.drain(..readable).next_back()?;
        Some((last.0, readable))
    }
}

/// Reads on the standby whatever may be read there, until there was enough of it; the standby crashes in between.
async fn read(
    standby: &Server,
    observer: &mut Observer,
    (mut probes, samples): (mpsc::Receiver<Probe>, Samples),
    unread: &Unread,
) -> Result<()> {
    let mut session = standby.connect("postgres", "app").await?;
    let mut opened_at = Instant::now();
    let (read, crashed) = (Cell::new(0), Cell::new(false));
    while read.get() < COMMITS {
        observer.take_samples(&samples);
        match tokio::time::timeout(Duration::from_millis(10), probes.recv()).await {
            Ok(probe) => observer.take(probe.context("no probe")?),
            Err(_) => observer.take_samples(&samples),
        }
        if let Some((last, commits)) = observer.take_readable(unread, opened_at) {
            let found: i64 = session.query_one("SELECT coalesce(max(n), 0) FROM written", &[]).await?.get(0);
            ensure!(found >= last, "{found} is the last that is there, and {last} was to be");
            read.set(read.get() + commits);
        }
        if read.get() > COMMITS / 2 && !crashed.replace(read.get() > COMMITS / 2) {
            standby.stop_immediate().await?;
            standby.start().await?;
            session = standby.connect("postgres", "app").await?;
            opened_at = Instant::now();
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_may_be_read_on_a_standby_is_there() -> Result<()> {
    let cluster = Cluster::builder().servers(2).setting("recovery_min_apply_delay", "200ms").start().await?;
    let (primary, standby) = (cluster.server(1)?, cluster.server(2)?);
    primary.connect("postgres", "app").await?.batch_execute("CREATE TABLE written (n int8, t text)").await?;
    eventually("the table is there", PATIENCE, || async {
        let session: Session = standby.connect("postgres", "app").await?;
        Ok(session.batch_execute("SELECT FROM written").await.ok())
    })
    .await?;
    let node = |id, server: &Server| Node::new(NodeId(id), server.address().to_string(), server.port());
    let nodes = vec![node(0, &primary), node(1, &standby)];
    let password = Password::new(cluster.monitor_password().to_owned());
    let settings =
        ProberSettings::new("repmgr".into(), Some(password), "repmgr".into(), Duration::from_millis(100));
    let (sender, probes) = mpsc::channel(16);
    let samples = Samples::default();
    let prober = Prober::start(&nodes, &Arc::new(settings), (&sender, &samples), &CancellationToken::new());
    let mut observer = Observer {
        knowledge: Knowledge::new(nodes, None),
        topology: None,
        keeper: Keeper::default(),
        writes: Writes::Held { keep: None, quiesces: false, reason: String::new() },
    };
    let unread = Unread::default();
    tokio::select! {
        written = write(&primary, &unread) => written?,
        read = tokio::time::timeout(PATIENCE, read(&standby, &mut observer, (probes, samples), &unread)) => read??,
    }
    drop(prober);
    Ok(())
}
