//! Integration tests: the real binary against a real Postgres and stand-in storage that speaks the
//! real bytes. One folder per subject, one scenario per file, named after the behaviour.
//!
//! A test runs on one of the PostgreSQL servers that are found, or on each of them if it says that
//! the version matters to it: see [`support::server`].

#![allow(
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a scenario that finds something else than it expects has failed"
)]

mod catalog;
mod cli;
mod conf;
mod ending;
#[cfg(feature = "testing")]
mod faults;
mod http;
mod model;
mod reconfigure;
mod services;
mod sidecars;
mod soak_verdict;
mod start;
mod storage;
mod support;
mod telemetry;
mod tenants;
mod vm_monitor;
