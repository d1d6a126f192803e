//! A transaction that passes allocates nothing: neither in the session machine nor where its text is looked up.

use pgherd_hot_path::{Player, Transaction};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

#[test]
fn a_transaction_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for transaction in Transaction::all() {
        let mut player = Player::for_transaction(&transaction);
        let before = dhat::HeapStats::get().total_blocks;
        let passed: usize = (0..100).map(|_| player.play(&transaction)).sum();
        let after = dhat::HeapStats::get().total_blocks;
        assert_eq!(after - before, 0, "{}: {passed} bytes have passed", transaction.name);
    }
    // What is counted is seen.
    let before = dhat::HeapStats::get().total_blocks;
    drop(std::hint::black_box(vec![1]));
    assert_eq!(dhat::HeapStats::get().total_blocks - before, 1);
}
