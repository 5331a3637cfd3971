//! What has happened so far: the phases of the start, and the last changes of the status.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::phase::PhaseRecord;
use crate::duration::{millis, with_z};
use crate::state::{ComputeStatus, Event, TerminateMode};

/// Number of changes that are kept.
pub(crate) const KEPT: usize = 50;

/// The reason of the first status.
const STARTED: &str = "process started";

/// A phase of the start, in `extra.startup` of `/status`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct StartedPhase {
    /// Name of the phase.
    pub phase: &'static str,
    /// From `start_time` to its beginning, in milliseconds, to a tenth.
    pub began_ms: f64,
    /// How long it took, in milliseconds, to a tenth; absent while it is in progress. Phases overlap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
}

impl From<&PhaseRecord> for StartedPhase {
    fn from(record: &PhaseRecord) -> Self {
        Self {
            phase: record.phase.name(),
            began_ms: tenths(record.began),
            duration_ms: record.took.map(tenths),
        }
    }
}

/// Milliseconds, to a tenth.
fn tenths(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

/// A change of the status, in `/details`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StatusChange {
    /// When, by the clock of the machine.
    #[serde(serialize_with = "with_z")]
    #[schema(value_type = String, format = DateTime)]
    pub at: DateTime<Utc>,
    /// Milliseconds from the change to this document, by the monotonic clock.
    pub age_ms: u64,
    /// The status from then on.
    pub status: ComputeStatus,
    /// What led to it.
    pub reason: String,
}

/// A start, a reconfiguration or a refresh that is over, in `/details`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FinishedWork {
    /// `start`, `reconfiguration` or `refresh`.
    pub work: &'static str,
    /// Why it was done, for instance `/configure` or `certificate renewed`.
    pub asked_by: String,
    /// When it was over, by the clock of the machine.
    #[serde(serialize_with = "with_z")]
    #[schema(value_type = String, format = DateTime)]
    pub ended: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// `success`, or `failure` or `refusal` with the phase.
    pub outcome: String,
}

/// The last changes, oldest first, and the work that ended last.
#[derive(Debug)]
pub(super) struct History {
    began: Instant,
    changes: VecDeque<Change>,
    work: Option<Work>,
    finished: Option<FinishedWork>,
    /// Number of works that are over.
    works: u64,
    /// Settings that wait for a restart, as Postgres gave them after so many works.
    pending_restart: Option<(u64, Vec<String>)>,
}

/// Work in progress.
#[derive(Debug)]
struct Work {
    name: &'static str,
    asked_by: String,
    began: Instant,
}

#[derive(Debug)]
struct Change {
    at: DateTime<Utc>,
    instant: Instant,
    status: ComputeStatus,
    reason: String,
}

impl History {
    /// The history of a process that begins with this status.
    pub(super) fn new(status: ComputeStatus) -> Self {
        let mut history = Self {
            began: Instant::now(),
            changes: VecDeque::new(),
            work: None,
            finished: None,
            works: 0,
            pending_restart: None,
        };
        history.push(status, STARTED.to_owned());
        if status == ComputeStatus::Init {
            history.begin("start", STARTED.to_owned());
        }
        history
    }

    /// Adds a change. `failed_in` is the phase of the last failure.
    pub(super) fn add(&mut self, status: ComputeStatus, event: Event, failed_in: Option<&str>) {
        let reason = reason(event, failed_in);
        match event {
            Event::BeginStart => self.begin("start", self.last_reason()),
            Event::BeginConfiguration => self.begin("reconfiguration", self.last_reason()),
            Event::BeginRefresh => self.begin("refresh", self.last_reason()),
            Event::Succeeded | Event::Failed | Event::Refused => self.finish(&reason),
            _ => {}
        }
        self.push(status, reason);
    }

    fn last_reason(&self) -> String {
        self.changes.back().map(|change| change.reason.clone()).unwrap_or_default()
    }

    fn begin(&mut self, name: &'static str, asked_by: String) {
        self.work = Some(Work { name, asked_by, began: Instant::now() });
    }

    fn finish(&mut self, outcome: &str) {
        let finished = |work: Work| FinishedWork {
            work: work.name,
            asked_by: work.asked_by,
            ended: Utc::now(),
            duration_ms: millis(work.began.elapsed()),
            outcome: outcome.to_owned(),
        };
        self.works += u64::from(self.work.is_some());
        self.finished = self.work.take().map(finished).or(self.finished.take());
    }

    /// Since the process started.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Number of works that are over.
    pub(super) const fn works(&self) -> u64 {
        self.works
    }

    /// Keeps the names of settings that wait for a restart, as Postgres gave them after so many works.
    pub(super) fn set_pending_restart(&mut self, works: u64, names: Vec<String>) {
        self.pending_restart = Some((works, names));
    }

    /// The names; `None` if Postgres has not been asked since the last work.
    pub(super) fn pending_restart(&self) -> Option<Vec<String>> {
        // A start loads every setting.
        if self.works <= 1 {
            return Some(Vec::new());
        }
        let known = self.pending_restart.as_ref();
        known.filter(|(then, _)| *then == self.works).map(|(_, names)| names.clone())
    }

