//! What the parts of the hot path cost by themselves. `cargo bench -p pgherd-hot-path`

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgherd_hot_path::{Player, Transaction};
use pgherd_protocol::auth::{NONCE_LEN, ScramClient, ScramSecret, ScramServer, ScramVerifier};
use pgherd_protocol::flow::BUFFER_LEN;
use pgherd_protocol::frame::backend_header;
use pgherd_protocol::statement::{RecentScans, Suspects, scan};
use pgherd_protocol::write;

/// What applications say.
const TEXTS: &[(&str, &str)] = &[
    ("select", "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;"),
    ("update", "UPDATE pgbench_accounts SET abalance = abalance + 17 WHERE aid = 12345;"),
    (
        "insert",
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);",
    ),
    ("begin", "BEGIN"),
    ("commit", "COMMIT"),
    (
        "user",
        "SELECT u.id, u.name, u.email, u.created_at FROM users AS u WHERE u.id = $1 AND u.deleted_at IS NULL LIMIT 1",
    ),
    (
        "join",
        "SELECT count(*) AS n, date_trunc('day', o.placed_at) AS day FROM orders AS o JOIN customers AS c ON c.id = o.customer_id \
         WHERE c.region IN ('north', 'south') AND o.total > 100 GROUP BY day ORDER BY day DESC LIMIT 50",
    ),
    ("sum", "SELECT coalesce(sum(amount), 0) FROM payments WHERE account_id = $1 AND state = 'settled'"),
    (
        "quoted",
        "SELECT \"posts\".\"id\", \"posts\".\"title\", \"posts\".\"body\" FROM \"posts\" WHERE \"posts\".\"author_id\" = $1 \
         ORDER BY \"posts\".\"published_at\" DESC LIMIT $2 OFFSET $3",
    ),
];
/// As many as a client with the protocol's default has to compute.
const ITERATIONS: u32 = 4096;

/// A transaction, from the client's request to the answer, without sockets.
fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transaction");
    for transaction in Transaction::all() {
        let mut player = Player::for_transaction(&transaction);
        group.bench_function(transaction.name, |bencher| bencher.iter(|| player.play(&transaction)));
    }
    group.finish();
}

/// Rows of 100 bytes, as many as a buffer has.
fn frames(criterion: &mut Criterion) {
    let mut rows = Vec::new();
    while rows.len() < BUFFER_LEN {
        write::message(&mut rows, b'D', |out| out.extend_from_slice(&[b'x'; 95]));
    }
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Bytes(rows.len() as u64));
    group.bench_function("headers of rows", |bencher| {
        bencher.iter(|| {
            let mut rest = black_box(&rows[..]);
            let mut count = 0;
            while let Ok(Some(header)) = backend_header(rest) {
                rest = rest.get(header.len..).unwrap_or_default();
                count += 1;
            }
            count
        });
    });
    group.finish();
}

/// A text that is looked at for the first time, and one that is remembered.
fn texts(criterion: &mut Criterion) {
    let (suspects, recent) = (Suspects::default(), RecentScans::default());
    let mut group = criterion.benchmark_group("text");
    for (name, text) in TEXTS {
        group.bench_function(format!("{name}, first"), |bencher| {
            bencher.iter(|| scan(black_box(text.as_bytes())));
        });
        group.bench_function(format!("{name}, again"), |bencher| {
            bencher.iter(|| recent.judge(black_box(text.as_bytes()), &suspects));
        });
    }
    group.finish();
}

/// pgherd's part in the login of a client: its time does not depend on the number of iterations.
fn logins(criterion: &mut Criterion) {
    let verifier = ScramVerifier::from_password(b"secret", b"sixteen bytes ok", ITERATIONS);
    let server = || ScramServer::new(Some(&verifier), "app", &[0; 32], &[1; NONCE_LEN]);
    let client = ScramClient::new(ScramSecret::Password(b"secret".to_vec().into()), &[2; NONCE_LEN]);
    let client_first = client.client_first();
    let (said, _) = server().first(&client_first).unwrap();
    let (client_final, _) = client.server_first(&said).unwrap();
    criterion.bench_function("scram, server's part", |bencher| {
        bencher.iter(|| {
            let (_, server) = server().first(black_box(&client_first)).unwrap();
            server.finish(black_box(&client_final)).unwrap()
        });
    });
}

criterion_group!(all, sessions, frames, texts, logins);
criterion_main!(all);
