//! Whether a refresh of the configuration is wanted, and whether it has to wait.

use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::traces::Parent;

/// The part of the guarded state that belongs to refreshes.
#[derive(Debug, Default)]
pub(super) struct RefreshState {
    /// A request waits for the driver.
    pub(super) wanted: bool,
    /// Place in its trace of the request that waits.
    pub(super) from: Option<Parent>,
    /// No fetch before this time.
    pub(super) rests_until: Option<Instant>,
}

impl RefreshState {
    /// Whether a fetch has to wait.
    pub(super) fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// Lets the next fetch wait. A time beyond the clock's range is not waited for.
    pub(super) fn rest(&mut self, limit: Duration) {
        self.rests_until = Instant::now().checked_add(limit);
    }
}
