//! What operators, their scripts and their enemies see of the manager, on real clusters.

#![allow(clippy::print_stderr, reason = "what was measured is part of a test's output")]
#![allow(clippy::indexing_slicing, reason = "what is not there in JSON is null")]

mod access;
mod acting;
mod herd;
mod hostile;
mod live;
mod looking;
mod measured;
mod names;
mod pages;
mod proxies;
mod schema;
mod secrets;
mod steering;
mod web;
