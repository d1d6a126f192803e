//! The process and its listener.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::family::{Family, Subject, encode as encode_all};
use super::float;
use crate::memory;
use crate::shared::Shared;
use crate::strangers::Refused;
use crate::traces::Fate;

pub(super) fn encode(shared: &Shared, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let info = Unit::Other("info".to_owned());
    let build = Family::gauge_in(info, "build", "The version that runs; always 1", |_| Some(1.0));
    encode_all(&[build], &[Build], encoder)?;
    encode_all(&families(), &[Process(shared)], encoder)?;
    let spans = shared.traces.is_on().then_some(Fate::ALL).into_iter().flatten();
    let spans = spans.map(|fate| Part::new("result", fate.word(), float(shared.traces.counted(fate))));
    let family = Family::counter("trace_spans", "Spans of traces, by what became of them", Part::count);
    encode_all(&[family], &spans.collect::<Vec<_>>(), encoder)?;
    let tasks = shared.vitals.tasks().into_iter();
    let tasks = tasks.map(|(thread, tasks)| Part::new("thread", thread.to_string(), float(tasks)));
    let help = "Tasks of a thread that have not ended: sessions, logins, probes";
    encode_all(&[Family::gauge("tasks", help, Part::count)], &tasks.collect::<Vec<_>>(), encoder)?;
    let away =
        Refused::ALL.map(|(why, reason)| Part::new("reason", reason, shared.strangers.refused(why) as f64));
    let help = "Connections that were refused before they had said anything";
    encode_all(&[Family::counter("logins_turned_away", help, Part::count)], &away, encoder)
}

/// How much of something comes under one label.
struct Part {
    label: &'static str,
    value: Cow<'static, str>,
    count: f64,
}

impl Part {
    fn new(label: &'static str, value: impl Into<Cow<'static, str>>, count: f64) -> Self {
        Self { label, value: value.into(), count }
    }

    #[expect(clippy::unnecessary_wraps, reason = "other metrics have no value now and then")]
    const fn count(&self) -> Option<f64> {
        Some(self.count)
    }
}

impl Subject for Part {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        vec![(self.label, &self.value)]
    }
}

struct Build;

impl Subject for Build {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        vec![("version", env!("CARGO_PKG_VERSION"))]
    }
}

struct Process<'a>(&'a Shared);

impl Subject for Process<'_> {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

fn families<'a>() -> [Family<Process<'a>>; 10] {
    [
        Family::gauge_in(Unit::Seconds, "uptime", "How long the process has run", |it| {
            Some(it.0.epoch.elapsed().as_secs_f64())
        }),
        Family::gauge("clients", "Clients that are logged in, consoles too", |it| {
            Some(float(it.0.roster.len()))
        }),
        Family::gauge("clients_max", "The most clients: pool.max_clients", |it| {
            Some(float(it.0.config.load().pool.max_clients))
        }),
        Family::gauge("clients_logging_in", "Connections whose clients have not logged in yet", |it| {
            Some(float(it.0.strangers.count()))
        }),
        Family::gauge_in(Unit::Bytes, "resident_memory", "Resident memory of the process", |_| {
            memory::resident().map(|bytes| bytes as f64)
        }),
        Family::gauge_in(Unit::Bytes, "memory_limit", "memory.limit", |it| {
            it.0.config.load().memory_limit.map(|bytes| bytes as f64)
        }),
        Family::gauge("clients_waiting_for_primary", "Clients that wait until there is a primary", |it| {
            Some(float(it.0.waiting.count()))
        }),
        Family::counter("session_panics", "Sessions that have ended by a defect of pgherd", |it| {
            Some(it.0.vitals.panics() as f64)
        }),
        Family::gauge(
            "threads_stuck",
            "Threads that have not turned for five seconds: a defect of pgherd",
            |it| Some(float(it.0.vitals.stuck().len())),
        ),
        Family::gauge_in(
            Unit::Seconds,
            "tls_certificate_expiry_timestamp",
            "When the first of the certificates that clients are shown expires, in seconds since 1970",
            |it| {
                let since = it.0.tls.expires_at()?.duration_since(SystemTime::UNIX_EPOCH);
                Some(since.unwrap_or_default().as_secs_f64())
            },
        ),
    ]
}
