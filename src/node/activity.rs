//! What the monitor reports: activity of users (07 §1.3), and whether Postgres answers.

use chrono::{DateTime, Utc};

use super::ComputeNode;
use super::readiness::Unready;
use crate::os::procs;
use crate::services::monitor::Seen;
use crate::services::monitor::activity::ActivityReason;

impl ComputeNode {
    /// Publishes what a check of the monitor has shown.
    pub fn saw_postgres(&self, seen: Seen<'_>, postmaster: i32) {
        if procs::is_stopped(postmaster) {
            // It takes no new sessions, and the monitor's session goes on: the reason is the same,
            // whichever the check used.
            let cause = format!("process {postmaster} has had a SIGSTOP, or a debugger");
            self.readiness.does_not_answer(Unready::Stopped, &cause);
        } else {
            match &seen {
                Seen::Active { .. } => self.readiness.answers(),
                Seen::NoConnection(error) => {
                    self.readiness.does_not_answer(Unready::NoConnection, error);
                }
                Seen::NoAnswer(error) => self.readiness.does_not_answer(Unready::NoAnswer, error),
            }
        }
        if let Seen::Active { last_active, reasons } = seen {
            self.saw_activity(last_active, reasons);
        }
    }

    /// As if the monitor had seen these reasons.
    #[cfg(test)]
    pub(crate) fn saw_activity_for_tests(&self, reasons: Vec<ActivityReason>) {
        self.saw_activity(None, reasons);
    }

    /// `last_active` never moves back.
    fn saw_activity(&self, last_active: Option<DateTime<Utc>>, reasons: Vec<ActivityReason>) {
        let mut state = self.lock();
        state.last_active = state.last_active.max(last_active);
        state.activity = reasons;
    }
}

#[cfg(test)]
mod tests {
    use crate::node::ComputeParams;
    use crate::os::children::Children;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::sink::LogSink;

    use super::*;

    #[test]
    fn forward_only() {
        let log = LogSink::new(std::io::sink()).unwrap();
        let (params, metrics) = (ComputeParams::for_tests(), Metrics::new().unwrap());
        let node = ComputeNode::new(params, None, Children::new(), log, metrics).0;
        let at = |second| DateTime::from_timestamp(second, 0);
        for (seen, shown) in [(None, None), (at(5), at(5)), (at(4), at(5)), (None, at(5))] {
            node.saw_activity(seen, Vec::new());
            assert_eq!(node.status_document().last_active, shown);
        }
        assert!(node.status_document().extra.is_none());
        let reason = ActivityReason { reason: "replication", count: 2, last: at(7).unwrap() };
        node.saw_activity(at(7), vec![reason]);
        let document = serde_json::to_value(node.status_document()).unwrap();
        let expected = serde_json::json!([
            {"reason": "replication", "count": 2, "last": "1970-01-01T00:00:07Z"}
        ]);
        assert_eq!(document["extra"]["activity"], expected);
    }
}
