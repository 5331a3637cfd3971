//! Families of the original whose names have another unit or none, once more in base units and with
//! the unit in the name. A scrape computes them from the others.

use prometheus::{Counter, Gauge, IntCounter, IntGauge, Registry};

/// The families.
#[derive(Debug, Clone)]
pub(super) struct TwinMetrics {
    downtime: Gauge,
    downtime_total: Counter,
    audit_log: IntGauge,
}

impl TwinMetrics {
    /// Registers the families. Fails only if another family has one of the names.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let new = Self {
            downtime: Gauge::new(
                "compute_ctl_postgres_current_downtime_seconds",
                "Time for which Postgres has not answered, 0 when it does",
            )?,
            downtime_total: Counter::new(
                "compute_ctl_postgres_downtime_seconds_total",
                "Time in which Postgres did not answer",
            )?,
            audit_log: IntGauge::new(
                "compute_ctl_audit_log_directory_bytes",
                "Size of the log files in the audit log directory",
            )?,
        };
        registry.register(Box::new(new.downtime.clone()))?;
        registry.register(Box::new(new.downtime_total.clone()))?;
        registry.register(Box::new(new.audit_log.clone()))?;
        Ok(new)
    }

    /// Copies the values of the families of the original.
    pub(super) fn follow(
        &self,
        downtime_ms: &IntGauge,
        downtime_ms_total: &IntCounter,
        audit_log: &IntGauge,
    ) {
        self.downtime.set(downtime_ms.get() as f64 / 1e3);
        let total = downtime_ms_total.get() as f64 / 1e3;
        self.downtime_total.inc_by((total - self.downtime_total.get()).max(0.0));
        self.audit_log.set(audit_log.get());
    }
}
