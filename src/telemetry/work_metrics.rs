//! Metrics of the compute's life: its work, its readiness and its users.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry,
};

use super::process_metrics::seconds;

/// Upper bounds in seconds: a reload takes milliseconds, a catalog of thousands of objects minutes.
const BOUNDS: [f64; 8] = [0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0];

/// How the application of a spec to a running compute ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// The spec is in force.
    Succeeded,
    /// Refused before anything was changed.
    Refused,
    /// Failed; the spec before it is in force.
    Failed,
}

/// What is known about a reload of Postgres that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadResult {
    /// Postgres has read its file.
    Confirmed,
    /// It has not, in time.
    NotConfirmed,
    /// The system does not let us see it.
    Unwatched,
    /// The signal could not be sent.
    NotSent,
}

/// The families.
#[derive(Debug, Clone)]
pub struct WorkMetrics {
    applied: [Histogram; 3],
    reloads: [IntCounter; 4],
    last_success: Gauge,
    status_changed: Gauge,
    ready: IntGauge,
    last_activity: Gauge,
    lines_dropped: IntCounter,
}

impl WorkMetrics {
    /// Registers the families. Fails only if another family has one of the names.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let applies = HistogramVec::new(
            HistogramOpts::new(
                "compute_ctl_apply_duration_seconds",
                "Time to apply a spec to the running compute, after /configure or a refresh",
            )
            .buckets(BOUNDS.into()),
            &["outcome"],
        )?;
        let reloads = IntCounterVec::new(
            Opts::new(
                "compute_ctl_reloads_total",
                "Reloads of Postgres that were waited for, and whether Postgres has read its file",
            ),
            &["result"],
        )?;
        let new = Self {
            applied: ["succeeded", "refused", "failed"]
                .map(|outcome| applies.with_label_values(&[outcome])),
            reloads: ["confirmed", "not_confirmed", "unwatched", "not_sent"]
                .map(|result| reloads.with_label_values(&[result])),
            last_success: Gauge::new(
                "compute_ctl_last_successful_configure_timestamp_seconds",
                "When a start, a /configure or a refresh last succeeded; 0 before",
            )?,
            status_changed: Gauge::new(
                "compute_ctl_status_change_timestamp_seconds",
                "When the status in compute_ctl_up changed last",
            )?,
            ready: IntGauge::new("compute_ctl_ready", "1 if /ready sends clients here, else 0")?,
            last_activity: Gauge::new(
                "compute_ctl_last_activity_timestamp_seconds",
                "When users were last active, as last_active of /status; 0 before",
            )?,
            lines_dropped: IntCounter::new(
                "compute_ctl_log_lines_dropped_total",
                "Lines of the log that were dropped, because the reader of stderr was too slow",
            )?,
        };
        registry.register(Box::new(applies))?;
        registry.register(Box::new(reloads))?;
        for gauge in [&new.last_success, &new.status_changed, &new.last_activity] {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(new.ready.clone()))?;
        registry.register(Box::new(new.lines_dropped.clone()))?;
        Ok(new)
    }

    /// Records the end of the application of a spec.
    pub fn applied(&self, outcome: ApplyOutcome, took: Duration) {
        let [succeeded, refused, failed] = &self.applied;
        let histogram = match outcome {
            ApplyOutcome::Succeeded => succeeded,
            ApplyOutcome::Refused => refused,
            ApplyOutcome::Failed => failed,
        };
        histogram.observe(took.as_secs_f64());
    }

    /// Records that a spec is in force, now.
    pub fn succeeded(&self) {
        self.last_success.set(seconds(SystemTime::now()));
    }

    /// Records that the status has changed, now.
    pub fn status_changed(&self) {
        self.status_changed.set(seconds(SystemTime::now()));
    }

    /// Counts a reload.
    pub fn reloaded(&self, result: ReloadResult) {
        let [confirmed, not_confirmed, unwatched, not_sent] = &self.reloads;
        let counter = match result {
            ReloadResult::Confirmed => confirmed,
            ReloadResult::NotConfirmed => not_confirmed,
            ReloadResult::Unwatched => unwatched,
            ReloadResult::NotSent => not_sent,
        };
        counter.inc();
    }

    /// Sets what a scrape shows of the compute at this moment. `dropped` is the number of lines
    /// since the start.
    pub fn show(&self, ready: bool, last_active: Option<DateTime<Utc>>, dropped: u64) {
        self.ready.set(ready.into());
        self.last_activity.set(last_active.map_or(0.0, |at| seconds(at.into())));
        self.lines_dropped.inc_by(dropped.saturating_sub(self.lines_dropped.get()));
    }
}
