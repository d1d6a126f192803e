//! Two equal databases, one of which is behind pgherd, and what is done in both.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

use super::end::{End, Heard, Told};
use super::explained::explanation;
use super::message::{Message, shortened};
use super::mode::Mode;
use super::sequence::{Sequence, Step, Then};
use super::texts::{AGAIN, STATE, USER, WORLD};
use crate::client::Session;
use crate::cluster::Cluster;
use crate::pgherd::Pgherd;
use crate::server::Server;
use crate::wait::eventually;

/// How long a pgherd may take to find its servers, and servers to be done, on a machine that has much else to do.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// How long pgherd may take for what PostgreSQL has said already.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whether nothing of a session is left that the next could meet.
const QUIET: &str = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = 'legacy' \
    AND state <> 'idle') AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND database = \
    (SELECT oid FROM pg_database WHERE datname = current_database()))";
const POSITION: &str = "SELECT pg_current_wal_insert_lsn()";
const SLEEPS: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep')";

/// Two databases of the same content: PostgreSQL's alone, and that behind a pgherd.
#[derive(Debug)]
pub(super) struct World {
    name: String,
    password: String,
    direct: Place,
    behind: Place,
    standby: Option<Server>,
    pgherd: Pgherd,
    fresh: String,
}

/// One of the two.
#[derive(Debug)]
struct Place {
    /// Where clients connect to.
    address: SocketAddr,
    /// The superuser, past pgherd.
    superuser: Session,
    /// The same at a standby that answers some.
    standby: Option<Session>,
}

/// A sequence that was not answered alike.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub(super) what: String,
    /// Why it is so, if that is known.
    pub(super) why: Option<&'static str>,
}

impl Difference {
    const fn unknown(what: String) -> Self {
        Self { what, why: None }
    }
}

/// The ends of one client: PostgreSQL's and pgherd's.
type Both = (End, End);

impl World {
    /// Makes the databases, and starts a pgherd before one of them.
    pub(super) async fn make(alone: &Cluster, herd: &Cluster, mode: Mode) -> Result<Self> {
        let name = format!("differential_{mode}");
        let mut settings = Pgherd::builder(herd);
        for (key, value) in mode.settings() {
            settings = settings.set(key, value);
        }
        let pgherd = settings.start().await?;
        pgherd.wait_log("writes are open", SETTLES_WITHIN).await?;
        let server = alone.server(1)?;
        let address = SocketAddr::from((server.address(), server.port()));
        let primary = herd.server(1)?;
        let standby = if herd.servers().len() > 1 { Some(herd.server(2)?) } else { None };
        let mut world = Self {
            password: herd.credentials().password(USER).to_owned(),
            direct: Place::make(&server, None, &name, address).await?,
            behind: Place::make(&primary, standby.as_ref(), &name, pgherd.address()).await?,
            name,
            standby,
            pgherd,
            fresh: String::new(),
        };
        world.fresh = world.direct.says(STATE).await?;
        let same = world.behind.says(STATE).await?;
        ensure!(world.fresh == same, "the databases differ: {} and {same}", world.fresh);
        world.wait_replayed().await?;
        Ok(world)
    }

