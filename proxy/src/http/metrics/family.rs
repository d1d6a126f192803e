//! Families of metrics as tables: what each is called, and how its value is had.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// What a metric is told of: a pool, a server, the process.
pub(super) trait Subject {
    /// What tells it from others of its kind; empty if it is the only one.
    fn labels(&self) -> Vec<(&'static str, &str)>;
}

/// A metric of each subject.
pub(super) struct Family<S> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    is_counter: bool,
    value: fn(&S) -> Option<f64>,
}

impl<S: Subject> Family<S> {
    /// A metric that goes up and down. A subject for which it is `None` has no such metric.
    pub(super) fn gauge(name: &'static str, help: &'static str, value: fn(&S) -> Option<f64>) -> Self {
        Self { name, help, unit: None, is_counter: false, value }
    }

    /// The same, in a unit, which stands behind the name.
    pub(super) fn gauge_in(
        unit: Unit,
        name: &'static str,
        help: &'static str,
        value: fn(&S) -> Option<f64>,
    ) -> Self {
        Self { unit: Some(unit), ..Self::gauge(name, help, value) }
    }

    /// A metric that only grows.
    pub(super) fn counter(name: &'static str, help: &'static str, value: fn(&S) -> Option<f64>) -> Self {
        Self { is_counter: true, ..Self::gauge(name, help, value) }
    }

    /// The same, in a unit.
    pub(super) fn counter_in(
        unit: Unit,
        name: &'static str,
        help: &'static str,
        value: fn(&S) -> Option<f64>,
    ) -> Self {
        Self { is_counter: true, ..Self::gauge_in(unit, name, help, value) }
    }

    fn encode(&self, subjects: &[S], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.is_counter {
            self.encode_as(ConstCounter::new, subjects, encoder)
        } else {
            self.encode_as(ConstGauge::new, subjects, encoder)
        }
    }

    fn encode_as<M: EncodeMetric>(
        &self,
        metric: impl Fn(f64) -> M,
        subjects: &[S],
        encoder: &mut DescriptorEncoder<'_>,
    ) -> fmt::Result {
        let mut found =
            subjects.iter().filter_map(|it| Some((it.labels(), metric((self.value)(it)?)))).peekable();
        // A family without metrics is left out.
        let Some((_, first)) = found.peek() else { return Ok(()) };
        let mut family =
            encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), first.metric_type())?;
        for (labels, metric) in found {
            if labels.is_empty() {
                return metric.encode(family);
            }
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Tells all of these metrics of all of these subjects.
pub(super) fn encode<S: Subject>(
    families: &[Family<S>],
    subjects: &[S],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    families.iter().try_for_each(|family| family.encode(subjects, encoder))
}
