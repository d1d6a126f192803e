//! What Prometheus reads: gathered when it asks, from what everybody else reads, too.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use pgherd_failover::StateName;
use pgherd_health::{Lsn, Member};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text::encode};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::server::table::{DatabaseAndUser, Target};
use crate::shared::Shared;
use crate::survey::{self, PoolSurvey};
use crate::traffic::{Counter, Sums};

/// The type of [`text`].
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything, as `OpenMetrics` text.
///
/// # Errors
/// None that is known.
pub(super) fn text(shared: Arc<Shared>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("pgherd");
    registry.register_collector(Box::new(Gathered(shared)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

struct Gathered(Arc<Shared>);

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gathered")
    }
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(&mut encoder);
        let shared = &self.0;
        process(shared, &mut out)?;
        pools(shared, &mut out)?;
        traffic(shared, &mut out)?;
        servers(shared, &mut out)?;
        failover(shared, &mut out)
    }
}

/// One value of a family: its labels, and how much it is.
type Sample<'a> = (Vec<(&'static str, &'a str)>, f64);

/// Where metrics are written.
struct Out<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Out<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> fmt::Result {
        self.gauges(name, help, unit, &[(Vec::new(), value)])
    }

    fn gauges(&mut self, name: &str, help: &str, unit: Option<Unit>, samples: &[Sample<'_>]) -> fmt::Result {
        self.family(name, help, unit.as_ref(), samples, ConstGauge::new)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: &[Sample<'_>],
    ) -> fmt::Result {
        self.family(name, help, unit.as_ref(), samples, ConstCounter::new)
    }

    fn family<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: &[Sample<'_>],
        metric: impl Fn(f64) -> M,
    ) -> fmt::Result {
        let Some((_, first)) = samples.first() else { return Ok(()) };
        let mut family = self.0.encode_descriptor(name, help, unit, metric(*first).metric_type())?;
        for (labels, value) in samples {
            let metric = metric(*value);
            if labels.is_empty() {
                return metric.encode(family);
            }
            metric.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

/// The process and its listener.
fn process(shared: &Shared, out: &mut Out<'_, '_>) -> fmt::Result {
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    out.gauges(
        "build",
        "The version that runs; always 1",
        Some(Unit::Other("info".to_owned())),
        &[(version, 1.0)],
    )?;
    let uptime = shared.epoch.elapsed().as_secs_f64();
    out.gauge("uptime", "How long the process has run", Some(Unit::Seconds), uptime)?;
    let config = shared.config.load();
    out.gauge("clients", "Clients that are logged in, consoles too", None, float(shared.roster.len()))?;
    out.gauge("clients_max", "The most clients: pool.max_clients", None, float(config.pool.max_clients))?;
    let waiting = float(shared.waiting.count());
    out.gauge("clients_waiting_for_primary", "Clients that wait until there is a primary", None, waiting)?;
    let Some(expires_at) = shared.tls.expires_at() else { return Ok(()) };
    let since = expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    out.gauge(
        "tls_certificate_expiry_timestamp",
        "When the first of the certificates that clients are shown expires, in seconds since 1970",
        Some(Unit::Seconds),
        since.as_secs_f64(),
    )
}

/// Clients and connections of each database and user.
fn pools(shared: &Shared, out: &mut Out<'_, '_>) -> fmt::Result {
    let now = u64::try_from(shared.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
    let pools = survey::pools(shared, now);
    let config = shared.config.load();
    let each = |value: &dyn Fn(&DatabaseAndUser, &PoolSurvey) -> f64| -> Vec<Sample<'_>> {
        pools.iter().map(|(names, pool)| (named(names), value(names, pool))).collect()
    };
    let mut put = |name, help, samples: &[Sample<'_>]| out.gauges(name, help, None, samples);
    put(
        "pool_clients_active",
        "Clients that wait for no server connection",
        &each(&|_, pool| float(pool.clients)),
    )?;
    put(
        "pool_clients_waiting",
        "Clients that wait for a server connection",
        &each(&|_, pool| float(pool.waiting)),
    )?;
    put("pool_servers_active", "Server connections that clients have", &each(&|_, pool| float(pool.active)))?;
    put("pool_servers_idle", "Server connections that nobody has", &each(&|_, pool| float(pool.idle)))?;
    put(
        "pool_servers_being_cancelled",
        "Server connections that a cancel request is on its way to",
        &each(&|_, pool| float(pool.being_cancelled)),
    )?;
    put(
        "pool_servers_opening",
        "Server connections that are being opened",
        &each(&|_, pool| float(pool.opening)),
    )?;
    let size = |(database, user): &DatabaseAndUser| float(config.pool.sizes_for(database, user).size);
    put("pool_size", "The most server connections per server: pool.size", &each(&|names, _| size(names)))?;
    put(
        "pool_pinned_size",
        "The most connections besides, per server, for pinned sessions: pool.pinned_size",
        &each(&|_, _| float(config.pool.pinned_size)),
    )?;
    let reasons = pools.iter().flat_map(|(names, pool)| {
        pool.pinned.iter().map(move |(reason, count)| {
            (named(names).into_iter().chain([("reason", reason.as_str())]).collect(), float(*count))
        })
    });
    put(
        "pool_pinned",
        "Sessions that keep their server connection, by why they do",
        &reasons.collect::<Vec<_>>(),
    )?;
    let longest = each(&|_, pool| seconds(pool.longest));
    out.gauges(
        "pool_longest_wait",
        "How long the client has waited that waits longest",
        Some(Unit::Seconds),
        &longest,
    )
}

/// What clients have had done, by database and user.
fn traffic(shared: &Shared, out: &mut Out<'_, '_>) -> fmt::Result {
    let all = shared.traffic.by_pool();
    let each = |value: &dyn Fn(&Sums) -> f64| -> Vec<Sample<'_>> {
        all.iter().map(|(names, sums)| (named(names), value(sums))).collect()
    };
    let count = |counter| each(&|sums| sums.of(counter) as f64);
    let time = |counter| each(&|sums| seconds(sums.of(counter)));
    let (bytes, secs) = (Some(Unit::Bytes), Some(Unit::Seconds));
    out.counters("transactions", "Transactions", None, &count(Counter::Transactions))?;
    out.counters("queries", "Queries: what ends with ReadyForQuery", None, &count(Counter::Queries))?;
    out.counters("assignments", "Server connections that were lent", None, &count(Counter::Assignments))?;
    out.counters("client_parses", "Parse messages of clients", None, &count(Counter::ClientParses))?;
    out.counters("server_parses", "Parse messages to servers", None, &count(Counter::ServerParses))?;
    out.counters("binds", "Bind messages", None, &count(Counter::Binds))?;
    out.counters("received", "What came from clients", bytes.clone(), &count(Counter::Received))?;
    out.counters("sent", "What came from servers", bytes, &count(Counter::Sent))?;
    out.counters("transaction", "Time in transactions", secs.clone(), &time(Counter::TransactionTime))?;
    out.counters("query", "Time in which servers worked", secs.clone(), &time(Counter::QueryTime))?;
    out.counters("wait", "Time that clients waited for server connections", secs, &time(Counter::WaitTime))
}

/// The servers, as they were seen last.
fn servers(shared: &Shared, out: &mut Out<'_, '_>) -> fmt::Result {
    let topology = Arc::clone(&shared.control.topology.borrow());
    let table = shared.backends.load();
    let config = shared.config.load();
    let ids: Vec<_> =
        config.nodes.iter().map(|node| (node, node.id.to_string(), node.port.to_string())).collect();
    let each = |value: &dyn Fn(&pgherd_health::Node) -> Option<f64>| -> Vec<Sample<'_>> {
        ids.iter()
            .filter_map(|(node, id, port)| {
                Some((
                    vec![("node", id.as_str()), ("host", node.host.as_str()), ("port", port.as_str())],
                    value(node)?,
                ))
            })
            .collect()
    };
    let member = |node: &pgherd_health::Node| topology.member(node.id);
    let head = topology.leadership.primary().and_then(|id| topology.member(id)).and_then(Member::furthest);
    let up = each(&|node| Some(flag(member(node).is_some_and(Member::is_alive))));
    out.gauges("server_up", "1 if the server answers", None, &up)?;
    let writes =
        each(&|node| Some(flag(matches!(&table.writes, Target::Open(server) if server.node.id == node.id))));
    out.gauges("server_takes_writes", "1 if writes go there", None, &writes)?;
    let reads = each(&|node| Some(flag(table.readable.iter().any(|server| server.node.id == node.id))));
    out.gauges("server_readable", "1 if it is a standby that may be read", None, &reads)?;
    let lag = each(&|node| Some(lag(head?, member(node)?.furthest()?)));
    out.gauges("server_lag", "How far its WAL is behind the primary's", Some(Unit::Bytes), &lag)?;
    let timeline = each(&|node| Some(f64::from(member(node)?.report()?.timeline.0)));
    out.gauges("server_timeline", "The timeline that it is on", None, &timeline)
}

/// What is decided about them.
fn failover(shared: &Shared, out: &mut Out<'_, '_>) -> fmt::Result {
    let status = Arc::clone(&shared.control.status.borrow());
    let names = StateName::ALL.map(|state| (state, state.to_string()));
    let states: Vec<_> = names
        .iter()
        .map(|(state, name)| (vec![("state", name.as_str())], flag(*state == status.state)))
        .collect();
    out.gauges("failover_state", "1 for the state of the failover machine", None, &states)?;
    let open = flag(matches!(shared.backends.load().writes, Target::Open(_)));
    out.gauge("writes_open", "1 if writes are served; 0 while they wait for a primary", None, open)?;
    let timeline = status.epoch.map_or(0.0, |epoch| f64::from(epoch.timeline.0));
    out.gauge("failover_timeline", "The timeline that is served; 0 if there is none", None, timeline)?;
    out.gauge(
        "failover_warnings",
        "Things that are wrong but stop nothing",
        None,
        float(status.warnings.len()),
    )
}

fn named((database, user): &DatabaseAndUser) -> Vec<(&'static str, &str)> {
    vec![("database", database), ("user", user)]
}

fn lag(head: Lsn, own: Lsn) -> f64 {
    head.bytes_since(own) as f64
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn float(count: usize) -> f64 {
    count as f64
}
