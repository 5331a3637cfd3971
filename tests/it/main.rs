//! Integration tests: the real binary against a real Postgres and stand-in storage that speaks the
//! real bytes. One scenario per file, named after the behaviour.
//!
//! Every test runs on each PostgreSQL that is found (see [`support::servers`]), unless it says that
//! it does not depend on the server.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a scenario that finds something else than it expects has failed"
)]

mod support;

mod bad_input;
mod configure_empty;
mod control_plane;
mod first_start;
mod ports_taken;
mod predecessor;
mod run_as;
mod spec_file;
mod usage_errors;
mod vanilla_server;
mod wipe;
mod wipe_mount_point;
