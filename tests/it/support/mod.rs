//! What all scenarios share: a [`Bed`] of stand-in storage and a wrapped Postgres, the
//! [`Compute`] process that runs on it, and the check that nothing is left behind.

mod bed;
mod check;
mod compute;
mod left;
mod servers;
mod vanilla;

pub use bed::{Bed, LSN_TEXT, MODE_PRIMARY, hand_over_tree};
pub use check::check;
pub use compute::Compute;
pub use left::assert_nothing_left;
pub use servers::{on_every_server, on_one_server};
pub use vanilla::Vanilla;

use std::time::Duration;

/// A test that waits longer than this for something has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);
