//! What all scenarios share: a [`Bed`] of stand-in storage and a wrapped Postgres, the
//! [`Compute`] process that runs on it, and the check that nothing is left behind.

mod archives;
mod bed;
mod check;
mod compute;
mod daemon;
mod dev;
mod fake_server;
mod folder;
mod free_port;
mod left;
mod neon_stub;
mod network;
mod ports;
mod private_mount;
mod refusal;
mod servers;
mod taken;
mod tls;
mod vanilla;
mod wait;

pub use archives::{Entry, gzip_tar};
pub use bed::{Bed, LSN_TEXT, hand_over, run_as_name};
pub use check::check;
pub use compute::Compute;
pub use daemon::{Collector, Daemon, Respawned, debian_program};
pub use dev::DevBed;
pub use fake_server::IMMORTAL;
pub use folder::{names, put, put_program};
pub use free_port::free_port;
pub use left::assert_nothing_left;
pub use neon_stub::NeonStub;
pub use network::Network;
pub use ports::{ClosedPort, SilentPort};
pub use private_mount::{may_mount, private_mount};
pub use refusal::{Marked, try_start};
pub use servers::{on_every_server, on_one_server};
pub use tls::{Pair, TlsFiles, copies, served};
pub use vanilla::Vanilla;
pub use wait::{eventually, last_position, until};

use std::path::PathBuf;
use std::time::Duration;

/// A test that waits longer than this for something has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Names another program to test than the one that was built with the tests.
const PROGRAM_VARIABLE: &str = "COMPUTE_CTL_TEST_PROGRAM";

/// The program under test.
pub fn program() -> PathBuf {
    let named = std::env::var_os(PROGRAM_VARIABLE);
    named.map_or_else(|| env!("CARGO_BIN_EXE_compute_ctl").into(), PathBuf::from)
}
