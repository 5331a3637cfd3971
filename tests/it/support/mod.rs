//! What all scenarios share: a [`Bed`] of stand-in storage and a wrapped Postgres, the
//! [`Compute`] process that runs on it, and the check that nothing is left behind.

mod bed;
mod compute;
mod left;
mod servers;
mod tls;

pub use bed::{Bed, LSN_TEXT, MODE_PRIMARY};
pub use compute::Compute;
pub use left::assert_nothing_left;
pub use servers::{on_every_server, on_one_server};
pub use tls::{Pair, TlsFiles, copies, served};

use std::time::Duration;

/// A test that waits longer than this for something has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);
