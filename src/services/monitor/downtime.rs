//! For how long Postgres has not answered (07 §1.4). Measured by the monotonic clock, so that a
//! step of the wall clock neither makes nor hides downtime.

use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::duration::millis;
use crate::telemetry::metrics::Metrics;

/// Keeps the two downtime metrics.
#[derive(Debug)]
pub(super) struct Downtime {
    last_up: Instant,
    last_up_wall: DateTime<Utc>,
    last_pass: Instant,
    current: Duration,
    total: Duration,
    metrics: Metrics,
}

impl Downtime {
    /// Starts from an answer of Postgres a moment ago.
    pub(super) fn new(metrics: Metrics) -> Self {
        let now = Instant::now();
        Self {
            last_up: now,
            last_up_wall: Utc::now(),
            last_pass: now,
            current: Duration::ZERO,
            total: Duration::ZERO,
            metrics,
        }
    }

    /// A check succeeded.
    pub(super) fn up(&mut self) {
        self.up_at(Instant::now());
    }

    fn up_at(&mut self, now: Instant) {
        (self.last_up, self.last_up_wall, self.last_pass) = (now, Utc::now(), now);
        self.current = Duration::ZERO;
        self.metrics.pg_current_downtime_ms.set(0);
    }

    /// A check failed. The time since the check before counts as downtime.
    pub(super) fn down(&mut self) {
        self.down_at(Instant::now());
    }

    fn down_at(&mut self, now: Instant) {
        // The difference of totals, so that no part of a millisecond is lost or counted twice.
        let before = millis(self.total);
        self.total = self.total.saturating_add(now.saturating_duration_since(self.last_pass));
        self.metrics.pg_downtime_ms.inc_by(millis(self.total).saturating_sub(before));
        self.last_pass = now;
        self.current = now.saturating_duration_since(self.last_up);
        let current = i64::try_from(millis(self.current)).unwrap_or(i64::MAX);
        self.metrics.pg_current_downtime_ms.set(current);
    }
}

/// The text of the log field `downtime_info`.
impl fmt::Display for Downtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last_up = self.last_up_wall.to_rfc3339_opts(SecondsFormat::Millis, true);
        let (total, current) = (millis(self.total), millis(self.current));
        write!(f, "total_ms: {total}, current_ms: {current}, last_up: {last_up}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_adds_up() {
        let metrics = Metrics::new().unwrap();
        let mut downtime = Downtime::new(metrics.clone());
        let start = downtime.last_up;
        let at = |micros| start + Duration::from_micros(micros);
        let seen = || (metrics.pg_current_downtime_ms.get(), metrics.pg_downtime_ms.get());
        downtime.down_at(at(1_500));
        assert_eq!(seen(), (1, 1));
        downtime.down_at(at(3_000));
        assert_eq!(seen(), (3, 3));
        downtime.up_at(at(10_000));
        assert_eq!(seen(), (0, 3), "the total stays");
        downtime.down_at(at(12_000));
        assert_eq!(seen(), (2, 5));
        let text = downtime.to_string();
        assert!(text.starts_with("total_ms: 5, current_ms: 2, last_up: 2"), "{text}");
        // A clock that does not move forward adds no downtime.
        downtime.down_at(at(11_000));
        assert_eq!(seen().1, 5);
    }
}
