//! The Prometheus registry (03 §10).

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::lease_metrics::LeaseMetrics;
use crate::state::ComputeStatus;

/// Set while compiling through the environment variable `BUILD_TAG` (01 §2).
pub const BUILD_TAG: &str = match option_env!("BUILD_TAG") {
    Some(tag) => tag,
    None => "latest",
};

/// Content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// All metric families of the process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    up: IntGaugeVec,
    basebackup_bytes: IntGauge,
    certificate_days: GaugeVec,
    certificate_expiry: Arc<Mutex<Option<DateTime<Utc>>>>,
    /// Migrations that failed, by number (05 §13.1).
    pub migrations_failed: IntCounterVec,
    /// Bytes of log files in `PGDATA/log` (04 §10.4).
    pub audit_log_dir_size: IntGauge,
    /// LSN leases of a static compute.
    pub leases: LeaseMetrics,
}

impl Metrics {
    /// Registers all families. Fails only if two families share a name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let up = IntGaugeVec::new(
            Opts::new("compute_ctl_up", "Always 1; the labels tell the build and the status"),
            &["build_tag", "status"],
        )?;
        let basebackup_bytes = IntGauge::new(
            "compute_ctl_basebackup_received_bytes",
            "Compressed bytes of the basebackup so far, of the present or last try",
        )?;
        registry.register(Box::new(up.clone()))?;
        registry.register(Box::new(basebackup_bytes.clone()))?;
        // Without labels; a vector all the same, so that there is no series without a certificate.
        let certificate_days = GaugeVec::new(
            Opts::new(
                "compute_ctl_tls_certificate_expiry_days",
                "Days until the TLS certificate that Postgres was given expires, negative after",
            ),
            &[],
        )?;
        registry.register(Box::new(certificate_days.clone()))?;
        let audit_log_dir_size = IntGauge::new(
            "compute_audit_log_dir_size",
            "Size in bytes of the log files in the audit log directory",
        )?;
        registry.register(Box::new(audit_log_dir_size.clone()))?;
        let migrations_failed = IntCounterVec::new(
            Opts::new(
                "compute_ctl_db_migration_failed_total",
                "Number of failed database migrations, by number of the migration",
            ),
            &["migration_id"],
        )?;
        registry.register(Box::new(migrations_failed.clone()))?;
        let leases = LeaseMetrics::register(&registry)?;
        Ok(Self {
            registry,
            up,
            basebackup_bytes,
            certificate_days,
            certificate_expiry: Arc::default(),
            migrations_failed,
            audit_log_dir_size,
            leases,
        })
    }

    /// Shows a status: exactly one series of `compute_ctl_up` at a time (01 §14.4).
    pub fn set_status(&self, status: ComputeStatus) {
        self.up.reset();
        self.up.with_label_values(&[BUILD_TAG, &status.to_string()]).set(1);
    }

    /// Shows how far the basebackup is.
    pub fn set_basebackup_bytes(&self, bytes: u64) {
        self.basebackup_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Shows how many days are left until this moment, counted anew at each scrape; nothing for
    /// `None`.
    pub fn set_certificate_expiry(&self, not_after: Option<DateTime<Utc>>) {
        *self.certificate_expiry.lock().unwrap_or_else(PoisonError::into_inner) = not_after;
    }

    /// All families in the text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let expiry = *self.certificate_expiry.lock().unwrap_or_else(PoisonError::into_inner);
        match expiry {
            Some(end) => self
                .certificate_days
                .get_metric_with_label_values::<&str>(&[])?
                .set(days_until(end, Utc::now())),
            None => self.certificate_days.reset(),
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Days until a moment, with their fraction; negative when it is over.
fn days_until(moment: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    (moment - now).as_seconds_f64() / 86_400.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_series_tells_the_status() {
        let metrics = Metrics::new().unwrap();
        for status in ComputeStatus::ALL {
            metrics.set_status(status);
            let text = metrics.render().unwrap();
            let series: Vec<_> =
                text.lines().filter(|line| line.starts_with("compute_ctl_up")).collect();
            let expected =
                format!(r#"compute_ctl_up{{build_tag="{BUILD_TAG}",status="{status}"}} 1"#);
            assert_eq!(series, [expected]);
        }
    }

    #[test]
    fn days_of_the_certificate_only_while_there_is_one() {
        let metrics = Metrics::new().unwrap();
        let days = || {
            let text = metrics.render().unwrap();
            let mut lines = text.lines().map(str::to_owned);
            lines.find_map(|line| {
                let days = line.strip_prefix("compute_ctl_tls_certificate_expiry_days ")?;
                days.parse::<f64>().ok()
            })
        };
        assert_eq!(days(), None);
        metrics.set_certificate_expiry(Some(Utc::now() + chrono::TimeDelta::days(30)));
        assert_eq!(days().unwrap().round(), 30.0);
        metrics.set_certificate_expiry(Some(Utc::now() - chrono::TimeDelta::days(2)));
        assert_eq!(days().unwrap().round(), -2.0);
        metrics.set_certificate_expiry(None);
        assert_eq!(days(), None);
    }
}
