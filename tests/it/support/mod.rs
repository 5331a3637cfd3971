//! What the scenarios share: a [`bed::Bed`] of stand-in storage and a wrapped Postgres, the
//! [`process::Compute`] that runs on it, and [`assertions::assert_nothing_left`] at the end.

pub mod assertions;
pub mod bed;
pub mod network;
pub mod process;
pub mod server;
pub mod sidecar;
