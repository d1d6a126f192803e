//! Benchmarks of pgherd beside its peers.
