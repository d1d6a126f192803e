//! Transfers between accounts, each in the transaction of a row: what the accounts must hold follows from the rows that are
//! there. A transfer of which only half took effect, or one that took effect twice, shows.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::Row;
use super::workload::rows;
use crate::client::Session;

const ACCOUNTS: i64 = 16;
const BEGINS_WITH: i64 = 1000;

/// The sum of all accounts, which never changes.
pub(super) const SUM: &str = "SELECT sum(balance) FROM account";
pub(super) const TOTAL: i64 = ACCOUNTS * BEGINS_WITH;

/// The statements that make the accounts.
pub(super) fn make() -> String {
    format!(
        "DROP TABLE IF EXISTS account; CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL); \
         INSERT INTO account SELECT id, {BEGINS_WITH} FROM generate_series(0, {ACCOUNTS} - 1) id"
    )
}

/// What the transaction of a row moves.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    from: i64,
    to: i64,
    amount: i64,
}

impl Transfer {
    fn of(row: Row) -> Self {
        let from = (i64::from(row.client) * 5 + row.sequence * 7).rem_euclid(ACCOUNTS);
        let to = (from + 1 + row.sequence.rem_euclid(ACCOUNTS - 1)) % ACCOUNTS;
        Self { from, to, amount: 1 + row.sequence.rem_euclid(9) }
    }
}

/// The statements of the transfer that belongs to a row. All clients take the accounts in the same order, so that none waits for
/// another in a circle.
pub(super) fn transfer(row: Row) -> [String; 2] {
    let Transfer { from, to, amount } = Transfer::of(row);
    let mut changes = [(from, -amount), (to, amount)];
    changes.sort_unstable();
    changes.map(|(id, change)| format!("UPDATE account SET balance = balance + {change} WHERE id = {id}"))
}

/// Holds the accounts against the rows, of which those that `transfers` says have moved something; gives what is wrong.
pub(super) async fn audit(session: &Session, transfers: impl Fn(Row) -> bool) -> Result<Vec<String>> {
    // One snapshot for both tables.
    session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let rows = rows(session).await?;
    let accounts = session.query("SELECT id, balance FROM account", &[]).await?;
    session.batch_execute("COMMIT").await?;
    let mut balances = BTreeMap::new();
    for account in accounts {
        balances.insert(account.try_get(0).context("id")?, account.try_get(1).context("balance")?);
    }
    Ok(compare(rows.into_iter().filter(|row| transfers(*row)), &balances))
}

fn compare(rows: impl Iterator<Item = Row>, balances: &BTreeMap<i64, i64>) -> Vec<String> {
    let mut expected: BTreeMap<i64, i64> = (0..ACCOUNTS).map(|id| (id, BEGINS_WITH)).collect();
    for Transfer { from, to, amount } in rows.map(Transfer::of) {
        *expected.entry(from).or_default() -= amount;
        *expected.entry(to).or_default() += amount;
    }
    let wrong = expected.iter().filter(|(id, balance)| balances.get(id) != Some(balance));
    wrong
        .map(|(id, balance)| format!("account {id} holds {:?} and must hold {balance}", balances.get(id)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sequence: i64) -> Row {
        Row { client: 3, sequence }
    }

    fn balances(of: &[i64]) -> BTreeMap<i64, i64> {
        let mut balances: BTreeMap<i64, i64> = (0..ACCOUNTS).map(|id| (id, BEGINS_WITH)).collect();
        for sequence in of {
            let Transfer { from, to, amount } = Transfer::of(row(*sequence));
            *balances.get_mut(&from).unwrap() -= amount;
            *balances.get_mut(&to).unwrap() += amount;
        }
        balances
    }

    #[test]
    fn a_transfer_that_took_effect_twice_or_only_in_half_is_found() {
        let rows = || (1..100).map(row);
        let all: Vec<i64> = (1..100).collect();
        assert!(compare(rows(), &balances(&all)).is_empty());
        let twice = balances(&[&all[..], &[50]].concat());
        assert_eq!(compare(rows(), &twice).len(), 2);
        let mut half = balances(&all);
        *half.get_mut(&Transfer::of(row(50)).from).unwrap() += 1;
        assert_eq!(compare(rows(), &half).len(), 1);
    }

    #[test]
    fn nobody_moves_money_to_the_account_that_it_comes_from() {
        for sequence in 0..1000 {
            let Transfer { from, to, amount } = Transfer::of(row(sequence));
            assert!(from != to && amount > 0 && (0..ACCOUNTS).contains(&to), "{sequence}");
        }
    }
}
