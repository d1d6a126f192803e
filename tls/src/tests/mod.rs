//! Handshakes in memory with servers of all kinds of certificates.

mod authority;
mod end_points;
mod handshakes;
mod loading;
