//! The task that asks one server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, warn};

use super::connection::{ConnectFailure, Session, connect};
use super::questions::{Memory, Questions};
use super::{Asked, Probe, ProberSettings, Sample, Samples};
use crate::{Node, ProbeOutcome};

/// Connections that are closed at once are tried again this often within one probe: a postmaster that is being killed
/// may still have accepted one.
const ATTEMPTS: u32 = 3;
const PAUSE_BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);
/// However many clients complain, a server is not asked more often than this.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);

const STARTING_OR_STOPPING: &str = "57P03";
const ADMIN_SHUTDOWN: &str = "57P01";
const CRASH_SHUTDOWN: &str = "57P02";
const INSUFFICIENT_RESOURCES: &str = "53000";

pub(super) struct Server {
    node: Node,
    settings: Arc<ProberSettings>,
    demand: Arc<Notify>,
    interval: watch::Receiver<Duration>,
    samples: Samples,
    sample_demands: watch::Receiver<u64>,
    kept: Option<Kept>,
    memory: Memory,
    /// A kept connection ended with 57P01 and nothing has answered since: 57P03 now means "stopping".
    told_of_shutdown: bool,
    login_due: Instant,
}

struct Kept {
    session: Session,
    questions: Questions,
    /// What the last probe over it has told.
    told: Option<Asked>,
}

impl Server {
    pub(super) fn new(
        node: Node,
        settings: Arc<ProberSettings>,
        (demand, interval, samples): (Arc<Notify>, watch::Receiver<Duration>, &Samples),
    ) -> Self {
        let login_due = Instant::now() + settings.login_interval;
        Self {
            node,
            settings,
            demand,
            interval,
            samples: samples.clone(),
            sample_demands: samples.demands(),
            kept: None,
            memory: Memory::default(),
            told_of_shutdown: false,
            login_due,
        }
    }

    /// Asks until nobody wants to know any more.
    pub(super) async fn run(mut self, probes: mpsc::Sender<Probe>) {
        loop {
            let asked_at = Instant::now();
            let outcome = self.probe(asked_at).await;
            debug!(node = %self.node, ?outcome, "probed");
            let probe = Probe { node: self.node.id, asked_at, answered_at: Instant::now(), outcome };
            if probes.send(probe).await.is_err() {
                return;
            }
            sleep_until((asked_at + SHORTEST_INTERVAL).into()).await;
            if !self.wait(asked_at).await {
                return;
            }
        }
    }

