//! What all scenarios share: a [`Bed`] of stand-in storage and a wrapped Postgres, the
//! [`Compute`] process that runs on it, and the check that nothing is left behind.

mod archives;
mod bed;
mod compute;
mod fake_server;
mod folder;
mod free_port;
mod left;
mod ports;
mod refusal;
mod servers;
mod wait;

pub use archives::{Entry, gzip_tar};
pub use bed::{Bed, LSN_TEXT, hand_over, run_as_name};
pub use compute::Compute;
pub use fake_server::IMMORTAL;
pub use folder::{names, put, put_program};
pub use free_port::free_port;
pub use left::assert_nothing_left;
pub use ports::{ClosedPort, SilentPort};
pub use refusal::{Marked, try_start};
pub use servers::{on_every_server, on_one_server};
pub use wait::{eventually, position, until};

use std::time::Duration;

/// A test that waits longer than this for something has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);
