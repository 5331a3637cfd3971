//! Tests of the pages: what they cite and link to is there.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a check that finds something else than it expects has failed"
)]

mod citations;
