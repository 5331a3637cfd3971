//! Tests of the pages: citations and links have a target, generated parts are up to date, and the
//! commands run.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and the supervisor does not own its programs"
)]

mod citations;
mod commands;
mod faults;
mod generated;
mod last_release;
mod man;
mod metrics;
mod monitoring;