    /// Waits for whatever calls for the next probe; false when the prober itself is gone.
    async fn wait(&mut self, asked_at: Instant) -> bool {
        loop {
            let next = asked_at + *self.interval.borrow_and_update();
            // Cancel safety: each branch only waits; what it reports stays to be seen by the probe that follows.
            let changed = tokio::select! {
                () = sleep_until(next.into()) => None,
                () = self.demand.notified() => None,
                () = lost(&mut self.kept, &mut self.told_of_shutdown) => None,
                changed = self.interval.changed() => Some(changed),
                // Whoever demands may be gone before the prober.
                Ok(()) = self.sample_demands.changed() => Some(self.sample(next).await),
            };
            match changed {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(())) => {}
            }
        }
    }

    /// Asks for the position alone, unless the next probe comes first.
    async fn sample(&mut self, next: Instant) -> Result<(), watch::error::RecvError> {
        let Some(Kept { session, questions, told: Some(asked) }) = &self.kept else { return Ok(()) };
        let asked_at = Instant::now();
        // Cancel safety: what has come for the next probe stays to be seen, and an answer that is not waited for is dropped.
        tokio::select! {
            biased;
            () = self.demand.notified() => self.demand.notify_one(),
            changed = self.interval.changed() => return changed,
            () = sleep_until(next.into()) => {}
            found = questions.sample(session.client(), asked) => {
                if let Ok(Some(lsn)) = found {
                    self.samples.tell(self.node.id, Sample { asked: *asked, asked_at, lsn });
                }
            }
        }
        Ok(())
    }

    async fn probe(&mut self, asked_at: Instant) -> ProbeOutcome {
        let deadline = asked_at + self.settings.timeout;
        let outcome = match timeout_at(deadline.into(), self.ask()).await {
            Ok(ProbeOutcome::Answered(report)) => {
                self.told_of_shutdown = false;
                self.fresh_login().await.unwrap_or(ProbeOutcome::Answered(report))
            }
            Ok(outcome) => outcome,
            Err(_) => ProbeOutcome::TimedOut,
        };
        if !matches!(outcome, ProbeOutcome::Answered(_)) {
            // The name may mean another address by now, and a smart shutdown waits for this connection to end.
            self.kept = None;
        }
        if matches!(outcome, ProbeOutcome::Refused(_)) {
            self.told_of_shutdown = false;
        }
        outcome
    }

    /// Over the kept connection, or over a new one where that is gone: its end alone says nothing of the server.
    async fn ask(&mut self) -> ProbeOutcome {
        let mut failure = ConnectFailure::Lost(String::new());
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(PAUSE_BETWEEN_ATTEMPTS).await;
            }
            let mut kept = match self.kept.take() {
                Some(kept) => kept,
                None => match self.open().await {
                    Ok(kept) => kept,
                    Err(lost @ ConnectFailure::Lost(_)) => {
                        failure = lost;
                        continue;
                    }
                    Err(failure) => return self.outcome_of(failure),
                },
            };
            match kept.questions.ask(kept.session.client(), &self.node, &mut self.memory).await {
                Ok(report) => {
                    kept.told = Some(Asked::of(&report));
                    self.kept = Some(kept);
                    return ProbeOutcome::Answered(Box::new(report));
                }
                Err(reason) => failure = reason,
            }
            if kept.session.is_closed()
                && let Some(reason) = kept.session.closed().await
            {
                failure = reason;
            }
            note(&failure, &mut self.told_of_shutdown);
        }
        self.outcome_of(failure)
    }

    async fn open(&self) -> Result<Kept, ConnectFailure> {
        let session = connect(&self.node, &self.settings).await?;
        let questions = Questions::prepare(session.client(), self.settings.timeout).await?;
        Ok(Kept { session, questions, told: None })
    }

    /// Tries a new login when one is due; the outcome that outweighs the kept connection's answer, if it failed.
    async fn fresh_login(&mut self) -> Option<ProbeOutcome> {
        if Instant::now() < self.login_due {
            return None;
        }
        let attempt = async {
            connect(&self.node, &self.settings).await?.close().await;
            Ok(())
        };
        let outcome = match timeout(self.settings.timeout, attempt).await {
            Ok(Ok(())) => None,
            Ok(Err(ConnectFailure::Rejected { sqlstate, .. })) if sqlstate == STARTING_OR_STOPPING => {
                // A server that starts keeps no connection: this one is in a smart shutdown.
                Some(ProbeOutcome::ShuttingDown)
            }
            Ok(Err(failure @ (ConnectFailure::Rejected { .. } | ConnectFailure::NoMeans(_)))) => {
                warn!(node = %self.node, %failure, "there are no new logins; the kept connection goes on");
                None
            }
            Ok(Err(ConnectFailure::Refused(why) | ConnectFailure::Lost(why))) => {
                Some(ProbeOutcome::Refused(why))
            }
            Err(_) => Some(ProbeOutcome::TimedOut),
        };
        if outcome.is_none() {
            self.login_due = Instant::now() + self.settings.login_interval;
        }
        outcome
    }

    fn outcome_of(&self, failure: ConnectFailure) -> ProbeOutcome {
        match failure {
            ConnectFailure::Refused(why) => ProbeOutcome::Refused(why),
            failure @ ConnectFailure::NoMeans(_) => ProbeOutcome::Unwilling {
                sqlstate: INSUFFICIENT_RESOURCES.to_owned(),
                message: failure.to_string(),
            },
            ConnectFailure::Lost(why) => {
                ProbeOutcome::Refused(format!("every connection was closed at once: {why}"))
            }
            ConnectFailure::Rejected { sqlstate, message } => match sqlstate.as_str() {
                ADMIN_SHUTDOWN => ProbeOutcome::ShuttingDown,
                CRASH_SHUTDOWN => ProbeOutcome::StartingUp,
                // Both have the same SQLSTATE; the message tells them apart where it is not translated.
                STARTING_OR_STOPPING if self.told_of_shutdown || message.contains("shutting down") => {
                    ProbeOutcome::ShuttingDown
                }
                STARTING_OR_STOPPING => ProbeOutcome::StartingUp,
                _ => ProbeOutcome::Unwilling { sqlstate, message },
            },
        }
    }
}

/// Ends when the kept connection has been lost; never, where there is none.
async fn lost(kept: &mut Option<Kept>, told_of_shutdown: &mut bool) {
    let Some(connection) = kept else { return std::future::pending().await };
    if let Some(reason) = connection.session.closed().await {
        note(&reason, told_of_shutdown);
    }
    *kept = None;
}

fn note(reason: &ConnectFailure, told_of_shutdown: &mut bool) {
    if let ConnectFailure::Rejected { sqlstate, .. } = reason {
        match sqlstate.as_str() {
            ADMIN_SHUTDOWN => *told_of_shutdown = true,
            CRASH_SHUTDOWN => *told_of_shutdown = false,
            _ => {}
        }
    }
}
