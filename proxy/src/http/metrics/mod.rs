//! What Prometheus reads: gathered when it asks, from what everybody else reads, too.

mod durations;
mod family;
mod pools;
mod process;
mod servers;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text::encode};
use prometheus_client::registry::Registry;

use crate::shared::Shared;

/// The type of [`text`].
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything, as `OpenMetrics` text.
///
/// # Errors
/// None that is known.
pub(super) fn text(shared: Arc<Shared>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("pgherd");
    registry.register_collector(Box::new(Metrics(shared)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

struct Metrics(Arc<Shared>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (shared, encoder) = (&self.0, &mut encoder);
        process::encode(shared, encoder)?;
        pools::encode(shared, encoder)?;
        servers::encode(shared, encoder)
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn float(count: usize) -> f64 {
    count as f64
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}