    /// The work that ended last.
    pub(super) fn finished(&self) -> Option<FinishedWork> {
        self.finished.clone()
    }

    fn push(&mut self, status: ComputeStatus, reason: String) {
        if self.changes.len() == KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(Change { at: Utc::now(), instant: Instant::now(), status, reason });
    }

    /// The changes, oldest first.
    pub(super) fn changes(&self) -> Vec<StatusChange> {
        let change = |change: &Change| StatusChange {
            at: change.at,
            age_ms: millis(change.instant.elapsed()),
            status: change.status,
            reason: change.reason.clone(),
        };
        self.changes.iter().map(change).collect()
    }
}

/// The words of `docs/reference/states.md`.
fn reason(event: Event, failed_in: Option<&str>) -> String {
    let fixed = match event {
        Event::Configure => "/configure",
        Event::CertificateChanged => "certificate renewed",
        Event::BeginStart => "start begins",
        Event::BeginConfiguration => "reconfiguration begins",
        Event::Refresh => "refresh requested",
        Event::BeginRefresh => "refresh begins",
        Event::Succeeded => "success",
        Event::Failed => return failed("failure", failed_in),
        Event::Refused => return failed("refusal", failed_in),
        Event::Terminate(TerminateMode::Fast) => "/terminate?mode=fast",
        Event::Terminate(TerminateMode::Immediate) => "/terminate?mode=immediate",
        Event::PostgresExited => "Postgres exited",
        Event::Signal => "signal",
        Event::Ended => "end complete",
    };
    fixed.to_owned()
}

fn failed(what: &str, phase: Option<&str>) -> String {
    phase.map_or_else(|| what.to_owned(), |phase| format!("{what} in {phase}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::phase::StartPhase;

    #[test]
    fn the_last_changes_are_kept() {
        let mut history = History::new(ComputeStatus::Init);
        history.add(ComputeStatus::Failed, Event::Failed, Some("basebackup"));
        let changes = history.changes();
        let texts: Vec<_> = changes.iter().map(|it| (it.status, it.reason.as_str())).collect();
        let expected = [
            (ComputeStatus::Init, "process started"),
            (ComputeStatus::Failed, "failure in basebackup"),
        ];
        assert_eq!(texts, expected);
        for _ in 0..KEPT {
            history.add(ComputeStatus::Running, Event::Refused, None);
        }
        let changes = history.changes();
        assert_eq!(changes.len(), KEPT);
        assert!(changes.iter().all(|it| it.reason == "refusal"));
    }

    #[test]
    fn the_work_that_ended_last() {
        let mut history = History::new(ComputeStatus::Init);
        assert_eq!(history.finished(), None);
        history.add(ComputeStatus::Running, Event::Succeeded, None);
        let start = history.finished().unwrap();
        let texts = (start.work, start.asked_by.as_str(), start.outcome.as_str());
        assert_eq!(texts, ("start", "process started", "success"));
        history.add(ComputeStatus::ConfigurationPending, Event::CertificateChanged, None);
        history.add(ComputeStatus::Configuration, Event::BeginConfiguration, None);
        assert_eq!(history.finished().unwrap().work, "start", "the other one is in progress");
        history.add(ComputeStatus::Failed, Event::Failed, Some("reload"));
        let change = history.finished().unwrap();
        let texts = (change.work, change.asked_by.as_str(), change.outcome.as_str());
        assert_eq!(texts, ("reconfiguration", "certificate renewed", "failure in reload"));
    }

    #[test]
    fn an_answer_about_restarts_counts_until_the_next_work() {
        let mut history = History::new(ComputeStatus::Init);
        assert_eq!(history.pending_restart(), Some(Vec::new()), "a start loads all");
        history.add(ComputeStatus::Running, Event::Succeeded, None);
        assert_eq!(history.pending_restart(), Some(Vec::new()));
        for name in ["port", "max_connections"] {
            history.add(ComputeStatus::Configuration, Event::BeginConfiguration, None);
            history.add(ComputeStatus::Running, Event::Succeeded, None);
            assert_eq!(history.pending_restart(), None, "not asked yet");
            history.set_pending_restart(history.works(), vec![name.to_owned()]);
            assert_eq!(history.pending_restart(), Some(vec![name.to_owned()]));
        }
        history.set_pending_restart(1, Vec::new());
        assert_eq!(history.pending_restart(), None, "an old answer");
    }

    #[test]
    fn phases_have_tenths_of_milliseconds() {
        let micros = Duration::from_micros;
        let record = PhaseRecord {
            phase: StartPhase::Basebackup,
            began: micros(1_250),
            took: Some(micros(10_449)),
        };
        let value = serde_json::to_value(StartedPhase::from(&record)).unwrap();
        let expected =
            serde_json::json!({"phase": "basebackup", "began_ms": 1.3, "duration_ms": 10.4});
        assert_eq!(value, expected);
        let running = StartedPhase::from(&PhaseRecord { took: None, ..record });
        assert!(serde_json::to_value(running).unwrap().get("duration_ms").is_none());
    }
}
