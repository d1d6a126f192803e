//! Clients that read, and what they must see.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::workload::{LOGIN_PAUSE, Workload, last_word};
use super::{Read, Record, Row, Seen, bank};
use crate::client::{Answer, RawClient};

/// A client that reads the sum of all accounts, again and again.
pub(super) struct Reader {
    pub(super) workload: Arc<Workload>,
    pub(super) record: Record,
    pub(super) stop: CancellationToken,
}

impl Reader {
    pub(super) async fn run(mut self) -> Record {
        while !self.stop.is_cancelled() {
            match self.workload.login().await {
                Ok(connection) => self.read_until_lost(connection).await,
                Err(error) => {
                    self.record.logins_failed.push(format!("{error:#}"));
                    sleep(LOGIN_PAUSE).await;
                }
            }
        }
        self.record
    }

    async fn read_until_lost(&mut self, mut connection: RawClient) {
        while !self.stop.is_cancelled() {
            let begun = Instant::now();
            let answer = connection.query(bank::SUM).await;
            let connected = answer.is_ok();
            let seen = judge(answer, |value| {
                let right = value == Some(&bank::TOTAL.to_string());
                if right { Seen::Right } else { Seen::WrongSum(format!("{value:?}")) }
            });
            self.record.reads.push(Read { begun, ended: Instant::now(), seen });
            if !connected {
                self.record.connections_lost += 1;
                return;
            }
            sleep(self.workload.pause).await;
        }
    }
}

/// Reads a row that was just acknowledged on the same connection; true if that can be used further.
pub(super) async fn read_back(connection: &mut RawClient, row: Row) -> (Read, bool) {
    let begun = Instant::now();
    let Row { client, sequence } = row;
    let sql = format!("SELECT count(*) FROM history WHERE client = {client} AND seq = {sequence}");
    let answer = connection.query(&sql).await;
    let connected = answer.is_ok();
    let seen =
        judge(
            answer,
            |value| if value.is_some_and(|it| it == "1") { Seen::Right } else { Seen::Missing(row) },
        );
    (Read { begun, ended: Instant::now(), seen }, connected)
}

fn judge(answer: Result<Answer>, right: impl FnOnce(Option<&String>) -> Seen) -> Seen {
    match answer {
        Err(error) => Seen::Refused { sqlstate: last_word(&error) },
        Ok(answer) => match answer.error() {
            Some(error) => Seen::Refused { sqlstate: error.code().to_owned() },
            None => right(answer.value().as_ref()),
        },
    }
}
