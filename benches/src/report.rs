//! The tables: medians, paired ratios with their spread, and what the spread does not support. Markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::peers::Peer;
use crate::procfs::Memory;
use crate::results::{Idle, Load, Results, Start};
use crate::scale::{Of, Scale};
use crate::statistics::{Spread, Verdict, judge, paired_ratios};
use crate::transfer::{Kind, Transfer};
use crate::workload::Workload;

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
    let workloads: BTreeSet<Workload> = results.loads.iter().map(|load| load.workload).collect();
    for workload in workloads {
        let loads: Vec<&Load> = results.loads.iter().filter(|load| load.workload == workload).collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n## {workload}\n");
        figures(&mut text, &loads, &results.versions);
        ratios(&mut text, &loads);
    }
    if !results.transfers.is_empty() {
        transfers(&mut text, &results.transfers);
    }
    if !results.starts.is_empty() {
        starts(&mut text, &results.starts);
    }
    if !results.idle.is_empty() {
        idle(&mut text, &results.idle);
    }
    if !results.scales.is_empty() {
        scales(&mut text, &results.scales);
    }
    text
}

fn heading(text: &mut String, results: &Results) {
    let Results { machine, rounds, pool_size, scale, .. } = results;
    let _ = writeln!(text, "# pgbench at scale {scale}, {rounds} rounds\n");
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

fn figures(text: &mut String, loads: &[&Load], versions: &BTreeMap<&'static str, String>) {
    let _ = writeln!(text, "| | TPS | latency ms | p50 ms | p99 ms | own CPU µs | PostgreSQL's CPU µs |");
    let _ = writeln!(text, "|---|---:|---:|---:|---:|---:|---:|");
    let mut notes = Vec::new();
    for peer in peers(loads) {
        let of_peer: Vec<&&Load> = loads.iter().filter(|load| load.peer == peer).collect();
        let cell = |of: fn(&Load) -> Option<f64>, decimals| {
            let figures: Vec<f64> = of_peer.iter().filter_map(|load| of(load)).collect();
            spread_cell(Spread::of(&figures), decimals)
        };
        let version = versions.get(peer.name()).map_or("", String::as_str);
        let note = of_peer.first().and_then(|load| peer.note(load.workload.mode, version));
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
        Verdict::NoControl => Some("every round says the same, but there is no A/A control here"),
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

fn transfers(text: &mut String, transfers: &[Transfer]) {
    let _ = writeln!(
        text,
        "\n## Transfers\n\nCPU: milliseconds of the peer's own for 100 MB. Grown: the most by which its resident memory grew, KiB."
    );
    for kind in Kind::ALL {
        let of_kind = || transfers.iter().filter(move |transfer| transfer.kind == kind);
        let _ = writeln!(text, "\n| {} | MB/s | own CPU | / relay | grown |", kind.name());
        let _ = writeln!(text, "|---|---:|---:|---:|---:|");
        let cpu = |peer| -> BTreeMap<u32, f64> {
            let of_peer = of_kind().filter(|transfer| transfer.peer == peer);
            of_peer.filter_map(|transfer| Some((transfer.round, transfer.peer_cpu_ms?))).collect()
        };
        for peer in Peer::ALL {
            let of_peer: Vec<&Transfer> = of_kind().filter(|transfer| transfer.peer == peer).collect();
            if of_peer.is_empty() {
                continue;
            }
            let cell = |of: fn(&Transfer) -> Option<f64>, decimals| {
                let figures: Vec<f64> = of_peer.iter().filter_map(|transfer| of(transfer)).collect();
                spread_cell(Spread::of(&figures), decimals)
            };
            let _ = writeln!(
                text,
                "| {peer} | {} | {} | {} | {} |",
                cell(|transfer| Some(transfer.bytes as f64 / 1e6 / transfer.seconds), 0),
                cell(|transfer| transfer.peer_cpu_ms, 0),
                spread_cell(Spread::of(&paired_ratios(&cpu(peer), &cpu(Peer::Relay))), 2),
                cell(|transfer| transfer.grown_kib.map(|kib| kib as f64), 0),
            );
        }
    }
}

fn starts(text: &mut String, starts: &[Start]) {
    let _ = writeln!(text, "\n## Start\n\n| | first answer, ms | resident then, MiB |\n|---|---:|---:|");
    for peer in Peer::ALL {
        let of_peer: Vec<&Start> = starts.iter().filter(|start| start.peer == peer).collect();
        let cell = |of: fn(&Start) -> f64, decimals| {
            let figures: Vec<f64> = of_peer.iter().map(|start| of(start)).collect();
            spread_cell(Spread::of(&figures), decimals)
        };
        if !of_peer.is_empty() {
            let answer = cell(|start| start.first_answer_ms, 0);
            let _ = writeln!(
                text,
                "| {peer} | {answer} | {} |",
                cell(|start| start.empty_kib as f64 / 1024.0, 1)
            );
        }
    }
}

fn idle(text: &mut String, idle: &[Idle]) {
    let _ = writeln!(text, "\n## Memory per idle client, KiB\n");
    let _ = writeln!(
        text,
        "Grown: with the clients, less with the first ones alone, divided by how many more there are. Whole: all of the peer's memory, divided by their \
         number; of use where processes wait for clients from the start (pgpool). `direct` is PostgreSQL's own.\n"
    );
    let _ = writeln!(text, "| | clients | grown, RSS | grown, PSS | grown, private | whole, PSS |");
    let _ = writeln!(text, "|---|---:|---:|---:|---:|---:|");
    let all = [false, true].into_iter().flat_map(|has_tls| Peer::ALL.map(|peer| (peer, has_tls)));
    for (peer, has_tls) in all {
        let is_it = |idle: &&Idle| idle.peer == peer && idle.has_tls == has_tls;
        let of_peer: Vec<&Idle> = idle.iter().filter(is_it).collect();
        let Some(any) = of_peer.first() else { continue };
        let cell = |of: &dyn Fn(&Idle) -> f64| {
            let figures: Vec<f64> = of_peer.iter().map(|idle| of(idle)).collect();
            spread_cell(Spread::of(&figures), 1)
        };
        let grown = |kind: fn(&Memory) -> f64| {
            cell(&|idle| (kind(&idle.after) - kind(&idle.before)) / f64::from(idle.clients))
        };
        let _ = writeln!(
            text,
            "| {peer}{} | {} | {} | {} | {} | {} |",
            if has_tls { ", TLS" } else { "" },
            any.first + any.clients,
            grown(|memory| memory.rss as f64),
            grown(|memory| memory.pss as f64),
            grown(|memory| memory.private as f64),
            cell(&|idle| idle.after.pss as f64 / f64::from(idle.first + idle.clients)),
        );
    }
}

fn scales(text: &mut String, scales: &[Scale]) {
    for of in Of::ALL {
        let counts = of.counts();
        let heads: String = counts.iter().map(|count| format!(" {count} |")).collect();
        let _ = writeln!(text, "\n## Own CPU by {}, µs\n\n| |{heads}", of.name());
        let _ = writeln!(text, "|---|{}", "---:|".repeat(counts.len()));
        for peer in Peer::ALL {
            let spread = |count: u32| {
                let is_it = |it: &&Scale| (it.peer, it.of, it.count) == (peer, of, count);
                let figures: Vec<f64> = scales.iter().filter(is_it).map(|it| it.peer_cpu_us).collect();
                Spread::of(&figures)
            };
            if spread(counts[0]).is_some() {
                let cells: String =
                    counts.iter().map(|&count| format!(" {} |", spread_cell(spread(count), 1))).collect();
                let _ = writeln!(text, "| {peer} |{cells}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Mode, Subject};

    fn load(round: u32, peer: Peer, tps: f64, cpu: Option<f64>) -> Load {
        Load {
            round,
            peer,
            workload: Workload { subject: Subject::Select, mode: Mode::Simple, clients: 8, idle: 0 },
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
                    load(round, Peer::Relay, tps, Some(10.0)),
                    load(round, Peer::RelayAgain, tps, Some(10.0)),
                ]
            })
            .collect();
        let text = ratios_of(&loads);
        assert!(text.contains("| pgbouncer | 2.00 | ~1.00 | - | ~1.00 (0.92..1.08) |"), "{text}");
        assert!(
            text.contains(
                "some say less: pgherd / direct (TPS, latency), / relay (TPS, latency), / pgbouncer (latency, own CPU)."
            ),
            "{text}"
        );
        // Nobody knows how much the machine differs from itself.
        let uncontrolled: Vec<Load> =
            loads.into_iter().filter(|load| !matches!(load.peer, Peer::Relay | Peer::RelayAgain)).collect();
        let text = ratios_of(&uncontrolled);
        assert!(text.contains("| pgbouncer | ~2.00"), "{text}");
        assert!(text.contains("there is no A/A control here: pgherd / pgbouncer (TPS)."), "{text}");
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