    /// Whether pgherd is as it should be.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.pgherd.pid().is_some(), "pgherd does not run");
        ensure!(!self.pgherd.log().iter().any(|line| line.contains("panicked")), "pgherd panicked");
        Ok(())
    }

    /// Does it in both databases; what was different.
    pub(super) async fn tell(&self, sequence: &Sequence) -> Result<Option<Difference>> {
        let mut clients = Vec::new();
        for life in &sequence.clients {
            let direct = End::login(self.direct.address, &self.name, &self.password, &life.startup);
            let behind = End::login(self.behind.address, &self.name, &self.password, &life.startup);
            let (direct, behind) = tokio::join!(direct, behind);
            clients.push((direct.context("PostgreSQL")?, behind.context("pgherd")?));
        }
        let mut late = false;
        for (number, step) in sequence.steps.iter().enumerate() {
            let both = clients.get_mut(step.client).context("a client")?;
            late |= !self.take(step, number, both).await?;
            if late {
                break;
            }
        }
        for (life, both) in sequence.clients.iter().zip(&mut clients) {
            if !late {
                leave(both, life.terminates).await;
            }
        }
        let told: Vec<(Told, Told)> =
            clients.into_iter().map(|(direct, behind)| (direct.told, behind.told)).collect();
        let kept = self.settle().await?;
        Ok(difference(&told, sequence.is_pipelined()).or(kept))
    }

    /// One step on both sides; whether pgherd has said as much as PostgreSQL.
    async fn take(&self, step: &Step, number: usize, both: &mut Both) -> Result<bool> {
        let (direct, behind) = both;
        if direct.told.closed {
            return Ok(true);
        }
        // Not always at the end of a message.
        let cut = if number.is_multiple_of(3) { 7 * number } else { usize::MAX };
        tokio::join!(direct.send(&step.messages, cut), behind.send(&step.messages, cut));
        if step.then == Then::GoesOn || !step.is_answered() {
            return Ok(true);
        }
        if step.then == Then::Cancels && self.direct.wait_asleep(direct).await? {
            direct.cancel().await?;
            if self.behind.wait_asleep(behind).await? {
                behind.cancel().await?;
            }
        }
        direct.settle().await;
        Ok(follow(direct, behind).await)
    }

    /// Waits until nothing goes on any more, compares what is in the databases, and makes them as they were.
    async fn settle(&self) -> Result<Option<Difference>> {
        for place in [&self.direct, &self.behind] {
            let quiet = || async { Ok((place.says(QUIET).await? == "t").then_some(())) };
            eventually(format!("nobody is at work in {}", self.name), SETTLES_WITHIN, quiet).await?;
        }
        let (direct, behind) = (self.direct.says(STATE).await?, self.behind.says(STATE).await?);
        for (place, state) in [(&self.direct, &direct), (&self.behind, &behind)] {
            if *state != self.fresh {
                place.superuser.batch_execute(AGAIN).await?;
            }
        }
        if behind != self.fresh {
            self.wait_replayed().await?;
        }
        let differs = || {
            Difference::unknown(format!(
                "in the database is:\n    PostgreSQL {direct}\n    pgherd     {behind}"
            ))
        };
        Ok((direct != behind).then(differs))
    }

    async fn wait_replayed(&self) -> Result<()> {
        let Some(standby) = &self.standby else { return Ok(()) };
        let position = self.behind.says(POSITION).await?;
        standby.wait_replayed(&position).await
    }
}

impl Place {
    async fn make(
        server: &Server,
        standby: Option<&Server>,
        name: &str,
        address: SocketAddr,
    ) -> Result<Self> {
        server.query(&format!("CREATE DATABASE {name} OWNER {USER}")).await?;
        let superuser = server.connect("postgres", name).await?;
        superuser.batch_execute(WORLD).await?;
        let standby = match standby {
            Some(standby) => {
                let position = first(&superuser, POSITION).await?;
                standby.wait_replayed(&position).await?;
                Some(standby.connect("postgres", name).await?)
            }
            None => None,
        };
        Ok(Self { address, superuser, standby })
    }

    /// The first value that a text gives.
    async fn says(&self, text: &str) -> Result<String> {
        first(&self.superuser, text).await
    }

    /// Whether a statement of a client sleeps.
    async fn sleeps(&self) -> Result<bool> {
        let beside = match &self.standby {
            Some(standby) => first(standby, SLEEPS).await? == "t",
            None => false,
        };
        Ok(beside || self.says(SLEEPS).await? == "t")
    }

