//! What each client has written, and whether it is in the table.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::history::Outcome;
use crate::server::Server;

/// The table, which clients write to in all the ways that there are.
pub(super) const SCHEMA: &str = "CREATE TABLE ledger (client int, seq bigint, row int); CREATE INDEX ON ledger (client, seq); \
     CREATE TABLE wide (n int PRIMARY KEY, body text); \
     INSERT INTO wide SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 2000) n; \
     GRANT ALL ON ledger, wide TO app; ANALYZE";

/// What a client was told of each of its writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Vec<Entry>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    sequence: u64,
    rows: u32,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    There,
    NotThere,
    Unknown,
}

impl Ledger {
    /// A write of so many rows has ended like this.
    pub(super) fn note(&mut self, sequence: u64, rows: u32, outcome: &Outcome) {
        let fate = match outcome {
            Outcome::Acknowledged | Outcome::AcknowledgedLocally { .. } => Fate::There,
            Outcome::Refused { .. } => Fate::NotThere,
            Outcome::Unknown { .. } => Fate::Unknown,
        };
        self.0.push(Entry { sequence, rows, fate });
    }

    /// Rows that must be there, and those of which that is not known.
    pub(super) fn rows(&self) -> (u64, u64) {
        let sum = |fate| self.0.iter().filter(|it| it.fate == fate).map(|it| u64::from(it.rows)).sum();
        (sum(Fate::There), sum(Fate::Unknown))
    }

    /// Holds it against the table; gives what is wrong, and how many rows there are.
    pub(super) async fn audit(&self, client: u32, server: &Server) -> Result<(Vec<String>, u64)> {
        let session = server.connect("app", "app").await?;
        let sql = format!("SELECT seq, count(*) FROM ledger WHERE client = {client} GROUP BY seq");
        let mut there = BTreeMap::new();
        for row in session.query(&sql, &[]).await? {
            there
                .insert(u64::try_from(row.try_get::<_, i64>(0)?)?, u64::try_from(row.try_get::<_, i64>(1)?)?);
        }
        Ok((self.compare(client, there.clone()), there.values().sum()))
    }

    fn compare(&self, client: u32, mut there: BTreeMap<u64, u64>) -> Vec<String> {
        let mut wrong = Vec::new();
        for Entry { sequence, rows, fate } in &self.0 {
            let found = there.remove(sequence).unwrap_or_default();
            let right = match fate {
                Fate::There => found == u64::from(*rows),
                Fate::NotThere => found == 0,
                Fate::Unknown => found == 0 || found == u64::from(*rows),
            };
            if !right {
                wrong.push(format!("client {client}, write {sequence}, {fate:?}: {found} rows of {rows}"));
            }
        }
        wrong.extend(there.keys().map(|sequence| format!("client {client} never wrote {sequence}")));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.note(1, 1, &Outcome::Acknowledged);
        ledger.note(2, 50, &Outcome::Refused { sqlstate: "40001".to_owned() });
        ledger.note(3, 50, &Outcome::Unknown { sqlstate: "08007".to_owned() });
        ledger
    }

    #[test]
    fn what_was_told_is_held_against_what_is_there() {
        let wrong = |there: &[(u64, u64)]| ledger().compare(7, there.iter().copied().collect()).len();
        assert_eq!(wrong(&[(1, 1)]), 0);
        assert_eq!(wrong(&[(1, 1), (3, 50)]), 0);
        assert_eq!(wrong(&[(3, 50)]), 1, "it was acknowledged");
        assert_eq!(wrong(&[(1, 2)]), 1, "it is there twice");
        assert_eq!(wrong(&[(1, 1), (2, 50)]), 1, "it was refused");
        assert_eq!(wrong(&[(1, 1), (3, 20)]), 1, "half of it is there");
        assert_eq!(wrong(&[(1, 1), (4, 1)]), 1, "nobody wrote that");
        assert_eq!(ledger().rows(), (1, 50));
    }
}
