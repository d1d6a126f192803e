//! What clients see of pgherd, beside what they see of PostgreSQL itself.

#![allow(clippy::print_stderr, reason = "what was measured is part of a test's output")]

mod auth;
mod auth_files;
mod auth_tls;
mod cancel;
mod cancel_late;
mod carried;
mod console;
mod console_set;
mod copy;
mod copy_fails;
mod drain;
mod front;
mod in_band;
mod leaks;
mod leaving;
mod limits;
mod listening;
mod local_replies;
mod login;
mod peer;
mod pids;
mod pool;
mod prepared;
mod proxied;
mod reload;
mod replication;
mod resets;
mod restart;
mod server_tls;
mod session_defaults;
mod soak;
mod sql_prepared;
mod startup;
mod straddling;
mod strangers;
mod terminated;
mod threads;
mod timeouts;
mod tls;
mod tls_hostile;
mod tools;
mod unix_socket;
mod vacate;
mod violations;
