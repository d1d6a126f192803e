//! What a collector of traces is sent. It takes what OpenTelemetry's own definitions decode, and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use pgherd_testkit::client::RawClient;
use pgherd_testkit::{Cluster, Context, Result, ensure, eventually};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::front::{Front, PATIENCE};
use crate::http::metric;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

type Spans = Arc<Mutex<Vec<Span>>>;

struct Collector {
    address: SocketAddr,
    spans: Spans,
    _serving: JoinSet<()>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let spans = Spans::default();
        let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, spans, _serving: serving })
    }

    fn endpoint(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    /// The spans of this name that there are, once there are so many.
    async fn named(&self, name: &str, count: usize) -> Result<Vec<Span>> {
        eventually(format!("{count} spans are named {name}"), PATIENCE, || async {
            let spans = self.spans.lock();
            let found: Vec<_> = spans.iter().filter(|span| span.name == name).cloned().collect();
            Ok((found.len() >= count).then_some(found))
        })
        .await
    }

    /// The spans below this one.
    fn below(&self, span: &Span) -> Vec<Span> {
        let spans = self.spans.lock();
        spans.iter().filter(|it| it.parent_span_id == span.span_id).cloned().collect()
    }
}

async fn take(State(spans): State<Spans>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    for resource in request.resource_spans {
        let named = resource.resource.iter().flat_map(|it| &it.attributes);
        let is_ours =
            named.filter(|it| it.key == "service.name").any(|it| text(it.value.as_ref()) == "herd-1");
        if !is_ours {
            return StatusCode::BAD_REQUEST;
        }
        spans.lock().extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    StatusCode::OK
}

fn text(value: Option<&opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// An attribute of a span.
fn attribute(span: &Span, key: &str) -> String {
    text(span.attributes.iter().find(|it| it.key == key).and_then(|it| it.value.as_ref()))
}

fn took(span: &Span) -> Duration {
    Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn front(collector: &Collector, ratio: f64) -> Result<Front> {
    let (endpoint, ratio) = (collector.endpoint(), ratio.to_string());
    Front::with(move |pgherd| {
        let pgherd = pgherd.set("trace.endpoint", endpoint).set("trace.service", "herd-1");
        pgherd.set("trace.ratio", ratio).set("pool.size", 1)
    })
    .await
}

#[tokio::test]
async fn a_transaction_is_told_with_what_it_waited_for_and_where_it_ran() -> Result<()> {
    let collector = Collector::start().await?;
    let front = front(&collector, 1.0).await?;
    let (mut first, mut second) = (front.raw().await?, front.raw().await?);
    first.query("BEGIN").await?;
    let wait = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        first.query("SELECT 1; COMMIT").await
    };
    let asked = format!("SELECT pg_sleep(0.1) /*traceparent='00-{TRACE}-{PARENT}-01'*/");
    let (ended, answered) = tokio::join!(wait, second.query(&asked));
    ensure!(ended?.error().is_none() && answered?.error().is_none());
    let spans = collector.named("transaction", 2).await?;
    let waited =
        spans.iter().find(|span| hexadecimal(&span.trace_id) == TRACE).context("none is of the trace")?;
    ensure!(hexadecimal(&waited.parent_span_id) == PARENT, "{waited:?}");
    let facts = ["db.system.name", "db.namespace", "pgherd.user", "pgherd.queries", "pgherd.transactions"];
    let told = facts.map(|key| attribute(waited, key));
    ensure!(told == ["postgresql", "app", "app", "1", "1"], "{told:?}");
    ensure!(attribute(waited, "client.address").starts_with("127."), "{waited:?}");
    let parts = collector.below(waited);
    let wait = parts.iter().find(|part| part.name == "wait for a server connection").context("no wait")?;
    let server = parts.iter().find(|part| part.name == "server").context("no server")?;
    ensure!(parts.len() == 2 && took(wait) > Duration::from_millis(100), "{parts:?}");
    ensure!(took(server) >= Duration::from_millis(100), "{server:?}");
    ensure!(
        wait.end_time_unix_nano == server.start_time_unix_nano && took(waited) == took(wait) + took(server)
    );
    let (address, port) = (front.server()?.address().to_string(), front.server()?.port().to_string());
    let told = ["server.address", "server.port", "pgherd.node"].map(|key| attribute(server, key));
    ensure!(told == [address, port, "0".to_owned()], "{told:?}");
    // The other one began a trace of its own.
    let other = spans.iter().find(|span| hexadecimal(&span.trace_id) != TRACE).context("no other")?;
    ensure!(other.parent_span_id.is_empty() && took(other) > Duration::from_millis(190), "{other:?}");
    ensure!(collector.below(other).iter().filter(|part| part.name == "server").count() == 1);
    Ok(())
}

#[tokio::test]
async fn a_client_says_whether_its_transaction_is_traced_and_else_the_ratio() -> Result<()> {
    let collector = Collector::start().await?;
    let front = front(&collector, 0.0).await?;
    let mut client = front.raw().await?;
    for flags in ["01", "00", "01"] {
        client.query("SELECT 1").await?;
        client.query(&format!("SELECT 2 /*traceparent='00-{TRACE}-{PARENT}-{flags}'*/")).await?;
        client.query("/*traceparent='00-1-2-01'*/ SELECT 3").await?;
    }
    collector.named("transaction", 2).await?;
    // What is set counts from the next transaction on.
    let password = front.cluster.monitor_password();
    let mut console = RawClient::login(front.pgherd.address(), "repmgr", "pgherd", password).await?;
    ensure!(console.query("SET trace.ratio = '1'").await?.error().is_none());
    client.query("SELECT 4").await?;
    let spans = collector.named("transaction", 3).await?;
    let of_client = spans.iter().filter(|span| hexadecimal(&span.trace_id) == TRACE).count();
    ensure!((spans.len(), of_client) == (3, 2), "{spans:?}");
    ensure!(metric(&front, r#"pgherd_trace_spans_total{result="sent"}"#).await? >= 6.0);
    Ok(())
}

#[tokio::test]
async fn where_no_collector_answers_clients_are_served_and_it_is_told() -> Result<()> {
    let collector = Collector::start().await?;
    let front = front(&collector, 1.0).await?;
    drop(collector);
    let mut client = front.raw().await?;
    for _ in 0..100 {
        ensure!(client.query("SELECT 1").await?.error().is_none());
    }
    eventually("the spans have failed", PATIENCE, || async {
        let failed = metric(&front, r#"pgherd_trace_spans_total{result="failed"}"#).await?;
        Ok((failed >= 200.0).then_some(()))
    })
    .await?;
    front.pgherd.wait_log("the collector of trace.endpoint does not take traces", PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn a_failover_is_a_trace_with_each_of_its_steps() -> Result<()> {
    let collector = Collector::start().await?;
    let endpoint = collector.endpoint();
    let front = Front::of(Cluster::builder().servers(2).start().await?, |pgherd| {
        pgherd.set("trace.endpoint", endpoint).set("trace.service", "herd-1").set("trace.ratio", 0)
    })
    .await?;
    front.cluster.primary().await?.kill9().await?;
    let failover = collector.named("failover", 1).await?.pop().context("none")?;
    ensure!(took(&failover) > Duration::from_millis(50) && took(&failover) < PATIENCE, "{failover:?}");
    let steps = collector.below(&failover);
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    for step in ["Confirm", "Promote", "Swap"] {
        ensure!(names.contains(&step), "{names:?}");
    }
    ensure!(steps.iter().map(took).sum::<Duration>() == took(&failover), "{steps:?}");
    ensure!(steps.iter().all(|step| !attribute(step, "pgherd.seen").is_empty()), "{steps:?}");
    Ok(())
}
