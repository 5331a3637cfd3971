//! The tick behind `/live`.
//!
//! The driver's task keeps it: a driver that blocks its thread, or a runtime that no longer runs
//! tasks, stops the ticks. A task that waits does not stop them; every such wait has a deadline of
//! its own.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::duration::millis;
use crate::os::kernel_timer::KernelTimer;

/// Time between two ticks: several fit into the limit of `/live`, and each wakes an idle process.
pub(crate) const TICK: Duration = Duration::from_secs(2);

/// When the last tick was.
#[derive(Debug)]
pub struct Heartbeat {
    since: Instant,
    /// Milliseconds after `since`.
    last: AtomicU64,
}

impl Default for Heartbeat {
    /// The first tick is now.
    fn default() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Heartbeat {
    /// Ticks until dropped.
    pub async fn keep(&self, every: Duration) -> Infallible {
        let mut timer = KernelTimer::new();
        loop {
            self.last.store(millis(self.since.elapsed()), Relaxed);
            timer.sleep(every).await;
        }
    }

    /// Time since the last tick.
    pub fn age(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ticks_while_it_is_kept() {
        let heartbeat = Heartbeat::default();
        let shortly = Duration::from_millis(30);
        tokio::time::sleep(shortly).await;
        let stopped = heartbeat.age();
        assert!(stopped >= shortly, "{stopped:?}");
        tokio::select! {
            biased;
            never = heartbeat.keep(shortly) => match never {},
            () = std::future::ready(()) => {}
        }
        assert!(heartbeat.age() < stopped);
    }
}
