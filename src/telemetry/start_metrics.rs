//! Metrics of the start and its phases.

use std::time::{Duration, SystemTime};

use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge, Opts, Registry};

use super::process_metrics::seconds;

/// One phase, as a scrape shows it.
#[derive(Debug, Clone, Copy)]
pub struct PhaseTimes {
    /// Name of the phase.
    pub phase: &'static str,
    /// When it began first; `None` if it has not.
    pub began: Option<SystemTime>,
    /// How long it took, or takes by now; the sum, if it happens more than once.
    pub took: Duration,
}

/// The families.
#[derive(Debug, Clone)]
pub struct StartMetrics {
    total: Gauge,
    shares: GaugeVec,
    began: GaugeVec,
    took: GaugeVec,
    failures: IntCounterVec,
    basebackup_bytes: IntGauge,
}

impl StartMetrics {
    /// Registers the families. Fails only if another family has one of the names.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let of_phases = |name, help| GaugeVec::new(Opts::new(name, help), &["phase"]);
        let new = Self {
            total: Gauge::new(
                "compute_ctl_startup_seconds",
                "Time since the start began, or that it took",
            )?,
            shares: of_phases(
                "compute_ctl_startup_phase_seconds",
                "Parts of compute_ctl_startup_seconds, which they add up to",
            )?,
            began: of_phases(
                "compute_ctl_startup_phase_begin_timestamp_seconds",
                "When a phase of the start began; 0 before",
            )?,
            took: of_phases(
                "compute_ctl_startup_phase_duration_seconds",
                "Time that a phase of the start took, or takes by now; phases may overlap",
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "compute_ctl_start_failures_total",
                    "Starts that failed, by the phase in which they did",
                ),
                &["phase"],
            )?,
            basebackup_bytes: IntGauge::new(
                "compute_ctl_basebackup_received_bytes",
                "Compressed bytes of the basebackup so far, of the present or last try",
            )?,
        };
        registry.register(Box::new(new.total.clone()))?;
        for family in [&new.shares, &new.began, &new.took] {
            registry.register(Box::new(family.clone()))?;
        }
        registry.register(Box::new(new.failures.clone()))?;
        registry.register(Box::new(new.basebackup_bytes.clone()))?;
        Ok(new)
    }

    /// Begins the counters of failures at 0.
    pub fn declare(&self, phases: impl IntoIterator<Item = &'static str>) {
        for phase in phases {
            self.failures.with_label_values(&[phase]);
        }
    }

    /// Counts a start that failed.
    pub fn failed(&self, phase: &str) {
        self.failures.with_label_values(&[phase]).inc();
    }

    /// Sets the received bytes of the basebackup.
    pub fn set_basebackup_bytes(&self, bytes: u64) {
        self.basebackup_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Sets the duration of the start so far, and of its parts.
    pub fn set_shares<'a>(
        &self,
        total: Duration,
        shares: impl IntoIterator<Item = (&'a str, Duration)>,
    ) {
        self.total.set(total.as_secs_f64());
        for (phase, took) in shares {
            self.shares.with_label_values(&[phase]).set(took.as_secs_f64());
        }
    }

    /// Sets the times of the phases.
    pub fn set_phases(&self, phases: impl IntoIterator<Item = PhaseTimes>) {
        for PhaseTimes { phase, began, took } in phases {
            self.began.with_label_values(&[phase]).set(began.map_or(0.0, seconds));
            self.took.with_label_values(&[phase]).set(took.as_secs_f64());
        }
    }
}
