//! Changes of the primary: a span for each from the moment when pgherd leaves the state in which all is well until it is back there,
//! and one below it for each state in between.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::SpanData;
use pgherd_failover::actor::Control;
use pgherd_failover::{Decision, StateName};

use super::Told;
use super::spans::{Span, text};
use crate::shared::Shared;

/// A hold may be tried again for days: what comes after so many decisions is not told.
const MOST_STEPS: usize = 200;

/// Tells of changes of the primary, until the control loop ends.
pub(crate) async fn follow(control: Control, shared: Arc<Shared>) {
    let mut chronicle = control.chronicle.clone();
    let mut change = Change::default();
    loop {
        let seen = Arc::clone(&chronicle.borrow_and_update());
        // Decisions of one moment are told together.
        let known = change.known;
        for decision in seen.decisions.iter().filter(|it| known.is_none_or(|known| it.at > known)) {
            if let Some(steps) = change.take(decision)
                && shared.traces.is_on()
            {
                shared.traces.tell(Told::Change(spans(&steps, clock())));
            }
        }
        if chronicle.changed().await.is_err() {
            return;
        }
    }
}

/// A change that is under way.
#[derive(Debug, Default)]
struct Change {
    steps: Vec<Decision>,
    /// Decisions up to here are known.
    known: Option<Instant>,
}

impl Change {
    /// Takes in a decision. All that belong to a change, at its end.
    fn take(&mut self, decision: &Decision) -> Option<Vec<Decision>> {
        self.known = Some(decision.at);
        if (self.steps.is_empty() && decision.to == StateName::Steady) || self.steps.len() >= MOST_STEPS {
            self.steps.clear();
            return None;
        }
        self.steps.push(decision.clone());
        (decision.to == StateName::Steady).then(|| std::mem::take(&mut self.steps))
    }
}

/// The same moment by both clocks.
fn clock() -> impl Fn(Instant) -> SystemTime {
    let (instant, time) = (Instant::now(), SystemTime::now());
    move |at| time.checked_sub(instant.saturating_duration_since(at)).unwrap_or(time)
}

/// The spans of a change, of which these are all decisions.
fn spans(steps: &[Decision], time: impl Fn(Instant) -> SystemTime) -> Vec<SpanData> {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Vec::new() };
    let name = if first.from == StateName::Discover {
        "start"
    } else if steps.iter().any(|step| step.to == StateName::Switchover) {
        "switchover"
    } else {
        "failover"
    };
    let whole = Span {
        name: name.into(),
        kind: SpanKind::Internal,
        began: time(first.at),
        ended: time(last.at),
        attributes: vec![text("pgherd.seen", &first.seen), text("pgherd.outcome", &last.seen)],
    }
    .below(None);
    let part = |(step, next): (&Decision, &Decision)| {
        let span = Span {
            name: step.to.to_string().into(),
            kind: SpanKind::Internal,
            began: time(step.at),
            ended: time(next.at),
            attributes: vec![
                KeyValue::new("pgherd.transition", step.name),
                text("pgherd.seen", &step.seen),
                KeyValue::new("pgherd.times", i64::from(step.times)),
            ],
        };
        span.below(Some(&whole.span_context))
    };
    let parts: Vec<_> = steps.iter().zip(steps.iter().skip(1)).map(part).collect();
    [vec![whole], parts].concat()
}
