//! SHOW POOLS: one row for each database and user, whatever servers its connections are on.

use std::collections::BTreeMap;

use pgherd_protocol::rows::{Column, Row, Value};

use super::table::table;
use super::{Scene, int, number, text};
use crate::console::is_console;
use crate::reactor;
use crate::seat::Business;
use crate::server::table::DatabaseAndUser;

table! {
    /// SHOW POOLS
    POOLS, Shown {
        database = text("database"),
        user = text("user"),
        cl_active = int("cl_active"),
        cl_waiting = int("cl_waiting"),
        cl_active_cancel_req = int("cl_active_cancel_req"),
        cl_waiting_cancel_req = int("cl_waiting_cancel_req"),
        sv_active = int("sv_active"),
        sv_active_cancel = int("sv_active_cancel"),
        sv_being_canceled = int("sv_being_canceled"),
        sv_idle = int("sv_idle"),
        sv_used = int("sv_used"),
        sv_tested = int("sv_tested"),
        sv_login = int("sv_login"),
        maxwait = int("maxwait"),
        maxwait_us = int("maxwait_us"),
        pool_mode = text("pool_mode"),
        load_balance_hosts = text("load_balance_hosts"),
        pinned = text("pinned"),
    }
}

#[derive(Default)]
struct Pool {
    clients: i64,
    waiting: i64,
    active: i64,
    being_cancelled: i64,
    idle: i64,
    opening: usize,
    /// The longest wait, in microseconds.
    longest: u64,
    /// Sessions that keep their connections, by why they do.
    pinned: BTreeMap<String, usize>,
}

pub(super) fn pools(scene: &Scene<'_>) -> Vec<Row> {
    let shared = scene.shared();
    let mut pools: BTreeMap<DatabaseAndUser, Pool> = BTreeMap::new();
    let now = reactor::micros();
    for seat in shared.roster.all() {
        let card = seat.card();
        let pool = pools.entry(((&*card.database).into(), (&*card.user).into())).or_default();
        match seat.business().0 {
            Business::Waiting => {
                pool.waiting += 1;
                pool.longest = pool.longest.max(now.saturating_sub(card.asked()));
            }
            Business::Idle | Business::Holding(_) => pool.clients += 1,
        }
    }
    for (_, names, there) in shared.backends.pools(None) {
        let pool = pools.entry(names).or_default();
        for (pin, count) in there.pinned().iter() {
            *pool.pinned.entry(pin.to_string()).or_default() += count;
        }
        let glance = there.glance();
        pool.opening += glance.opening;
        for connection in glance.connections {
            if connection.idle_since.is_some() {
                pool.idle += 1;
            } else if connection.point.is_clear() {
                pool.active += 1;
            } else {
                pool.being_cancelled += 1;
            }
        }
    }
    let config = shared.config.load();
    let row = |((database, user), pool): (DatabaseAndUser, Pool)| {
        let mode =
            if is_console(&database) { "statement" } else { config.pool.mode_for(&database, &user).name() };
        let pinned: Vec<_> = pool.pinned.iter().map(|(pin, count)| format!("{pin} ({count})")).collect();
        Row::from(Shown {
            database: (&*database).into(),
            user: (&*user).into(),
            cl_active: number(pool.clients),
            cl_waiting: number(pool.waiting),
            cl_active_cancel_req: number(0),
            cl_waiting_cancel_req: number(0),
            sv_active: number(pool.active),
            sv_active_cancel: number(0),
            sv_being_canceled: number(pool.being_cancelled),
            sv_idle: number(pool.idle),
            sv_used: number(0),
            sv_tested: number(0),
            sv_login: pool.opening.into(),
            maxwait: (pool.longest / 1_000_000).into(),
            maxwait_us: (pool.longest % 1_000_000).into(),
            pool_mode: mode.into(),
            load_balance_hosts: Value::Null,
            pinned: pinned.join(", ").into(),
        })
    };
    pools.into_iter().map(row).collect()
}
