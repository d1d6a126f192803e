//! Sends what is traced to the collector: in OTLP over HTTP, in binary form.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::courier::Courier;
use super::spans::spans_of;
use super::{Fate, Told};
use crate::config::Trace;
use crate::shared::Shared;

/// So many transactions are sent at once.
const AT_ONCE: usize = 512;
/// What is there waits so long for more.
const LINGERS: Duration = Duration::from_secs(1);
/// The collector has so long to take it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// That it does not is told so often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Sends all that is told, until `stop`; and then what is left, as far as the collector takes it at once.
pub(crate) async fn export(mut told: mpsc::Receiver<Told>, shared: Arc<Shared>, stop: CancellationToken) {
    let mut exporter = Exporter::default();
    let mut batch = Vec::new();
    while let Some(1..) = stop.run_until_cancelled(told.recv_many(&mut batch, AT_ONCE)).await {
        let _ = tokio::time::timeout(LINGERS, stop.run_until_cancelled(fill(&mut told, &mut batch))).await;
        exporter.send(&mut batch, &shared).await;
    }
    told.close();
    let rest = async {
        while told.recv_many(&mut batch, AT_ONCE).await > 0 {
            exporter.send(&mut batch, &shared).await;
        }
    };
    // The end of the process waits for no collector for longer than that.
    let _ = tokio::time::timeout(TIMEOUT, rest).await;
}

/// Takes more, until it is enough. Cancel-safe: what was taken is in the batch.
async fn fill(told: &mut mpsc::Receiver<Told>, batch: &mut Vec<Told>) {
    while batch.len() < AT_ONCE && told.recv_many(batch, AT_ONCE - batch.len()).await > 0 {}
}

/// What speaks with the collector that is configured.
#[derive(Debug, Default)]
struct Exporter {
    made: Option<(Trace, SpanExporter)>,
    told_at: Option<Instant>,
}

impl Exporter {
    async fn send(&mut self, batch: &mut Vec<Told>, shared: &Shared) {
        let spans: Vec<SpanData> = batch.drain(..).flat_map(spans_of).collect();
        let config = shared.config.load().trace.clone();
        // It was turned off meanwhile.
        let Some(endpoint) = &config.endpoint else { return };
        let count = spans.len();
        let sent = match self.exporter(&config, endpoint) {
            Ok(exporter) => exporter.export(spans).await.map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        match sent {
            Ok(()) => shared.traces.count(Fate::Sent, count),
            Err(why) => {
                shared.traces.count(Fate::Failed, count);
                if self.told_at.is_none_or(|at| at.elapsed() > TOLD_EVERY) {
                    self.told_at = Some(Instant::now());
                    tracing::warn!(
                        endpoint,
                        why,
                        spans = count,
                        "the collector of trace.endpoint does not take traces"
                    );
                }
            }
        }
    }

    /// The one that is configured; made anew when that has changed.
    fn exporter(&mut self, config: &Trace, endpoint: &str) -> Result<&SpanExporter, String> {
        let made = match self.made.take().filter(|(made_for, _)| made_for == config) {
            Some(made) => made,
            None => (config.clone(), exporter(config, endpoint).map_err(|error| error.to_string())?),
        };
        Ok(&self.made.insert(made).1)
    }
}

fn exporter(config: &Trace, endpoint: &str) -> Result<SpanExporter, ExporterBuildError> {
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Courier { timeout: TIMEOUT })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(TIMEOUT)
        .build()?;
    exporter.set_resource(&Resource::builder_empty().with_service_name(config.service.clone()).build());
    Ok(exporter)
}
