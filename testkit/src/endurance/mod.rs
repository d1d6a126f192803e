//! The long run: work of every kind by many clients, while servers fail, switchovers are ordered and the configuration is read again. It is over when
//! everything adds up: what clients have counted is what pgherd has counted and what is in the tables, and pgherd is as it was before
//! they came.

mod client;
mod ledger;
mod load;
mod report;
mod state;
mod trend;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::certificates::Authority;
use crate::chance::Chance;
use crate::client::RawClient;
use crate::faults::{Field, Kind, LASTING, deal};
use crate::history::{Report, Workload};
use crate::wait::eventually;
use load::{Load, Totals};
pub use report::EnduranceReport;
use report::{Calm, Toll};
use state::State;
use trend::Trend;

/// How long it may take until pgherd is as it was.
const SETTLES_WITHIN: Duration = Duration::from_secs(90);
/// How long writes may be away before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at memory.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Connections to servers are closed when nobody has needed them for so long, so that none is left in the end.
const IDLE_TIMEOUT: &str = "1s";

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Endurance {
    /// How long faults, reloads and switchovers go on.
    pub duration: Duration,
    /// How long the same work goes on without any, before and after.
    pub calm: Duration,
    /// How many clients do all kinds of work; as many as eight more do what checks itself.
    pub clients: u32,
    /// Where chance begins.
    pub seed: u64,
}

impl Endurance {
    /// Does it all, and tells of each thing that is done to the herd.
    ///
    /// # Errors
    /// The herd does not come back to where it was, or pgherd does not.
    pub async fn run(self, tell: impl Fn(String)) -> Result<EnduranceReport> {
        let authority = Authority::new("soak")?;
        let identity = authority.server(&["localhost"])?;
        let mut field = Field::start_with(1, |cluster, pgherd| {
            let (certificate, key) = identity.write(cluster.directory(), "pgherd")?;
            Ok(pgherd
                .set("listen.tls.cert", certificate.display().to_string())
                .set("listen.tls.key", key.display().to_string())
                .set("pool.server_idle_timeout", IDLE_TIMEOUT)
                .set("pool.size", 12))
        })
        .await?;
        let load = Load::new(&field, self.clients, self.seed, authority.trusting(None)?).await?;
        let load = Arc::new(load);
        // What is kept for good is there after this.
        load.bout(self.calm, 0).await?;
        let before = State::at_rest(&field.pgherd, SETTLES_WITHIN).await.context("before")?;
        let calm_before = self.calm(&field, &load, 1).await.context("the calm before")?;
        let toll = self.storm(&mut field, &load, &tell).await?;
        let after = State::at_rest(&field.pgherd, SETTLES_WITHIN).await.context("after")?;
        let calm_after = self.calm(&field, &load, 3).await.context("the calm after")?;
        let last = State::settled_to(&field.pgherd, &before, SETTLES_WITHIN).await?;
        let wrong = load.audit(&field.cluster.primary().await?).await?;
        let mut report = EnduranceReport {
            before,
            after,
            last,
            calm: [calm_before, calm_after],
            toll,
            rows: load.rows().await,
            is_long: self.duration >= report::LONG,
            wrong,
        };
        report.judge(&field.pgherd.log());
        Ok(report)
    }

    /// The same work without faults: everything that was counted has to be the same on both sides.
    async fn calm(self, field: &Field, load: &Arc<Load>, bout: u64) -> Result<Calm> {
        let before = State::of(&field.pgherd).await?;
        let clients = load.bout(self.calm, bout).await?;
        // What is counted when a lease ends may come a moment after the answer.
        eventually("pgherd has counted what clients have", PATIENCE, || async {
            let pgherd = State::of(&field.pgherd).await?.since(&before);
            Ok((pgherd.transactions >= clients.transactions).then_some(()))
        })
        .await?;
        Ok(Calm { clients, pgherd: State::of(&field.pgherd).await?.since(&before) })
    }

    /// Faults, reloads and switchovers, one after the other.
    async fn storm(self, field: &mut Field, load: &Arc<Load>, tell: &impl Fn(String)) -> Result<Toll> {
        let password = field.cluster.credentials().password("app").to_owned();
        let checked = Workload::new(field.pgherd.address(), "app", "app", &password)
            .clients(4)
            .audited(2)
            .pause(Duration::from_millis(25));
        checked.create_table().await?;
        let before = State::of(&field.pgherd).await?;
        let running = checked.start().await?;
        let (stop, until) = (CancellationToken::new(), Instant::now() + self.duration);
        let clients = tokio::spawn(Arc::clone(load).work(stop.clone(), 2));
        let trend = tokio::spawn(Trend::watch(field.pgherd.pid().context("no pgherd")?, stop.clone()));
        let mut toll = Toll::default();
        let mut chance = Chance::new(self.seed);
        let mut kinds = deal(&LASTING, 10_000, &mut chance).into_iter();
        for number in 1_u64.. {
            let begun = Instant::now();
            let what = match number % 4 {
                // The first is a switchover, so that even the shortest run has one.
                1 => self.switch_over(field).await.map(|()| "switchover".to_owned()),
                2 => self.reload(field, number).await.map(|()| "reload".to_owned()),
                _ => {
                    let kind: Kind = kinds.next().context("no more faults")?;
                    let suffered = field.suffer(kind, &running, &mut chance).await;
                    suffered.map(|()| kind.to_string())
                }
            };
            let what = what.with_context(|| format!("{number}, seed {}", self.seed))?;
            field.make_whole().await.with_context(|| format!("{number}, {what}"))?;
            tell(format!("{number:>4}  {what}, whole again after {:.1} s", begun.elapsed().as_secs_f64()));
            *toll.done.entry(what).or_default() += 1;
            if Instant::now() >= until && number >= 2 {
                break;
            }
            sleep(Duration::from_millis(200 + chance.below(800))).await;
        }
        running.wait_acknowledged(50, PATIENCE).await?;
        stop.cancel();
        toll.clients = clients.await??;
        toll.trend = trend.await??;
        let record = running.stop().await?;
        let primary = field.cluster.primary().await?;
        toll.checked = Report::compare(&record, primary.history().await?);
        toll.wrong = checked.audit(&primary).await?;
        toll.pgherd = State::of(&field.pgherd).await?.since(&before);
        Ok(toll)
    }

    /// Another size of the pools, and back.
    async fn reload(self, field: &mut Field, number: u64) -> Result<()> {
        let size = if number.is_multiple_of(8) { 12 } else { 16 };
        field.pgherd.set("pool.size", size)?;
        let said = field.pgherd.reload().await?;
        ensure!(said.iter().any(|line| line.contains("was read again")), "{said:?}");
        Ok(())
    }

    async fn switch_over(self, field: &Field) -> Result<()> {
        let (address, password) = (field.pgherd.address(), field.cluster.monitor_password());
        eventually("a switchover", PATIENCE, || async {
            let mut console = RawClient::login(address, "repmgr", "pgherd", password).await?;
            match console.query("SWITCHOVER").await?.error() {
                Some(error) if error.message().contains("not now") => Ok(None),
                Some(error) => Err(error.into()),
                None => Ok(Some(())),
            }
        })
        .await
    }
}

/// Sums of what clients have done.
impl Totals {
    fn describe(&self) -> String {
        let acts: Vec<String> = self.acts.iter().map(|(act, times)| format!("{act} {times}")).collect();
        acts.join(", ")
    }
}
