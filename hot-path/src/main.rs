//! Plays so many transactions, for a tool that counts what that takes: `transactions simple 1000`. See `scripts/hot-path-instructions`.
#![allow(clippy::print_stdout, reason = "what has passed is the output")]

use std::process::ExitCode;

use pgherd_hot_path::{Player, Transaction};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (name, count) = (arguments.next(), arguments.next().and_then(|count| count.parse::<u32>().ok()));
    let transaction = Transaction::all().into_iter().find(|it| Some(it.name) == name.as_deref());
    let (Some(transaction), Some(count)) = (transaction, count) else {
        println!("usage: transactions simple|extended|repeated|prepared COUNT");
        return ExitCode::FAILURE;
    };
    let mut player = Player::for_transaction(&transaction);
    println!("{} bytes", (0..count).map(|_| player.play(&transaction)).sum::<usize>());
    ExitCode::SUCCESS
}
