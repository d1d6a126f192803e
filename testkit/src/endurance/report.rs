//! What came of the long run, and what of it is not as it should be.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::load::Totals;
use super::state::State;
use super::trend::Trend;
use crate::history::Report;

/// From this on the second half is long enough for a trend of memory.
pub(super) const LONG: Duration = Duration::from_secs(600);
/// More than this, in KiB a minute, and more than three times its standard error, is a leak: 5 MiB in a day.
const SLOPE: f64 = 4.0;
/// What clients may be told while servers fail.
const KNOWN: [&str; 6] = ["40001", "25P02", "08007", "57P03", "57P01", "53300"];

/// A bout without faults, as both sides have counted it.
#[derive(Clone, Debug)]
pub(super) struct Calm {
    pub(super) clients: Totals,
    pub(super) pgherd: State,
}

/// The time with faults.
#[derive(Clone, Debug, Default)]
pub(super) struct Toll {
    /// What was done to the herd, and how often.
    pub(super) done: BTreeMap<String, u64>,
    pub(super) clients: Totals,
    pub(super) pgherd: State,
    pub(super) checked: Report,
    pub(super) wrong: Vec<String>,
    pub(super) trend: Trend,
}

/// What came of it all.
#[derive(Clone, Debug)]
pub struct EnduranceReport {
    pub(super) before: State,
    pub(super) after: State,
    pub(super) last: State,
    pub(super) calm: [Calm; 2],
    pub(super) toll: Toll,
    /// Rows that must be there, and those that may.
    pub(super) rows: (u64, u64),
    pub(super) is_long: bool,
    /// What must not be.
    pub wrong: Vec<String>,
}

impl EnduranceReport {
    /// Finds what must not be; `log` is pgherd's.
    pub(super) fn judge(&mut self, log: &[String]) {
        let mut wrong = std::mem::take(&mut self.wrong);
        for calm in &self.calm {
            wrong.extend(calm.differences());
        }
        wrong.extend(self.toll.differences());
        let (slope, error) = self.toll.trend.slope();
        if self.is_long && slope > SLOPE && slope > 3.0 * error {
            wrong.push(format!("memory grows: {}", self.toll.trend));
        }
        if self.toll.pgherd.read_on_standbys == 0 {
            wrong.push("nothing was read on standbys".to_owned());
        }
        let panicked =
            log.iter().filter(|line| line.contains("panicked") || line.contains("a defect of pgherd"));
        wrong.extend(panicked.cloned());
        self.wrong = wrong;
    }
}

impl Calm {
    fn differences(&self) -> Vec<String> {
        let Self { clients, pgherd } = self;
        let mut wrong = clients.wrong.clone();
        let counted = [
            ("transactions", clients.transactions, pgherd.transactions),
            ("queries", clients.queries, pgherd.queries),
            ("bytes to pgherd", clients.bytes.0, pgherd.received),
            ("bytes from servers", clients.bytes.1, pgherd.sent),
        ];
        let differs = counted.iter().filter(|(_, clients, pgherd)| clients != pgherd);
        wrong.extend(differs.map(|(what, clients, pgherd)| {
            format!("{what}: clients have counted {clients}, and pgherd {pgherd}, without any fault")
        }));
        if clients.mishaps() > 0 {
            wrong.push(format!("without any fault: {:?}, {} lost", clients.errors, clients.connections_lost));
        }
        wrong
    }
}

impl Toll {
    /// An answer that a server gave, or was about to give, when it was lost may be counted on one side only.
    fn differences(&self) -> Vec<String> {
        let Self { clients, pgherd, checked, .. } = self;
        let mut wrong = self.wrong.clone();
        wrong.extend(clients.wrong.iter().cloned());
        let differ = clients.transactions.abs_diff(pgherd.transactions);
        if differ > clients.mishaps() {
            wrong.push(format!(
                "transactions: clients have counted {}, and pgherd {}, with {} mishaps",
                clients.transactions,
                pgherd.transactions,
                clients.mishaps()
            ));
        }
        if !checked.is_sound() {
            wrong.push(format!("the workload that checks itself: {checked}"));
        }
        let known = |code: &&String| KNOWN.contains(&code.as_str());
        let unknown: Vec<_> =
            clients.errors.keys().chain(checked.sqlstates.keys()).filter(|it| !known(it)).collect();
        if !unknown.is_empty() {
            wrong.push(format!("clients were told {unknown:?}"));
        }
        wrong
    }
}

impl fmt::Display for EnduranceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after, last, toll, .. } = self;
        let done: Vec<String> = toll.done.iter().map(|(what, times)| format!("{times} {what}")).collect();
        writeln!(f, "done to the herd: {}", done.join("; "))?;
        writeln!(f, "by clients meanwhile: {}", toll.clients.describe())?;
        writeln!(
            f,
            "connections {}, lost {}; errors {:?}",
            toll.clients.connections, toll.clients.connections_lost, toll.clients.errors
        )?;
        writeln!(f, "the workload that checks itself: {}", toll.checked)?;
        writeln!(f, "\n{:<34} {:>14} {:>14}", "counted by", "clients", "pgherd")?;
        for (when, Calm { clients, pgherd }) in ["before", "after"].iter().zip(&self.calm) {
            for (what, one, other) in [
                ("transactions", clients.transactions, pgherd.transactions),
                ("queries", clients.queries, pgherd.queries),
                ("bytes received, one client", clients.bytes.0, pgherd.received),
                ("bytes sent, one client", clients.bytes.1, pgherd.sent),
            ] {
                writeln!(f, "{:<34} {one:>14} {other:>14}", format!("{when}: {what}"))?;
            }
        }
        for (what, one, other) in [
            ("transactions", toll.clients.transactions, toll.pgherd.transactions),
            ("queries", toll.clients.queries, toll.pgherd.queries),
        ] {
            writeln!(f, "{:<34} {one:>14} {other:>14}", format!("under faults: {what}"))?;
        }
        writeln!(f, "read on standbys under faults: {}", toll.pgherd.read_on_standbys)?;
        writeln!(
            f,
            "rows: {} are sure to be there, {} may be; all were looked for",
            self.rows.0, self.rows.1
        )?;
        writeln!(f, "\n{:<34} {:>10} {:>10} {:>10}", "held by pgherd at rest", "before", "after", "at last")?;
        for (what, of) in [
            ("descriptors", (|it| it.descriptors) as fn(&State) -> u64),
            ("threads", |it| it.threads),
            ("server connections", |it| it.server_connections),
            ("tasks, of all threads", |it| it.tasks.values().sum()),
            ("sessions ended by a panic", |it| it.panics),
            ("resident memory, KiB", |it| it.resident),
        ] {
            writeln!(f, "{what:<34} {:>10} {:>10} {:>10}", of(before), of(after), of(last))?;
        }
        write!(f, "memory under load: {}", toll.trend)
    }
}
