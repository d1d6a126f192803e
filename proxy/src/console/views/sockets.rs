//! SHOW CLIENTS, SERVERS and SOCKETS: one row for each connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use pgherd_health::NodeId;
use pgherd_protocol::rows::{Column, Row, Value};

use super::table::{beside, table};
use super::{Scene, int, number, show_instant, show_time, text};
use crate::cancel::CancelPoint;
use crate::console::is_console;
use crate::peer::PeerAddress;
use crate::reactor;
use crate::roster::Card;
use crate::seat::{Business, Seat};
use crate::server::operate::Pooled;
use crate::server::pool::glance::Seen;

table! {
    /// SHOW SERVERS
    SERVERS, Connection {
        kind = text("type"),
        user = text("user"),
        database = text("database"),
        replication = text("replication"),
        state = text("state"),
        addr = text("addr"),
        port = int("port"),
        local_addr = text("local_addr"),
        local_port = int("local_port"),
        connect_time = text("connect_time"),
        request_time = text("request_time"),
        wait = int("wait"),
        wait_us = int("wait_us"),
        close_needed = int("close_needed"),
        ptr = text("ptr"),
        link = text("link"),
        remote_pid = int("remote_pid"),
        tls = text("tls"),
        application_name = text("application_name"),
        prepared_statements = int("prepared_statements"),
        id = int("id"),
    }
}

/// SHOW CLIENTS
pub(super) const CLIENTS: &[Column] = &beside::<22>(SERVERS, &[text("pinned")]);
/// SHOW SOCKETS and SHOW ACTIVE_SOCKETS
pub(super) const SOCKETS: &[Column] = &beside::<28>(SERVERS, BUFFERS);

const BUFFERS: &[Column] = &[
    int("recv_pos"),
    int("pkt_pos"),
    int("pkt_remain"),
    int("send_pos"),
    int("send_remain"),
    int("pkt_avail"),
    int("send_avail"),
];

/// SHOW PINS
pub(super) const PINS: &[Column] = &[
    int("id"),
    text("database"),
    text("user"),
    text("addr"),
    int("port"),
    text("application_name"),
    text("server"),
    int("server_pid"),
    text("reason"),
];

/// A client, and what it holds.
struct Client {
    seat: Arc<Seat>,
    state: &'static str,
    held: Option<Arc<CancelPoint>>,
    pin: Option<String>,
}

/// A server connection, and who holds it.
struct Server {
    pooled: Pooled,
    seen: Seen,
    holder: Option<Arc<Seat>>,
}

pub(super) fn clients(scene: &Scene<'_>) -> Vec<Row> {
    let row = |client: &Client| {
        let mut row = Row::from(client_shown(scene, client, ""));
        row.push(client.pin.clone().into());
        row
    };
    all_clients(scene).iter().map(row).collect()
}

pub(super) fn servers(scene: &Scene<'_>) -> Vec<Row> {
    all_servers(scene).iter().map(|server| server_shown(scene, server, "").into()).collect()
}

pub(super) fn sockets(scene: &Scene<'_>) -> Vec<Row> {
    sockets_of(scene, |_| true, |_| true)
}

pub(super) fn active_sockets(scene: &Scene<'_>) -> Vec<Row> {
    sockets_of(scene, |client| client.state != "idle", |server| server.seen.idle_since.is_none())
}

fn sockets_of(
    scene: &Scene<'_>,
    is_shown: impl Fn(&Client) -> bool,
    is_server_shown: impl Fn(&Server) -> bool,
) -> Vec<Row> {
    let (clients, servers) = (all_clients(scene), all_servers(scene));
    let clients = clients.iter().filter(|client| is_shown(client));
    let servers = servers.iter().filter(|server| is_server_shown(server));
    let clients = clients.map(|client| client_shown(scene, client, "cl_"));
    clients.chain(servers.map(|server| server_shown(scene, server, "sv_"))).map(with_buffers).collect()
}

