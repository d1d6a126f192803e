//! The client's own span, as comments of its statements name it: `/*traceparent='00-…-…-01'*/`, which sqlcommenter and the
//! instrumentations of many drivers write.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const NAME: &[u8] = b"traceparent='";
/// The length of a `traceparent` of version 00 (W3C Trace Context, 3.2.2).
const LEN: usize = 55;
/// So much of what a client has sent is looked at: who names its span does it at the beginning or the end of a statement.
const LOOKED_AT: usize = 8192;

/// The span that a client's messages name, if any; the first.
pub(crate) fn context_in(messages: &[u8]) -> Option<SpanContext> {
    let messages = messages.get(..LOOKED_AT).unwrap_or(messages);
    let at = memchr::memmem::find(messages, NAME)? + NAME.len();
    let value = std::str::from_utf8(messages.get(at..at + LEN)?).ok()?;
    if messages.get(at + LEN) != Some(&b'\'') {
        return None;
    }
    let header = HashMap::from([("traceparent".to_owned(), value.to_owned())]);
    let context = TraceContextPropagator::new().extract(&header).span().span_context().clone();
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_span_is_found_wherever_the_comment_stands() {
        for text in [
            format!("Q\0\0\0\x50SELECT 1 /*traceparent='{PARENT}'*/\0"),
            format!("P\0\0\0\x50\0/*route='%2Fa',traceparent='{PARENT}',tracestate='a%3D1'*/ SELECT 1\0\0\0"),
        ] {
            let found = context_in(text.as_bytes()).unwrap();
            assert_eq!(format!("{:032x}", found.trace_id()), "0af7651916cd43dd8448eb211c80319c");
            assert_eq!(format!("{:016x}", found.span_id()), "b7ad6b7169203331");
            assert!(found.is_sampled() && found.is_remote());
        }
        let unsampled = format!("/*traceparent='{}00'*/", &PARENT[..53]);
        assert!(!context_in(unsampled.as_bytes()).unwrap().is_sampled());
    }

    #[test]
    fn what_is_no_span_is_none() {
        let zeros = format!("00-{}-{}-01", "0".repeat(32), "0".repeat(16));
        for value in ["", "00-1-2-01", &PARENT[1..], &format!("{PARENT}0"), &zeros, &PARENT.replace('0', "x")]
        {
            assert_eq!(context_in(format!("/*traceparent='{value}'*/").as_bytes()), None, "{value}");
        }
        assert_eq!(context_in(format!("/*traceparent='{PARENT}").as_bytes()), None);
        let far = format!("{}/*traceparent='{PARENT}'*/", "x".repeat(LOOKED_AT));
        assert_eq!(context_in(far.as_bytes()), None);
    }
}
