//! The process and its listener.

use std::fmt;
use std::time::SystemTime;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::family::{Family, Subject, encode as encode_all};
use super::float;
use crate::memory;
use crate::shared::Shared;
use crate::strangers::Refused;
use crate::traces::{Fate, Traces};

pub(super) fn encode(shared: &Shared, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let info = Unit::Other("info".to_owned());
    let build = Family::gauge_in(info, "build", "The version that runs; always 1", |_| Some(1.0));
    encode_all(&[build], &[Build], encoder)?;
    encode_all(&families(), &[Process(shared)], encoder)?;
    let spans =
        Family::counter("trace_spans", "Spans of traces, by what became of them", |it: &Spans<'_>| {
            Some(float(it.traces.counted(it.fate)))
        });
    let told = if shared.traces.is_on() { &Fate::ALL[..] } else { &[] };
    let told: Vec<_> = told.iter().map(|&fate| Spans { traces: &shared.traces, fate }).collect();
    encode_all(&[spans], &told, encoder)?;
    let tasks =
        shared.vitals.tasks().into_iter().map(|(thread, tasks)| ThreadTasks(thread.to_string(), tasks));
    let family = Family::gauge(
        "tasks",
        "Tasks of a thread that have not ended: sessions, logins, probes",
        |it: &ThreadTasks| Some(float(it.1)),
    );
    encode_all(&[family], &tasks.collect::<Vec<_>>(), encoder)?;
    let refused = Family::counter(
        "logins_turned_away",
        "Connections that were refused before they had said anything",
        |it: &Away<'_>| Some(it.count as f64),
    );
    let away = Refused::ALL.map(|(why, reason)| Away { count: shared.strangers.refused(why), reason });
    encode_all(&[refused], &away, encoder)
}

/// Strangers that were not let in for one reason.
struct Away<'a> {
    count: u64,
    reason: &'a str,
}

impl Subject for Away<'_> {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        vec![("reason", self.reason)]
    }
}

struct Spans<'a> {
    traces: &'a Traces,
    fate: Fate,
}

impl Subject for Spans<'_> {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        vec![("result", self.fate.word())]
    }
}

/// The tasks of a thread, by its name.
struct ThreadTasks(String, usize);

impl Subject for ThreadTasks {
    fn labels(&self) -> Vec<(&'static str, &str)> {
        vec![("thread", self.0.as_str())]
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
        Family::gauge_in(Unit::Bytes, "resident_memory", "Resident memory of the process", |it| {
            let _ = it;
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
