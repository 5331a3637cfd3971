//! Integration tests: the real binary against a real Postgres and stand-in storage that speaks the
//! real bytes. One scenario per file, named after the behaviour.
//!
//! Every test runs on each PostgreSQL that is found (see [`support::servers`]), unless it says that
//! it does not depend on the server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that panics is how it says what is wrong"
)]

mod support;

mod failed_start_stays;
mod final_sync_fails;
mod first_start;
mod neighbours;
mod orphans;
mod postgres_dies;
mod postgres_does_not_start;
mod reconfigure;
mod refresh;
mod server_log;
mod signal_in_each_phase;
mod signals;
mod terminate;
