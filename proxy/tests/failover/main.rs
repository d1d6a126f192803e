//! What happens to clients when servers, or pgherd itself, are lost. Scenarios on real clusters.

#![allow(clippy::print_stderr, reason = "what was measured is part of a test's output")]

mod campaign;
mod cold_start;
mod descriptors;
mod herd;
mod outage;
mod primary_lost;
mod reload;
mod restart;
mod standby_lost;
mod switchover;
