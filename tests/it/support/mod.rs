//! What all scenarios share: a [`Bed`] of stand-in storage and a wrapped Postgres, the
//! [`Compute`] process that runs on it, and the check that nothing is left behind.

mod archives;
mod bed;
mod compute;
mod left;
mod ports;
mod servers;

pub use archives::{Entry, gzip_tar};
pub use bed::{Bed, LSN_TEXT, MODE_PRIMARY};
pub use compute::Compute;
pub use left::assert_nothing_left;
pub use ports::{ClosedPort, SilentPort};
pub use servers::{on_every_server, on_one_server};

use std::time::{Duration, Instant};

/// A test that waits longer than this for something has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that cannot be listened for.
pub async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
