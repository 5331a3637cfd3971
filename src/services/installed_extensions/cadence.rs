//! When extension statistics are collected (07 §2). The interval is twice the time after which an
//! idle compute is suspended, so that the collection cannot look like a user and keep it awake.

use std::time::Duration;

/// Interval in seconds where the spec says "never" or "as usual".
const USUAL: u64 = 3600;

/// The pauses between collections. They can become longer, never shorter.
#[derive(Debug)]
pub(crate) struct Cadence {
    /// Seconds.
    interval: u64,
    /// Seconds.
    sleep: u64,
}

impl Cadence {
    /// Starts with an interval in seconds, raised to 1 so that there is a pause.
    pub(crate) fn new(interval: u64) -> Self {
        let interval = interval.max(1);
        Self { interval, sleep: interval.saturating_mul(2) }
    }

    /// Starts with the `suspend_timeout_seconds` of a spec.
    pub(crate) fn of_spec(suspend_timeout: i64) -> Self {
        Self::new(interval(suspend_timeout))
    }

    /// Takes the `suspend_timeout_seconds` of a new spec, in force from the next collection on.
    pub(crate) fn follow(&mut self, suspend_timeout: i64) {
        self.interval = interval(suspend_timeout);
    }

    /// Updates the pause after a collection.
    pub(crate) fn collected(&mut self) {
        self.sleep = self.sleep.max(self.interval.saturating_mul(2));
    }

    /// Pause until the next collection.
    pub(crate) const fn pause(&self) -> Duration {
        Duration::from_secs(self.sleep)
    }
}

/// −1 is "never suspended", 0 "as usual"; other negative numbers have no meaning (weakness 44).
fn interval(suspend_timeout: i64) -> u64 {
    u64::try_from(suspend_timeout).ok().filter(|seconds| *seconds > 0).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_never_shrinks() {
        let mut cadence = Cadence::of_spec(2);
        let mut after = |suspend_timeout| {
            cadence.follow(suspend_timeout);
            let before = cadence.pause().as_secs();
            cadence.collected();
            (before, cadence.pause().as_secs())
        };
        assert_eq!(after(1), (4, 4));
        assert_eq!(after(5), (4, 10));
        assert_eq!(after(1), (10, 10));
        assert_eq!(after(0), (10, 7200));
    }

    #[test]
    fn odd_values() {
        for value in [-1, 0, -7, i64::MIN] {
            assert_eq!(Cadence::of_spec(value).pause().as_secs(), 7200, "{value}");
        }
        assert_eq!(Cadence::new(0).pause().as_secs(), 2);
        assert_eq!(Cadence::new(u64::MAX).pause().as_secs(), u64::MAX);
        assert_eq!(Cadence::new(3600).pause().as_secs(), 7200);
    }
}
