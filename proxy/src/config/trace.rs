//! `[trace]`: what is told to those who collect traces with OpenTelemetry.

use super::raw::Value;
use super::resolve::Bridge;
use super::value::{self, Read};

/// Traces of transactions, and of changes of the primary.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trace {
    /// Where they are sent: a URL of OTLP over HTTP; none for no traces.
    pub(crate) endpoint: Option<String>,
    /// The part of the transactions that is traced, where the client does not say which: 0 to 1.
    pub(crate) ratio: f64,
    /// The name that they are sent under: the resource's `service.name`.
    pub(crate) service: String,
}

impl Bridge<'_> {
    pub(super) fn trace(&mut self) -> Option<Trace> {
        let endpoint = self.get("trace.endpoint", endpoint);
        let ratio = self.get("trace.ratio", ratio);
        let service = self.get("trace.service", value::text);
        Some(Trace { endpoint, ratio: ratio?, service: service? })
    }
}

impl Trace {
    /// Each key with its value; none where it has none.
    pub(super) fn describe(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("trace.endpoint", self.endpoint.clone()),
            ("trace.ratio", Some(self.ratio.to_string())),
            ("trace.service", Some(self.service.clone())),
        ]
    }
}

fn endpoint(value: &Value) -> Read<String> {
    let text = value::text(value)?;
    let uri: Option<hyper::Uri> = text.parse().ok();
    if uri.as_ref().and_then(|uri| uri.authority()).is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("takes a URL without a name and a password, which everybody could see; headers that a collector asks for \
                    go into OTEL_EXPORTER_OTLP_HEADERS"
            .to_owned());
    }
    match uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.host()?))) {
        Some(("http", host)) if !host.is_empty() => Ok(text),
        Some(("https", _)) => {
            Err("takes a URL with http://: a collector beside pgherd sends traces on with TLS".to_owned())
        }
        _ => Err(format!(
            "takes the URL of a collector, such as \"http://collector:4318/v1/traces\", got {}",
            value.shown()
        )),
    }
}

fn ratio(value: &Value) -> Read<f64> {
    let text = match value {
        Value::Other("a float", text) | Value::Integer(text) => Some(text.as_str()),
        other => other.text(),
    };
    let ratio = text.and_then(|text| text.parse().ok()).filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| format!("takes a number from 0 to 1, such as 0.01, got {}", value.shown()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_that_can_be_sent_to_and_has_no_secret() {
        for good in ["http://collector:4318/v1/traces", "http://[::1]/x", "http://10.0.0.1:4318/"] {
            assert_eq!(endpoint(&Value::plain(good)).as_deref(), Ok(good));
        }
        for (bad, why) in [
            ("https://collector/v1/traces", "with http://"),
            ("http://user:s3cr3t@collector/", "without a name and a password"),
            ("collector:4318", "the URL of a collector"),
            ("http://", "the URL of a collector"),
            ("/v1/traces", "the URL of a collector"),
            ("http://a b/", "the URL of a collector"),
        ] {
            let told = endpoint(&Value::plain(bad)).unwrap_err();
            assert!(told.contains(why) && !told.contains("s3cr3t"), "{bad}: {told}");
        }
    }

    #[test]
    fn a_ratio_is_a_part_of_all() {
        let other = |text: &str| Value::Other("a float", text.to_owned());
        assert_eq!(ratio(&other("0.25")), Ok(0.25));
        assert_eq!(ratio(&Value::Integer("1".to_owned())), Ok(1.0));
        for bad in ["1.01", "-0.1", "nan", "inf", "x", ""] {
            assert!(ratio(&other(bad)).is_err() && ratio(&Value::plain(bad)).is_err(), "{bad}");
        }
    }
}
