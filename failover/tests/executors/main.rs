//! Each step against real servers.

#![allow(clippy::print_stderr, missing_docs)]

mod commands;
mod herd;
mod sql;
mod steps;
