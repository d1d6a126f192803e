//! What it costs to look at a text, for the first time and when it is remembered. `cargo bench -p pgherd-protocol`

#![allow(clippy::print_stdout, reason = "what was measured is the output")]

use std::hint::black_box;
use std::time::Instant;

use pgherd_protocol::statement::{RecentScans, Suspects, scan};

/// What applications say.
const TEXTS: &[&str] = &[
    "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
    "UPDATE pgbench_accounts SET abalance = abalance + 17 WHERE aid = 12345;",
    "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);",
    "BEGIN",
    "COMMIT",
    "SELECT u.id, u.name, u.email, u.created_at FROM users AS u WHERE u.id = $1 AND u.deleted_at IS NULL LIMIT 1",
    "SELECT count(*) AS n, date_trunc('day', o.placed_at) AS day FROM orders AS o JOIN customers AS c ON c.id = o.customer_id \
     WHERE c.region IN ('north', 'south') AND o.total > 100 GROUP BY day ORDER BY day DESC LIMIT 50",
    "SELECT coalesce(sum(amount), 0) FROM payments WHERE account_id = $1 AND state = 'settled'",
    "SELECT \"posts\".\"id\", \"posts\".\"title\", \"posts\".\"body\" FROM \"posts\" WHERE \"posts\".\"author_id\" = $1 \
     ORDER BY \"posts\".\"published_at\" DESC LIMIT $2 OFFSET $3",
];
const ROUNDS: u32 = 40;
const TIMES: u32 = 1_000;

/// Nanoseconds a text, in the best of all rounds, since others use the machine: the median of the texts, and all of them.
fn measure(mut look: impl FnMut(&[u8])) -> (f64, Vec<f64>) {
    let mut all: Vec<f64> = TEXTS
        .iter()
        .map(|text| {
            let round = |_| {
                let begun = Instant::now();
                for _ in 0..TIMES {
                    look(black_box(text.as_bytes()));
                }
                begun.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
            };
            (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
        })
        .collect();
    all.sort_by(f64::total_cmp);
    (all.get(all.len() / 2).copied().unwrap_or_default(), all)
}

fn main() {
    let suspects = Suspects::default();
    let recent = RecentScans::default();
    let (first, all) = measure(|text| {
        black_box(scan(text));
    });
    println!("a text that is looked at: {first:.0} ns at the median, {all:.0?}");
    let (again, all) = measure(|text| {
        black_box(recent.judge(text, &suspects));
    });
    println!("a text that is remembered: {again:.0} ns at the median, {all:.0?}");
}
