//! Waiting for something that has no status of its own.

use std::future::Future;
use std::time::{Duration, Instant};

/// A test that waits longer than this for something has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(10);

/// Asks until the answer is yes; panics with `what` when it never is.
pub async fn until<F: Future<Output = bool>>(what: &str, ask: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !ask().await {
        assert!(Instant::now() < deadline, "still waiting until {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Looks until it is so; panics with `what` when it never is.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Where a text is in a log for the last time; panics if it is not there.
#[track_caller]
pub fn last_position(log: &str, text: &str) -> usize {
    log.rfind(text).unwrap_or_else(|| panic!("no {text:?} in\n{log}"))
}
