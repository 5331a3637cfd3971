//! Tests of the pages: what they cite and link to is there, what is generated is up to date, and the
//! commands on them run.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and its programs are no children of the supervisor"
)]

mod citations;
mod commands;
mod generated;