pub(super) fn pins(scene: &Scene<'_>) -> Vec<Row> {
    let row = |client: &Client| {
        let card = client.seat.card();
        let (address, port) = peer(card);
        Some(vec![
            card.id.into(),
            (&*card.database).into(),
            (&*card.user).into(),
            address,
            port,
            application_name(card),
            client.held.as_ref().map(|point| point.address().to_string()).into(),
            client.held.as_ref().map(|point| i64::from(point.pid())).into(),
            client.pin.clone()?.into(),
        ])
    };
    all_clients(scene).iter().filter_map(row).collect()
}

fn all_clients(scene: &Scene<'_>) -> Vec<Client> {
    let client = |seat: Arc<Seat>| {
        let (business, pin) = seat.business();
        let (state, held) = match business {
            // What it shows is what it does.
            Business::Idle if is_console(&seat.card().database) => ("active", None),
            Business::Idle => ("idle", None),
            Business::Waiting => ("waiting", None),
            Business::Holding(point) => ("active", Some(point)),
        };
        Client { seat, state, held, pin: pin.map(|pin| pin.to_string()) }
    };
    scene.shared().roster.all().into_iter().map(client).collect()
}

fn all_servers(scene: &Scene<'_>) -> Vec<Server> {
    let mut holders: HashMap<*const CancelPoint, Arc<Seat>> = HashMap::new();
    for seat in scene.shared().roster.all() {
        if let Business::Holding(point) = seat.business().0 {
            holders.insert(Arc::as_ptr(&point), seat);
        }
    }
    let mut servers = Vec::new();
    for pooled in scene.shared().backends.pools(None) {
        for seen in pooled.2.glance().connections {
            let holder = holders.get(&Arc::as_ptr(&seen.point)).cloned();
            servers.push(Server {
                pooled: (Arc::clone(&pooled.0), pooled.1.clone(), Arc::clone(&pooled.2)),
                seen,
                holder,
            });
        }
    }
    servers
}

fn client_shown(scene: &Scene<'_>, client: &Client, prefix: &str) -> Connection {
    let card = client.seat.card();
    let (address, port) = peer(card);
    let waited = if client.state == "waiting" { reactor::micros().saturating_sub(card.asked()) } else { 0 };
    let remote_pid = match &card.peer.address {
        PeerAddress::Unix(unix) => i64::from(unix.pid),
        PeerAddress::Tcp(_) => 0,
    };
    Connection {
        kind: "C".into(),
        user: (&*card.user).into(),
        database: (&*card.database).into(),
        replication: card.replication.name().into(),
        state: format!("{prefix}{}", client.state).into(),
        addr: address,
        port,
        local_addr: card.local.as_ref().map_or_else(|| "unix".into(), |local| local.ip().to_string()).into(),
        local_port: card.local.as_ref().map_or(0, |local| i64::from(local.port())).into(),
        connect_time: show_time(card.connected_at).into(),
        request_time: Some(card.asked()).filter(|asked| *asked > 0).map(|asked| scene.time_of(asked)).into(),
        wait: (waited / 1_000_000).into(),
        wait_us: (waited % 1_000_000).into(),
        close_needed: number(i64::from(client.seat.is_dismissed())),
        ptr: client_name(card.id).into(),
        link: client.held.as_deref().map_or_else(String::new, server_name).into(),
        remote_pid: number(remote_pid),
        tls: card.peer.tls.as_ref().map_or_else(String::new, ToString::to_string).into(),
        application_name: application_name(card),
        prepared_statements: card.prepared.load(Ordering::Relaxed).into(),
        id: card.id.into(),
    }
}

