//! The tables: medians, paired ratios with their spread, and what the spread does not support. Markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::options::Workload;
use crate::peers::Peer;
use crate::results::{Idle, Load, Results};
use crate::statistics::{Spread, Verdict, judge, paired_ratios};

/// A figure that peers are compared by.
struct Metric {
    name: &'static str,
    of: fn(&Load) -> Option<f64>,
}

const COMPARED: [Metric; 4] = [
    Metric { name: "TPS", of: |load| Some(load.tps) },
    Metric { name: "latency", of: |load| Some(load.latency_ms) },
    Metric { name: "p99", of: |load| load.p99_ms },
    Metric { name: "own CPU", of: |load| load.peer_cpu_us },
];

/// The report of a run.
#[must_use]
pub fn render(results: &Results) -> String {
    let mut text = String::new();
    heading(&mut text, results);
    let workloads: BTreeSet<Workload> =
        results.loads.iter().map(|load| Workload { mode: load.mode, clients: load.clients }).collect();
    for &workload in &workloads {
        let of = |load: &&Load| load.mode == workload.mode && load.clients == workload.clients;
        let loads: Vec<&Load> = results.loads.iter().filter(of).collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n## {}, {} clients\n", workload.mode, workload.clients);
        figures(&mut text, &loads);
        ratios(&mut text, &loads);
    }
    if !results.idle.is_empty() {
        idle(&mut text, &results.idle);
    }
    text
}

fn heading(text: &mut String, results: &Results) {
    let Results { machine, rounds, pool_size, scale, .. } = results;
    let _ = writeln!(text, "# pgbench, select-only, scale {scale}, {rounds} rounds\n");
    let _ = writeln!(text, "{machine}; pools of {pool_size}. Medians of the rounds; (smallest..largest).\n");
    for (peer, version) in &results.versions {
        let _ = writeln!(text, "- {peer}: {version}");
    }
    for (peer, reason) in &results.left_out {
        let _ = writeln!(text, "- {peer}: left out, {reason}");
    }
    let _ = writeln!(
        text,
        "\nA ratio marked ~ shows no difference that its spread supports. CPU is microseconds per transaction."
    );
}

/// The peers of `loads`, in their usual order.
fn peers(loads: &[&Load]) -> Vec<Peer> {
    Peer::ALL.into_iter().filter(|peer| loads.iter().any(|load| load.peer == *peer)).collect()
}

fn by_round(loads: &[&Load], peer: Peer, metric: &Metric) -> BTreeMap<u32, f64> {
    let of_peer = loads.iter().filter(|load| load.peer == peer);
    of_peer.filter_map(|load| Some((load.round, (metric.of)(load)?))).collect()
}

fn figures(text: &mut String, loads: &[&Load]) {
    let _ = writeln!(text, "| | TPS | latency ms | p50 ms | p99 ms | own CPU µs | PostgreSQL's CPU µs |");
    let _ = writeln!(text, "|---|---:|---:|---:|---:|---:|---:|");
    let mut notes = Vec::new();
    for peer in peers(loads) {
        let of_peer: Vec<&&Load> = loads.iter().filter(|load| load.peer == peer).collect();
        let cell = |of: fn(&Load) -> Option<f64>, decimals| {
            let figures: Vec<f64> = of_peer.iter().filter_map(|load| of(load)).collect();
            spread_cell(Spread::of(&figures), decimals)
        };
        let note = of_peer.first().and_then(|load| peer.note(load.mode));
        notes.extend(note);
        let _ = writeln!(
            text,
            "| {peer}{} | {} | {} | {} | {} | {} | {} |",
            if note.is_some() { " \\*" } else { "" },
            cell(|load| Some(load.tps), 0),
            cell(|load| Some(load.latency_ms), 3),
            cell(|load| load.p50_ms, 3),
            cell(|load| load.p99_ms, 3),
            cell(|load| load.peer_cpu_us, 1),
            cell(|load| load.postgres_cpu_us, 1),
        );
    }
    for note in notes {
        let _ = writeln!(text, "\n\\* {note}.");
    }
}

fn ratios(text: &mut String, loads: &[&Load]) {
    let peers = peers(loads);
    // pgherd is what this is about; without it the peers can still be compared.
    let Some(subject) =
        [Peer::Pgherd, Peer::Pgbouncer, Peer::Relay].into_iter().find(|peer| peers.contains(peer))
    else {
        return;
    };
    let header: String = COMPARED.iter().map(|metric| format!(" {} |", metric.name)).collect();
    let _ = writeln!(text, "\n| {subject} / |{header}\n|---|{}", "---:|".repeat(COMPARED.len()));
    let mut unsupported: BTreeMap<Verdict, BTreeMap<Peer, Vec<&str>>> = BTreeMap::new();
    for &other in peers.iter().filter(|&&peer| peer != subject && peer != Peer::RelayAgain) {
        let _ = write!(text, "| {other} |");
        for metric in &COMPARED {
            let ratios = paired_ratios(&by_round(loads, subject, metric), &by_round(loads, other, metric));
            let verdict = judge(&ratios, &control(loads, metric));
            let mark = if ratios.is_empty() || verdict == Verdict::Supported { "" } else { "~" };
            let _ = write!(text, " {mark}{} |", spread_cell(Spread::of(&ratios), 2));
            if !ratios.is_empty() {
                unsupported.entry(verdict).or_default().entry(other).or_default().push(metric.name);
            }
        }
        text.push('\n');
    }
    if peers.contains(&Peer::RelayAgain) && peers.contains(&Peer::Relay) {
        let _ = write!(text, "| A/A control: relay again / relay |");
        for metric in &COMPARED {
            let _ = write!(text, " {} |", spread_cell(Spread::of(&control(loads, metric)), 2));
        }
        text.push('\n');
    }
    for (verdict, peers) in unsupported {
        if let Some(reason) = reason(verdict) {
            let ratio = |(other, metrics): (&Peer, &Vec<&str>)| format!("/ {other} ({})", metrics.join(", "));
            let what: Vec<String> = peers.iter().map(ratio).collect();
            let _ = writeln!(
                text,
                "\nNot supported by the spread, since {reason}: {subject} {}.",
                what.join(", ")
            );
        }
    }
}

