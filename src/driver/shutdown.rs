//! Signals to the process as the driver and the end of the process see them (01 §18.3).
//!
//! `--stop-timeout` bounds everything between the first signal and the exit: the stop ladder and
//! all the cleanup after it. The clock starts with the signal, and every later step asks for its
//! limit here. Each step gets at most half of what is left, so that any number of steps stays
//! within the total.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::postgres::limits::PostgresLimits;
use crate::postgres::stop::StopLadder;

/// Limit of a step after the second signal: enough to notice what has already ended.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Signals to the process.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Cancelled by the first signal: stop Postgres by the ladder, sync nothing, exit within
    /// `--stop-timeout`.
    pub requested: CancellationToken,
    /// Cancelled by the second signal: end everything at once.
    pub at_once: CancellationToken,
    /// When the first signal came.
    since: Arc<OnceLock<Instant>>,
}

impl Stop {
    /// Records a signal.
    pub fn signal(&self) {
        if self.since.set(Instant::now()).is_ok() {
            self.requested.cancel();
        } else {
            self.at_once.cancel();
        }
    }

    /// What is left of `total` (`--stop-timeout`); all of it before the first signal.
    fn left(&self, total: Duration) -> Duration {
        total.saturating_sub(self.since.get().map_or(Duration::ZERO, Instant::elapsed))
    }

    /// The limit of one shutdown step whose usual limit is `usual`.
    pub fn limit(&self, usual: Duration, total: Duration) -> Duration {
        if self.at_once.is_cancelled() {
            usual.min(AT_ONCE)
        } else if self.requested.is_cancelled() {
            usual.min(self.left(total) / 2)
        } else {
            usual
        }
    }

    /// The stop ladder after a signal that leaves `total`, and the limits of the steps right after
    /// it. The ladder gets most of what is left, since the cleanup usually takes no time.
    pub fn ladder(&self, total: Duration, usual: &PostgresLimits) -> (StopLadder, PostgresLimits) {
        let left = self.left(total);
        let clean_up = left * 3 / 20;
        let share = clean_up / 4;
        let hurried = PostgresLimits {
            kill: usual.kill.min(share),
            log_drain: usual.log_drain.min(share),
            ..*usual
        };
        (StopLadder::within(left - clean_up), hurried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn all_steps_together_fit_the_total() {
        for total in [SECOND, 7 * SECOND] {
            let stop = Stop::default();
            assert_eq!(stop.limit(5 * SECOND, total), 5 * SECOND, "no signal, no hurry");
            stop.signal();
            let began = Instant::now();
            // Every step takes all the time that it may.
            let (ladder, hurried) = stop.ladder(total, &PostgresLimits::default());
            assert!(ladder.total() >= total * 4 / 5, "{ladder:?}");
            tokio::time::sleep(ladder.total() + hurried.kill + hurried.log_drain).await;
            for _ in 0..10 {
                tokio::time::sleep(stop.limit(5 * SECOND, total)).await;
            }
            assert!(began.elapsed() <= total + Duration::from_millis(10), "{:?}", began.elapsed());
            assert!(!stop.at_once.is_cancelled());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_second_signal_there_is_no_time_left() {
        let stop = Stop::default();
        stop.signal();
        assert!(stop.requested.is_cancelled() && !stop.at_once.is_cancelled());
        stop.signal();
        assert!(stop.at_once.is_cancelled());
        assert_eq!(stop.limit(5 * SECOND, 7 * SECOND), AT_ONCE);
    }
}
