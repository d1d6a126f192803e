//! A transaction that passes allocates nothing: neither in the session machine nor where its text is looked up.

use allocation_counter::measure;
use pgherd_hot_path::{Player, Transaction};

#[test]
fn a_transaction_allocates_nothing() {
    for transaction in Transaction::all() {
        let mut player = Player::for_transaction(&transaction);
        let mut passed = 0;
        // On this thread alone: what runs the tests allocates on its own.
        let counted = measure(|| passed = (0..100).map(|_| player.play(&transaction)).sum());
        assert_eq!(counted.count_total, 0, "{}: {passed} bytes have passed", transaction.name);
    }
    // What is counted is seen.
    assert_eq!(measure(|| drop(std::hint::black_box(vec![1]))).count_total, 1);
}
