//! What is told of the herd while something is under way: each decision and each event, as they come.

use std::sync::Arc;
use std::time::Instant;

use pgherd_failover::actor::{Chronicle, Control};
use tokio::sync::watch;

/// Tells what comes after it was made.
#[derive(Debug)]
pub(crate) struct Narrator {
    chronicle: watch::Receiver<Arc<Chronicle>>,
    decided: Instant,
    happened: Instant,
}

impl Narrator {
    /// Tells from now on.
    pub(crate) fn from_now(control: &Control) -> Self {
        let mut chronicle = control.chronicle.clone();
        chronicle.mark_unchanged();
        let now = Instant::now();
        Self { chronicle, decided: now, happened: now }
    }

    /// The next lines. Cancel-safe; never ready once the control loop has ended.
    pub(crate) async fn next(&mut self) -> Vec<String> {
        loop {
            if self.chronicle.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let lines = self.take();
            if !lines.is_empty() {
                return lines;
            }
        }
    }

    fn take(&mut self) -> Vec<String> {
        let now = Arc::clone(&self.chronicle.borrow_and_update());
        let decisions = now.decisions.iter().filter(|it| it.at > self.decided);
        let mut lines: Vec<_> = decisions.map(|it| format!("{}: {}", it.to, it.seen)).collect();
        lines.extend(now.events.iter().filter(|it| it.at > self.happened).map(|event| {
            let how = if event.successful { "" } else { " failed" };
            format!("node {}: {}{how}: {}", event.node, event.event, event.details)
        }));
        self.decided = now.decisions.last().map_or(self.decided, |it| it.at.max(self.decided));
        self.happened = now.events.last().map_or(self.happened, |it| it.at.max(self.happened));
        lines
    }
}
