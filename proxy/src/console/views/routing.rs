//! SHOW ROUTING: how many queries of each database and user ran where, and why.

use pgherd_protocol::rows::{Column, Row, Value};

use super::table::table;
use super::{Scene, big, text};
use crate::server::table::DatabaseAndUser;
use crate::traffic::Reason;

table! {
    /// SHOW ROUTING
    ROUTING, Shown {
        database = text("database"),
        user = text("user"),
        runs_on = text("runs_on"),
        reason = text("reason"),
        queries = big("queries"),
        why = text("why"),
    }
}

pub(super) fn routing(scene: &Scene<'_>) -> Vec<Row> {
    let mut routed = scene.shared().traffic.routed();
    // What there is most of stands first.
    routed.sort_by(|(names, _, queries), (others, _, more)| (names, more).cmp(&(others, queries)));
    let row = |((database, user), reason, queries): (DatabaseAndUser, Reason, u64)| {
        Row::from(Shown {
            database: (&*database).into(),
            user: (&*user).into(),
            runs_on: reason.runs_on().into(),
            reason: reason.word().into(),
            queries: Value::Number(i64::try_from(queries).unwrap_or(i64::MAX)),
            why: reason.to_string().into(),
        })
    };
    routed.into_iter().map(row).collect()
}
