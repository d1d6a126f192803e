//! Each step against real servers.

#![allow(clippy::print_stderr, missing_docs)]

mod clone;
mod commands;
mod control;
mod herd;
mod rejoin;
mod sql;
mod steps;
mod tools;
