//! The program under test, in each of the ways in which it is run.

mod activity;
mod catalog;
mod check;
mod client;
mod compute;
mod dev;
mod refusal;
mod replica;
mod traps;

pub use catalog::{SCRAM, delta, rename, running_for_catalog};
pub use check::{check, check_with_env};
pub use client::{Ran, client, client_with_env};
pub use compute::Compute;
pub use dev::{Dev, DevBed};
pub use refusal::{Marked, try_start};
pub use replica::{Replica, lsn_number};
pub use traps::HERS;

use std::path::PathBuf;

/// Names another program to test than the one that was built with the tests.
const PROGRAM_VARIABLE: &str = "COMPUTE_CTL_TEST_PROGRAM";

/// The program under test.
pub fn program() -> PathBuf {
    let named = std::env::var_os(PROGRAM_VARIABLE);
    named.map_or_else(|| env!("CARGO_BIN_EXE_compute_ctl").into(), PathBuf::from)
}