/// The same relay against itself: what differs here is noise.
fn control(loads: &[&Load], metric: &Metric) -> Vec<f64> {
    paired_ratios(&by_round(loads, Peer::RelayAgain, metric), &by_round(loads, Peer::Relay, metric))
}

const fn reason(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Supported => None,
        Verdict::IncludesOne => Some("some rounds say more and some say less"),
        Verdict::WithinControl => Some("the A/A control differs from itself as much"),
        Verdict::TooFewRounds => Some("the rounds are too few to tell"),
    }
}

fn spread_cell(spread: Option<Spread>, decimals: usize) -> String {
    match spread {
        None => "-".to_owned(),
        // One round has no spread to show.
        Some(Spread { median, min, max }) if min.total_cmp(&max).is_eq() => format!("{median:.decimals$}"),
        Some(Spread { median, min, max }) => {
            format!("{median:.decimals$} ({min:.decimals$}..{max:.decimals$})")
        }
    }
}

fn idle(text: &mut String, idle: &[Idle]) {
    let _ = writeln!(text, "\n## Memory per idle client, KiB\n");
    let _ = writeln!(
        text,
        "Grown: with the clients, less without, divided by their number. Whole: all of the peer's memory, divided by their \
         number; of use where processes wait for clients from the start (pgpool). `direct` is PostgreSQL's own.\n"
    );
    let _ = writeln!(text, "| | clients | grown, RSS | grown, PSS | grown, private | whole, PSS |");
    let _ = writeln!(text, "|---|---:|---:|---:|---:|---:|");
    for peer in Peer::ALL {
        let of_peer: Vec<&Idle> = idle.iter().filter(|idle| idle.peer == peer).collect();
        let Some(first) = of_peer.first() else { continue };
        let cell = |of: fn(&Idle) -> f64| {
            let figures: Vec<f64> = of_peer.iter().map(|idle| of(idle) / f64::from(idle.clients)).collect();
            spread_cell(Spread::of(&figures), 1)
        };
        let _ = writeln!(
            text,
            "| {peer} | {} | {} | {} | {} | {} |",
            first.clients,
            cell(|idle| idle.after.rss as f64 - idle.before.rss as f64),
            cell(|idle| idle.after.pss as f64 - idle.before.pss as f64),
            cell(|idle| idle.after.private as f64 - idle.before.private as f64),
            cell(|idle| idle.after.pss as f64),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgbench::Mode;

    fn load(round: u32, peer: Peer, tps: f64, cpu: Option<f64>) -> Load {
        Load {
            round,
            peer,
            mode: Mode::Simple,
            clients: 8,
            tps,
            latency_ms: 1.0,
            p50_ms: None,
            p99_ms: None,
            peer_cpu_us: cpu,
            postgres_cpu_us: Some(40.0),
            seconds: 1.0,
        }
    }

    fn ratios_of(loads: &[Load]) -> String {
        let mut text = String::new();
        ratios(&mut text, &loads.iter().collect::<Vec<_>>());
        text
    }

    #[test]
    fn a_difference_that_holds_in_every_round_is_unmarked_and_noise_is_marked_with_its_reason() {
        let rounds = [(1, 1000.0), (2, 500.0), (3, 2000.0)];
        let loads: Vec<Load> = rounds
            .iter()
            .flat_map(|&(round, tps)| {
                let pgherd = load(round, Peer::Pgherd, tps, Some(10.0 + f64::from(round)));
                [
                    pgherd,
                    load(round, Peer::Pgbouncer, tps / 2.0, Some(12.0)),
                    load(round, Peer::Direct, tps, None),
                ]
            })
            .collect();
        let text = ratios_of(&loads);
        assert!(text.contains("| pgbouncer | 2.00 | ~1.00 | - | ~1.00 (0.92..1.08) |"), "{text}");
        assert!(
            text.contains("some say less: pgherd / direct (TPS, latency), / pgbouncer (latency, own CPU)."),
            "{text}"
        );
    }

    #[test]
    fn without_pgherd_the_peers_are_compared_with_each_other() {
        let loads: Vec<Load> = (1..=3)
            .flat_map(|round| {
                [load(round, Peer::Relay, 10.0, None), load(round, Peer::RelayAgain, 11.0, None)]
            })
            .collect();
        let text = ratios_of(&loads);
        assert!(text.contains("| relay / | TPS |"), "{text}");
        assert!(text.contains("| A/A control: relay again / relay | 1.10 | 1.00 |"), "{text}");
    }
}
