//! What is told, as spans.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{Told, Transaction};

/// A span that is not numbered yet.
pub(super) struct Span {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: SpanKind,
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
    pub(super) attributes: Vec<KeyValue>,
}

impl Span {
    /// As part of another, or as the first of a new trace.
    pub(super) fn below(self, parent: Option<&SpanContext>) -> SpanData {
        let trace = parent.map_or_else(|| TraceId::from(rand::random::<u128>()), SpanContext::trace_id);
        let number = SpanId::from(rand::random::<u64>());
        SpanData {
            span_context: SpanContext::new(trace, number, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent.map_or(SpanId::INVALID, SpanContext::span_id),
            parent_span_is_remote: parent.is_some_and(SpanContext::is_remote),
            span_kind: self.kind,
            name: self.name,
            start_time: self.began,
            end_time: self.ended,
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("pgherd")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

/// An attribute that is a text.
pub(super) fn text(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, value.to_owned())
}

/// The spans of what is told.
pub(super) fn spans_of(told: Told) -> Vec<SpanData> {
    match told {
        Told::Transaction(transaction) => of_transaction(&transaction),
        Told::Change(spans) => spans,
    }
}

/// A transaction as its client sees it, and below that its wait for a server connection, if it had to wait, and what the server took.
fn of_transaction(it: &Transaction) -> Vec<SpanData> {
    let began = it.ended.checked_sub(it.took).unwrap_or(it.ended);
    let lent = began + it.waited.min(it.took);
    let node = &it.server.node;
    let system = KeyValue::new("db.system.name", "postgresql");
    let whole = Span {
        name: "transaction".into(),
        kind: SpanKind::Server,
        began,
        ended: it.ended,
        attributes: vec![
            system.clone(),
            text("db.namespace", &it.database),
            text("client.address", &it.client),
            text("pgherd.user", &it.user),
            KeyValue::new("pgherd.queries", i64::from(it.queries)),
            KeyValue::new("pgherd.transactions", i64::from(it.transactions)),
        ],
    }
    .below(it.parent.as_ref());
    let server = Span {
        name: "server".into(),
        kind: SpanKind::Client,
        began: lent,
        ended: it.ended,
        attributes: vec![
            system,
            text("db.namespace", &it.database),
            text("server.address", &node.host),
            KeyValue::new("server.port", i64::from(node.port)),
            KeyValue::new("pgherd.node", i64::from(node.id.0)),
            text("pgherd.reason", it.reason.word()),
        ],
    };
    let wait = (lent > began).then(|| Span {
        name: "wait for a server connection".into(),
        kind: SpanKind::Internal,
        began,
        ended: lent,
        attributes: Vec::new(),
    });
    let parts = wait.into_iter().chain([server]).map(|span| span.below(Some(&whole.span_context)));
    let parts: Vec<_> = parts.collect();
    [vec![whole], parts].concat()
}
