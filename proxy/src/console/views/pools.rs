//! SHOW POOLS: one row for each database and user, whatever servers its connections are on.

use pgherd_protocol::rows::{Column, Row, Value};

use super::table::table;
use super::{Scene, int, number, text};
use crate::console::is_console;
use crate::reactor;
use crate::server::table::DatabaseAndUser;
use crate::survey::{self, PoolSurvey};

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

pub(super) fn pools(scene: &Scene<'_>) -> Vec<Row> {
    let shared = scene.shared();
    let config = shared.config.load();
    let row = |((database, user), pool): (DatabaseAndUser, PoolSurvey)| {
        let mode =
            if is_console(&database) { "statement" } else { config.pool.mode_for(&database, &user).name() };
        let pinned: Vec<_> = pool.pinned.iter().map(|(pin, count)| format!("{pin} ({count})")).collect();
        Row::from(Shown {
            database: (&*database).into(),
            user: (&*user).into(),
            cl_active: pool.clients.into(),
            cl_waiting: pool.waiting.into(),
            cl_active_cancel_req: number(0),
            cl_waiting_cancel_req: number(0),
            sv_active: pool.active.into(),
            sv_active_cancel: number(0),
            sv_being_canceled: pool.being_cancelled.into(),
            sv_idle: pool.idle.into(),
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
    survey::pools(shared, reactor::micros()).into_iter().map(row).collect()
}
