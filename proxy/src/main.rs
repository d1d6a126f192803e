//! The binary `pgherd`.

fn main() {}
