//! Which pageserver is asked next, when, and when a base backup is given up (06 §3.8, W3, W6).
//!
//! All pageservers of shard 0 take turns. One that has refused is not asked again. A pageserver may
//! wait for minutes before it answers (06 §3.7), so slow tries are counted as well: after
//! [`SLOW_ROUNDS`] rounds of them the base backup is given up.
//!
//! Pure: uses neither clock nor network.

use std::collections::VecDeque;
use std::time::Duration;

use super::errors::ErrorClass;
use crate::duration::varied;

/// Number of rounds over the pageservers that may be slow.
const SLOW_ROUNDS: u32 = 2;

/// A failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub class: ErrorClass,
    /// The try took so long that the next one needs no pause.
    pub slow: bool,
}

/// The tries of one base backup.
#[derive(Debug)]
pub(super) struct Rotation {
    /// Numbers of the pageservers that may still be asked; the front one is current.
    turns: VecDeque<u32>,
    retries: u32,
    first_pause: Duration,
    attempt: u32,
    slow: u32,
}

impl Rotation {
    /// Begins with pageserver 0 of this many.
    pub(super) fn new(pageservers: u32, retries: u32, first_pause: Duration) -> Self {
        Self { turns: (0..pageservers).collect(), retries, first_pause, attempt: 0, slow: 0 }
    }

    /// Number of the try, from 0, as the pauses count them.
    pub(super) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Number of the pageserver whose turn it is, from 0.
    pub(super) fn turn(&self) -> u32 {
        self.turns.front().copied().unwrap_or_default()
    }

    /// Records a failed try. Returns the pause before the next one, or `None` if this was the last.
    pub(super) fn next(&mut self, failure: Failure) -> Option<Duration> {
        let asked = self.turns.pop_front()?;
        match failure.class {
            ErrorClass::Local => return None,
            ErrorClass::Refused => {}
            ErrorClass::Transient => self.turns.push_back(asked),
        }
        self.slow += u32::from(failure.slow);
        let left = u32::try_from(self.turns.len()).unwrap_or(u32::MAX);
        // Without a pageserver left, `left` is 0, and this gives up too.
        if self.slow >= left.saturating_mul(SLOW_ROUNDS) || self.attempt >= self.retries {
            return None;
        }
        let at_once = failure.slow || failure.class == ErrorClass::Refused;
        let pause =
            if at_once { Duration::ZERO } else { varied(grown(self.first_pause, self.attempt)) };
        self.attempt += 1;
        Some(pause)
    }
}

/// Pause after a failed try, counted from 0: 500, 750, 1125, 1687 ms ... (06 §3.8). The callers vary
/// it.
pub(super) fn grown(first: Duration, attempt: u32) -> Duration {
    let exponent = i32::try_from(attempt).unwrap_or(i32::MAX).min(32);
    first.mul_f64(1.5_f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const TRANSIENT: Failure = Failure { class: ErrorClass::Transient, slow: false };
    const SLOW: Failure = Failure { slow: true, ..TRANSIENT };
    const REFUSED: Failure = Failure { class: ErrorClass::Refused, slow: false };
    const LOCAL: Failure = Failure { class: ErrorClass::Local, slow: false };

    /// The pageservers asked if the tries fail like this; one per failure if the rotation does not
    /// end.
    fn asked(pageservers: u32, failures: &[Failure]) -> Vec<u32> {
        let mut rotation = Rotation::new(pageservers, 10, FIRST);
        let mut asked = Vec::new();
        for failure in failures {
            asked.push(rotation.turn());
            if rotation.next(*failure).is_none() {
                break;
            }
        }
        asked
    }

    #[test]
    fn all_take_turns_ten_retries_long() {
        assert_eq!(asked(1, &[TRANSIENT; 20]), [0; 11]);
        assert_eq!(asked(3, &[TRANSIENT; 20]), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]);
    }

    #[test]
    fn a_pageserver_that_refused_is_not_asked_again() {
        assert_eq!(asked(1, &[REFUSED; 2]), [0]);
        assert_eq!(asked(2, &[REFUSED; 3]), [0, 1]);
        assert_eq!(asked(3, &[TRANSIENT, REFUSED, TRANSIENT, TRANSIENT, REFUSED]), [0, 1, 2, 0, 2]);
        assert_eq!(asked(3, &[LOCAL; 2]), [0]);
    }

    #[test]
    fn two_slow_rounds_are_enough() {
        assert_eq!(asked(1, &[SLOW; 5]), [0, 0]);
        assert_eq!(asked(2, &[SLOW; 9]), [0, 1, 0, 1]);
        assert_eq!(asked(2, &[REFUSED, SLOW, SLOW, SLOW]), [0, 1, 1]);
        assert_eq!(asked(1, &[SLOW, TRANSIENT, TRANSIENT, SLOW, TRANSIENT]), [0, 0, 0, 0]);
    }

    #[test]
    fn only_fast_failures_pause() {
        let mut rotation = Rotation::new(3, 10, FIRST);
        assert!(rotation.next(TRANSIENT).unwrap() >= FIRST / 2);
        assert_eq!(rotation.next(SLOW), Some(Duration::ZERO));
        assert_eq!(rotation.next(REFUSED), Some(Duration::ZERO));
        assert_eq!(rotation.attempt(), 3);
    }

    #[test]
    fn pauses_are_those_of_the_document() {
        for (attempt, millis) in
            [500, 750, 1125, 1687, 2531, 3796, 5695, 8542, 12814, 19221].into_iter().enumerate()
        {
            assert_eq!(grown(FIRST, attempt as u32).as_millis(), millis, "{attempt}");
        }
        assert!(grown(FIRST, u32::MAX) > FIRST);
    }
}
