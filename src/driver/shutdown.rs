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

/// Signals that arrive together mean one wish: GNU `timeout` signals a process and then its group, and
/// an impatient user presses Ctrl-C twice.
const TOGETHER: Duration = Duration::from_millis(500);

/// What a signal means that came after an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The first one: an orderly end.
    End,
    /// Counts as one with the first.
    Repeated,
    /// A second one: end everything at once.
    AtOnce,
}

/// `since_first` is the time since the first signal; `None` for the first one itself.
fn meaning(since_first: Option<Duration>) -> Meaning {
    match since_first {
        None => Meaning::End,
        Some(passed) if passed < TOGETHER => Meaning::Repeated,
        Some(_) => Meaning::AtOnce,
    }
}

/// Signals to the process.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Cancelled by the first signal: stop Postgres by the ladder, sync nothing, exit within
    /// `--stop-timeout`.
    pub requested: CancellationToken,
    /// Cancelled by a second signal that did not come together with the first: end everything at
    /// once.
    pub at_once: CancellationToken,
    /// When the first signal came.
    since: Arc<OnceLock<Instant>>,
}

impl Stop {
    /// Records a signal.
    pub fn signal(&self) -> Meaning {
        let now = Instant::now();
        let first = *self.since.get_or_init(|| now);
        let since_first = self.requested.is_cancelled().then(|| now.duration_since(first));
        let meaning = meaning(since_first);
        match meaning {
            Meaning::End => self.requested.cancel(),
            Meaning::Repeated => {}
            Meaning::AtOnce => self.at_once.cancel(),
        }
        meaning
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
    async fn the_steps_right_after_the_ladder_get_a_share_of_what_is_left() {
        let stop = Stop::default();
        stop.signal();
        let usual = PostgresLimits::default();
        let (ladder, hurried) = stop.ladder(20 * SECOND, &usual);
        assert_eq!(ladder.total(), 17 * SECOND);
        assert_eq!((hurried.kill, hurried.log_drain), (SECOND * 3 / 4, SECOND * 3 / 4));
        // With a lot of time no step gets more than usually.
        let (_, hurried) = stop.ladder(10_000 * SECOND, &usual);
        assert_eq!((hurried.kill, hurried.log_drain), (usual.kill, usual.log_drain));
    }

    #[test]
    fn signals_within_half_a_second_are_one() {
        let millis = |millis| meaning(Some(Duration::from_millis(millis)));
        assert_eq!(meaning(None), Meaning::End);
        for (passed, expected) in [
            (0, Meaning::Repeated),
            (1, Meaning::Repeated),
            (499, Meaning::Repeated),
            (500, Meaning::AtOnce),
            (60_000, Meaning::AtOnce),
        ] {
            assert_eq!(millis(passed), expected, "{passed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_that_follows_at_once_has_no_effect_of_its_own() {
        let stop = Stop::default();
        assert_eq!(stop.signal(), Meaning::End);
        for _ in 0..2 {
            tokio::time::sleep(TOGETHER / 3).await;
            assert_eq!(stop.signal(), Meaning::Repeated);
        }
        assert!(!stop.at_once.is_cancelled());
        // Counted from the first one, so that a key held down ends it as well.
        tokio::time::sleep(TOGETHER / 2).await;
        assert_eq!(stop.signal(), Meaning::AtOnce);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_second_signal_there_is_no_time_left() {
        let stop = Stop::default();
        stop.signal();
        assert!(stop.requested.is_cancelled() && !stop.at_once.is_cancelled());
        tokio::time::sleep(TOGETHER).await;
        assert_eq!(stop.signal(), Meaning::AtOnce);
        assert!(stop.at_once.is_cancelled());
        assert_eq!(stop.limit(5 * SECOND, 7 * SECOND), AT_ONCE);
    }
}