    /// Waits until the client's statement sleeps; nothing if all has been said before.
    async fn wait_asleep(&self, end: &mut End) -> Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        while !end.is_settled() && Instant::now() < deadline {
            if end.hear(Duration::from_millis(2)).await == Heard::Nothing && self.sleeps().await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

async fn first(session: &Session, text: &str) -> Result<String> {
    let rows = session.simple_query(text).await?;
    let value = rows.iter().find_map(|row| match row {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(value.unwrap_or_default())
}

/// Reads from pgherd as much as PostgreSQL has said; whether that came.
async fn follow(direct: &End, behind: &mut End) -> bool {
    while !behind.told.closed
        && (behind.told.messages.len() < direct.told.messages.len() || direct.told.closed)
    {
        if behind.hear(PATIENCE).await == Heard::Nothing {
            return false;
        }
    }
    true
}

/// The end of a client's life.
async fn leave(both: &mut Both, terminates: bool) {
    let (direct, behind) = both;
    let sync = [Message::Sync];
    if !direct.told.closed {
        // PostgreSQL tells who leaves in the midst of a COPY that this is an error, though nobody listens any more.
        if direct.is_copying() {
            let fails = [Message::CopyFail("the end")];
            tokio::join!(direct.send(&fails, usize::MAX), behind.send(&fails, usize::MAX));
        }
        tokio::join!(direct.send(&sync, usize::MAX), behind.send(&sync, usize::MAX));
        direct.settle().await;
        if !follow(direct, behind).await {
            return;
        }
    }
    // One that has lost its way through the connections is here by now.
    let deadline = Instant::now() + Duration::from_secs(2);
    while behind.told.notifications.len() < direct.told.notifications.len() && Instant::now() < deadline {
        behind.hear(Duration::from_millis(100)).await;
    }
    if terminates {
        tokio::join!(direct.terminate(), behind.terminate());
        tokio::join!(direct.hear_the_end(PATIENCE), behind.hear_the_end(PATIENCE));
    }
}

fn difference(told: &[(Told, Told)], pipelined: bool) -> Option<Difference> {
    told.iter().enumerate().find_map(|(number, (direct, behind))| {
        let lists = [
            ("message", &direct.messages, &behind.messages),
            ("notification", &direct.notifications, &behind.notifications),
        ];
        let first = lists.into_iter().find_map(|(what, direct, behind)| {
            let at =
                (0..direct.len().max(behind.len())).find(|at| !is_same(direct.get(*at), behind.get(*at)))?;
            Some((what, at, direct.get(at..), behind.get(at..)))
        });
        if let Some((what, at, direct, behind)) = first {
            let (direct, behind) = (direct.unwrap_or_default(), behind.unwrap_or_default());
            let why = (what == "message").then(|| explanation(direct, behind, pipelined)).flatten();
            let (direct, behind) = (listed(direct), listed(behind));
            let what =
                format!("client {number}, {what} {at}:\n    PostgreSQL {direct}\n    pgherd     {behind}");
            return Some(Difference { what, why });
        }
        if direct.strict && direct.parameters != behind.parameters {
            let (direct, behind) = (&direct.parameters, &behind.parameters);
            return Some(Difference::unknown(format!(
                "client {number}, parameters:\n    PostgreSQL {direct:?}\n    pgherd     {behind:?}"
            )));
        }
        let closed = (direct.closed != behind.closed).then(|| {
            format!("client {number}: closed by PostgreSQL {}, by pgherd {}", direct.closed, behind.closed)
        });
        closed.map(Difference::unknown)
    })
}

/// An error of pgherd's own does not say where in PostgreSQL's source it was raised.
fn is_same(direct: Option<&String>, behind: Option<&String>) -> bool {
    let (Some(direct), Some(behind)) = (direct, behind) else { return direct == behind };
    let end = behind.strip_suffix("\\x00\\x00").unwrap_or(behind);
    direct == behind
        || direct.strip_prefix(end).is_some_and(|rest| rest.starts_with("\\x00F") && behind.starts_with("E "))
}

fn listed(messages: &[String]) -> String {
    if messages.is_empty() {
        return "nothing".to_owned();
    }
    messages.iter().take(3).map(|message| shortened(message)).collect::<Vec<_>>().join(", ")
}
