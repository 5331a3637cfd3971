//! What all scenarios share: a [`Bed`] of stand-in storage and a wrapped Postgres, the
//! [`Compute`] process that runs on it, and the check that nothing is left behind.

mod activity;
mod archives;
mod bed;
mod catalog;
mod check;
mod client;
mod compute;
mod control_plane;
mod daemon;
mod dev;
mod exposition;
mod fake_postgres;
mod fake_server;
mod folder;
mod free_port;
mod http_stub;
mod left;
mod neon_stub;
mod network;
mod ports;
mod private_mount;
mod refusal;
mod relocated;
mod replica;
mod servers;
mod taken;
mod tls;
mod tokens;
mod traps;
mod vanilla;
mod wait;
mod walsender;

pub use archives::{Entry, gzip_tar};
pub use bed::{Bed, LSN_TEXT, hand_over, run_as_name};
pub use catalog::{SCRAM, delta, rename, running_for_catalog};
pub use check::check;
pub use client::{client, client_with_env};
pub use compute::Compute;
pub use control_plane::{ControlPlane, answer};
pub use daemon::{Collector, Daemon, ONE_RSYSLOGD, Respawned, debian_program};
pub use dev::DevBed;
pub use exposition::{Family, Sample, families};
pub use fake_server::IMMORTAL;
pub use folder::{names, put, put_program};
pub use free_port::free_port;
pub use http_stub::{HttpStub, Reply};
pub use left::{assert_nothing_left, assert_nothing_left_in};
pub use neon_stub::NeonStub;
pub use network::Network;
pub use ports::{ClosedPort, SilentPort};
pub use private_mount::{may_mount, overlaid, private_mount};
pub use refusal::{Marked, try_start};
pub use relocated::Relocated;
pub use replica::{Replica, lsn_number};
pub use servers::{on_every_server, on_one_server, on_one_server_with, on_servers_with};
pub use tls::{Pair, TlsFiles, copies, served};
pub use tokens::{EdKey, hs256, part, rs256, rsa_jwk};
pub use traps::HERS;
pub use vanilla::Vanilla;
pub use wait::{eventually, last_position, until};
pub use walsender::WalReceiver;

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
