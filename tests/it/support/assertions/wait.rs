//! Waiting for conditions that have no status of their own.

use std::future::Future;
use std::time::{Duration, Instant};

/// A longer wait means that a test has found a hang. Longer than every limit of the program that a
/// test leaves at its default, and than `initdb` takes on a machine that also builds.
pub const PATIENCE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(10);

/// Polls until the answer is yes; panics with `what` if that takes too long.
pub async fn until<F: Future<Output = bool>>(what: &str, ask: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !ask().await {
        assert!(Instant::now() < deadline, "still waiting until {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Polls until the condition holds; panics with `what` if that takes too long.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// The last position of a text in a log; panics if the text is not there.
#[track_caller]
pub fn last_position(log: &str, text: &str) -> usize {
    log.rfind(text).unwrap_or_else(|| panic!("no {text:?} in\n{log}"))
}
