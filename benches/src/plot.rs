//! A picture of what each peer costs: bars, in SVG.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::peers::Peer;
use crate::results::Load;
use crate::statistics::Spread;
use crate::workload::Workload;

const WIDTH: u32 = 1200;
/// Pixels of a bar.
const BAR: u32 = 14;
/// Pixels between workloads, where their names stand.
const GAP: u32 = 26;

/// Draws the median CPU time per transaction of each peer in each workload; false if there is none.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(loads: &[Load], file: &Path) -> Result<bool> {
    let bars = bars(loads);
    if !bars.iter().any(|bar| matches!(bar, Bar::Of(..))) {
        return Ok(false);
    }
    let height = bars.iter().map(Bar::height).sum::<u32>() + GAP;
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    let failed = |error: DrawingAreaErrorKind<std::io::Error>| anyhow!("draw {}: {error}", file.display());
    area.fill(&WHITE).map_err(failed)?;
    let text = |size: u32| ("sans-serif", size).into_font().color(&BLACK);
    let mut at = 8;
    for bar in &bars {
        let y = i32::try_from(at)?;
        at += bar.height();
        match bar {
            Bar::Heading(workload) => {
                let said = format!("{workload}: own CPU, µs per transaction");
                area.draw(&Text::new(said, (8, y + 6), text(14))).map_err(failed)?;
            }
            Bar::Of(peer, length, longest) => {
                // Less than the width, which is far from the limits of the type.
                #[allow(clippy::cast_possible_truncation, reason = "see above")]
                let end = 110 + (length / longest * f64::from(WIDTH - 180)) as i32;
                let bottom = y + i32::try_from(BAR)? - 3;
                area.draw(&Text::new(peer.name(), (8, y), text(12))).map_err(failed)?;
                area.draw(&Rectangle::new([(110, y), (end, bottom)], colour(*peer).filled()))
                    .map_err(failed)?;
                area.draw(&Text::new(format!("{length:.1}"), (end + 4, y), text(12))).map_err(failed)?;
            }
        }
    }
    area.present().map_err(failed)?;
    Ok(true)
}

enum Bar {
    Heading(Workload),
    /// A peer's, its length, and that of the longest in the same workload.
    Of(Peer, f64, f64),
}

impl Bar {
    const fn height(&self) -> u32 {
        match self {
            Self::Heading(_) => GAP,
            Self::Of(..) => BAR,
        }
    }
}

fn bars(loads: &[Load]) -> Vec<Bar> {
    let workloads: BTreeSet<Workload> = loads.iter().map(|load| load.workload).collect();
    let mut bars = Vec::new();
    for workload in workloads {
        let median = |peer: &Peer| {
            let is_it = |load: &&Load| load.workload == workload && load.peer == *peer;
            let figures: Vec<f64> = loads.iter().filter(is_it).filter_map(|load| load.peer_cpu_us).collect();
            Some((*peer, Spread::of(&figures).filter(|spread| spread.median > 0.0)?.median))
        };
        let of_peers: Vec<(Peer, f64)> = Peer::ALL.iter().filter_map(median).collect();
        let longest = of_peers.iter().map(|(_, length)| *length).fold(0.0, f64::max);
        if longest > 0.0 {
            bars.push(Bar::Heading(workload));
            bars.extend(of_peers.into_iter().map(|(peer, length)| Bar::Of(peer, length, longest)));
        }
    }
    bars
}

const fn colour(peer: Peer) -> RGBColor {
    match peer {
        Peer::Pgherd | Peer::PgherdReads => RGBColor(0x1f, 0x77, 0xb4),
        Peer::Relay | Peer::RelayAgain => RGBColor(0x99, 0x99, 0x99),
        _ => RGBColor(0xcc, 0x8e, 0x4c),
    }
}
