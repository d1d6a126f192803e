//! What happens to clients when servers, or pgherd itself, are lost. Scenarios on real clusters.

#![allow(clippy::print_stderr, reason = "what was measured is part of a test's output")]

mod all_lost;
mod balancer;
mod campaign;
mod candidate_fails;
mod cascade;
mod cold_start;
mod commands;
mod cut_off;
mod descriptors;
mod discovery;
mod endurance;
mod executors;
mod forks;
mod herd;
mod impostor;
mod killed;
mod location;
mod old_primary;
mod other_deciders;
mod outage;
mod own_writes;
mod primary_lost;
mod read_only;
mod reads;
mod reclone;
mod reload;
mod restart;
mod scenarios;
mod session_mode;
mod session_reads;
mod several;
mod slots;
mod standby_lost;
mod standby_reads;
mod switchover;
