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

mod check_document;
mod check_probe;
mod check_show_conf;
mod conf_as_postgres_reads_it;
mod conf_refused;
mod conf_subscribers;
mod conf_values;
mod first_start;