fn server_shown(scene: &Scene<'_>, server: &Server, prefix: &str) -> Connection {
    let Server { pooled: (_, (database, user), _), seen, holder } = server;
    let (remote, local) = (seen.point.address(), seen.local);
    let state = match (&seen.idle_since, seen.point.is_clear()) {
        (Some(_), _) => "idle",
        (None, true) => "active",
        (None, false) => "being_canceled",
    };
    let asked = holder.as_ref().map(|seat| seat.card().asked()).filter(|asked| *asked > 0);
    Connection {
        kind: "S".into(),
        user: (&**user).into(),
        database: (&**database).into(),
        replication: "none".into(),
        state: format!("{prefix}{state}").into(),
        addr: remote.ip().to_string().into(),
        port: number(i64::from(remote.port())),
        local_addr: local.map(|local| local.ip().to_string()).into(),
        local_port: local.map(|local| i64::from(local.port())).into(),
        connect_time: show_instant(seen.opened_at).into(),
        request_time: asked
            .map(|asked| scene.time_of(asked))
            .or_else(|| seen.idle_since.map(show_instant))
            .into(),
        wait: number(0),
        wait_us: number(0),
        close_needed: number(i64::from(seen.is_to_close)),
        ptr: server_name(&seen.point).into(),
        link: holder.as_ref().map_or_else(String::new, |seat| client_name(seat.card().id)).into(),
        remote_pid: number(i64::from(seen.point.pid())),
        tls: seen.point.secured().map_or_else(String::new, ToString::to_string).into(),
        application_name: holder.as_ref().map_or_else(|| "".into(), |seat| application_name(seat.card())),
        prepared_statements: seen.point.prepared().into(),
        id: number(i64::from(seen.point.pid())),
    }
}

/// A client as pgpool's views show it.
pub(super) struct PgpoolClient<'a> {
    pub(super) id: u64,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
    pub(super) connected_at: SystemTime,
    pub(super) server: Option<&'a Seen>,
    pub(super) status: &'static str,
}

/// Calls `row` for each client.
pub(super) fn for_pgpool(scene: &Scene<'_>, row: impl Fn(PgpoolClient<'_>) -> Row) -> Vec<Row> {
    let servers = all_servers(scene);
    let each = |client: &Client| {
        let card = client.seat.card();
        let held = client.held.as_ref();
        let server =
            servers.iter().find(|server| held.is_some_and(|held| Arc::ptr_eq(held, &server.seen.point)));
        row(PgpoolClient {
            id: card.id,
            database: &card.database,
            user: &card.user,
            connected_at: card.connected_at,
            server: server.map(|server| &server.seen),
            status: if held.is_some() { "Execute command" } else { "Idle" },
        })
    };
    all_clients(scene).iter().map(each).collect()
}

/// A server connection as pgpool's views show it.
pub(super) struct PgpoolServer<'a> {
    pub(super) node: NodeId,
    pub(super) is_primary: bool,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
    pub(super) seen: &'a Seen,
    pub(super) holder: Option<&'a Card>,
}

/// Calls `row` for each server connection.
pub(super) fn servers_for_pgpool(scene: &Scene<'_>, row: impl Fn(PgpoolServer<'_>) -> Row) -> Vec<Row> {
    let each = |server: &Server| {
        let (there, (database, user), _) = &server.pooled;
        row(PgpoolServer {
            node: there.node.id,
            is_primary: there.is_primary(),
            database,
            user,
            seen: &server.seen,
            holder: server.holder.as_ref().map(|seat| seat.card()),
        })
    };
    all_servers(scene).iter().map(each).collect()
}

/// Where a client is: address and port.
pub(super) fn peer(card: &Card) -> (Value, Value) {
    match &card.peer.address {
        PeerAddress::Tcp(address) => (address.ip().to_string().into(), number(i64::from(address.port()))),
        PeerAddress::Unix(_) => ("unix".into(), number(0)),
    }
}

fn application_name(card: &Card) -> Value {
    card.parameters.lock().get("application_name").unwrap_or_default().into()
}

/// What PgBouncer has an address in memory for: it names a connection as long as that is there.
fn client_name(id: u64) -> String {
    format!("client-{id}")
}

fn server_name(point: &CancelPoint) -> String {
    format!("server-{}-{}", point.address(), point.pid())
}

/// pgherd lends a connection a buffer only while there are bytes in it, and nobody else can look into it.
fn with_buffers(connection: Connection) -> Row {
    let mut row = Row::from(connection);
    row.extend(BUFFERS.iter().map(|_| number(0)));
    row
}
