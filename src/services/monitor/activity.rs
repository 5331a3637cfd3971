//! The rules by which samples become `last_active` (07 §1.2). Pure: the caller brings the time.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::sample::{Counters, Sample};
use crate::duration::with_z;

/// One reason for being awake (07 §1.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ActivityReason {
    /// `active_sessions`, `idle_in_transaction`, `idle_sessions`, `statistics`, `replication`,
    /// `subscriptions` or `autovacuum`.
    pub reason: &'static str,
    /// Count at the last check; 0 when the activity is over.
    pub count: u64,
    /// The last moment of activity for this reason.
    #[serde(serialize_with = "with_z")]
    #[schema(value_type = String, format = DateTime)]
    pub last: DateTime<Utc>,
}

/// Why a compute is, or was, awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    ActiveSessions,
    IdleInTransaction,
    IdleSessions,
    Statistics,
    Replication,
    Subscriptions,
    Autovacuum,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::ActiveSessions => "active_sessions",
            Self::IdleInTransaction => "idle_in_transaction",
            Self::IdleSessions => "idle_sessions",
            Self::Statistics => "statistics",
            Self::Replication => "replication",
            Self::Subscriptions => "subscriptions",
            Self::Autovacuum => "autovacuum",
        }
    }
}

/// The observations of one reason.
#[derive(Debug, Clone, Copy)]
struct Trace {
    reason: Reason,
    count: u64,
    last: DateTime<Utc>,
}

/// The activity seen so far.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    last_active: Option<DateTime<Utc>>,
    counters: Option<Counters>,
    /// One for each reason seen so far, in the order of their first appearance.
    traces: Vec<Trace>,
}

impl Activity {
    /// The last moment of activity.
    pub(crate) const fn last_active(&self) -> Option<DateTime<Utc>> {
        self.last_active
    }

    /// Takes a sample at `now`. `ours`: sessions of this program have moved the counters.
    ///
    /// Any activity sets `last_active` to `now`; idle sessions set it to the moment in which the
    /// last of them became idle. It never lies in the future, nor moves back.
    pub(crate) fn take(&mut self, sample: &Sample, now: DateTime<Utc>, ours: bool) {
        let counted = if ours { 0 } else { self.counted(sample.counters) };
        self.counters = sample.counters;
        for trace in &mut self.traces {
            trace.count = 0;
        }
        let idle_since = sample.idle_since.map(|since| since.min(now));
        for (reason, count, at) in [
            (Reason::ActiveSessions, sample.active, Some(now)),
            (Reason::IdleInTransaction, sample.idle_in_transaction, Some(now)),
            (Reason::IdleSessions, sample.idle, idle_since),
            (Reason::Statistics, counted, Some(now)),
            (Reason::Replication, sample.walsenders, Some(now)),
            (Reason::Subscriptions, sample.subscriptions, Some(now)),
            (Reason::Autovacuum, sample.autovacuum, Some(now)),
        ] {
            if let Some(at) = at.filter(|_| count > 0) {
                self.saw(reason, count, at);
            }
        }
    }

    /// How many sessions the counters show, at least one if the counters have moved at all. The
    /// first counters are only a base line.
    fn counted(&self, new: Option<Counters>) -> u64 {
        match (self.counters, new) {
            (Some(old), Some(new)) if old != new => {
                let begun = new.sessions.saturating_sub(old.sessions);
                u64::try_from(begun).unwrap_or_default().max(1)
            }
            _ => 0,
        }
    }

    fn saw(&mut self, reason: Reason, count: u64, at: DateTime<Utc>) {
        self.last_active = self.last_active.max(Some(at));
        match self.traces.iter_mut().find(|trace| trace.reason == reason) {
            Some(trace) => {
                trace.count = count;
                trace.last = trace.last.max(at);
            }
            None => self.traces.push(Trace { reason, count, last: at }),
        }
    }

    /// For `/status`.
    pub(crate) fn reasons(&self) -> Vec<ActivityReason> {
        let reason = |trace: &Trace| ActivityReason {
            reason: trace.reason.name(),
            count: trace.count,
            last: trace.last,
        };
        self.traces.iter().map(reason).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn reasons(activity: &Activity) -> Vec<(&'static str, u64, DateTime<Utc>)> {
        activity.reasons().iter().map(|it| (it.reason, it.count, it.last)).collect()
    }

    #[test]
    fn no_session_is_no_activity() {
        let mut activity = Activity::default();
        activity.take(&Sample::default(), at(9), false);
        assert_eq!((activity.last_active(), activity.reasons()), (None, Vec::new()));
    }

    #[test]
    fn whatever_goes_on_is_now() {
        for (name, sample) in [
            ("active_sessions", Sample { active: 2, ..Sample::default() }),
            ("idle_in_transaction", Sample { idle_in_transaction: 2, ..Sample::default() }),
            ("replication", Sample { walsenders: 2, ..Sample::default() }),
            ("subscriptions", Sample { subscriptions: 2, ..Sample::default() }),
            ("autovacuum", Sample { autovacuum: 2, ..Sample::default() }),
        ] {
            let mut activity = Activity::default();
            // With a session beside it that has been idle for long.
            let sample = Sample { idle: 1, idle_since: Some(at(3)), ..sample };
            activity.take(&sample, at(8), false);
            activity.take(&sample, at(9), false);
            assert_eq!(activity.last_active(), Some(at(9)), "{name}");
            let seen = reasons(&activity);
            assert!(seen.contains(&(name, 2, at(9))), "{seen:?}");
            assert!(seen.contains(&("idle_sessions", 1, at(3))), "{seen:?}");
            // It is over, and is still reported.
            activity.take(&Sample::default(), at(10), false);
            assert_eq!(activity.last_active(), Some(at(9)), "{name}");
            assert!(reasons(&activity).contains(&(name, 0, at(9))), "{name}");
        }
    }

    #[test]
    fn idle_sessions_count_from_their_last_statement() {
        let mut activity = Activity::default();
        let idle = |since| Sample { idle: 1, idle_since: since, ..Sample::default() };
        activity.take(&idle(None), at(5), false);
        assert_eq!(activity.last_active(), None);
        activity.take(&idle(Some(at(4))), at(6), false);
        assert_eq!(activity.last_active(), Some(at(4)));
        activity.take(&idle(Some(at(3))), at(7), false);
        assert_eq!(activity.last_active(), Some(at(4)), "not back");
        activity.take(&idle(Some(at(99))), at(8), false);
        assert_eq!(activity.last_active(), Some(at(8)), "not into the future");
    }

    #[test]
    fn counters_that_move() {
        let sample = |active_time, sessions| Sample {
            counters: Some(Counters { active_time, sessions }),
            ..Sample::default()
        };
        let mut activity = Activity::default();
        activity.take(&sample(10, 1), at(1), false);
        activity.take(&sample(10, 1), at(2), false);
        assert_eq!(activity.last_active(), None, "the first ones say nothing");
        activity.take(&sample(10, 4), at(3), false);
        assert_eq!(reasons(&activity), [("statistics", 3, at(3))]);
        activity.take(&sample(11, 4), at(4), false);
        assert_eq!(reasons(&activity), [("statistics", 1, at(4))]);
        // The statistics were reset.
        activity.take(&sample(0, 0), at(5), false);
        assert_eq!(activity.last_active(), Some(at(5)));
        // This program's own sessions move the base line only.
        activity.take(&sample(9, 9), at(6), true);
        activity.take(&sample(9, 9), at(7), false);
        assert_eq!(activity.last_active(), Some(at(5)));
    }
}
