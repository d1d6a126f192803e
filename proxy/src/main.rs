//! The binary `pgherd`.

#[allow(dead_code, reason = "the daemon does not call it yet")]
mod verifiers;

fn main() {}
