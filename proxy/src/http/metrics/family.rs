//! Families of metrics as tables: what each is called, and how its value is had.

use std::borrow::Cow;
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
            let labels: Vec<_> = labels.into_iter().map(|(name, value)| (name, escaped(value))).collect();
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// A value as it stands between quotes; the crate writes it as it is.
pub(super) fn escaped(value: &str) -> Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n").into()
    } else {
        value.into()
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

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Debug)]
    struct Odd;

    impl Subject for Odd {
        fn labels(&self) -> Vec<(&'static str, &str)> {
            vec![("database", "a\"} 1\nb\\"), ("user", "plain")]
        }
    }

    impl Collector for Odd {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            encode(&[Family::gauge("odd", "Odd", |_: &Self| Some(2.0))], &[Self], &mut encoder)
        }
    }

    #[test]
    fn whatever_a_database_is_called_its_metrics_can_be_read() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Odd));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("odd{database=\"a\\\"} 1\\nb\\\\\",user=\"plain\"} 2"), "{text}");
    }
}
