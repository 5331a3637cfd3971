//! The Prometheus registry (03 §10).
//!
//! Every family of the document is registered at once, including families of services that a
//! compute may lack: readers rely on counters that are 0 from the first scrape on. Each event has a
//! method or a counter here; no other module has names and labels.
//!
//! Invariant: families whose series change their labels (status, extensions, start) are replaced
//! under the lock that a scrape holds, so that no scrape sees an incomplete replacement.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use reqwest::StatusCode;

use super::http_metrics::HttpMetrics;
use super::lease_metrics::LeaseMetrics;
use super::process_metrics::{ProcessMetrics, seconds};
pub use super::start_metrics::PhaseTimes;
use super::start_metrics::StartMetrics;
use super::storage_metrics::{Peer, StorageTries};
use super::trace_metrics::TraceMetrics;
use super::twin_metrics::TwinMetrics;
use super::vm_monitor_metrics::VmMonitorMetrics;
use super::work_metrics::WorkMetrics;
use crate::state::ComputeStatus;

/// Set at compile time from the environment variable `BUILD_TAG` (01 §2).
pub const BUILD_TAG: &str = match option_env!("BUILD_TAG") {
    Some(tag) => tag,
    None => "latest",
};

/// Content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// The order of the document; families that it lacks come last.
const ORDER: [&str; 15] = [
    "compute_ctl_up",
    "compute_installed_extensions",
    "compute_ctl_cplane_requests_total",
    "compute_ctl_remote_ext_requests_total",
    "compute_ctl_db_migration_failed_total",
    "compute_audit_log_dir_size",
    "compute_pg_current_downtime_ms",
    "compute_pg_downtime_ms_total",
    "compute_ctl_lfc_prewarms_total",
    "compute_ctl_lfc_prewarm_errors_total",
    "compute_ctl_lfc_offloads_total",
    "compute_ctl_lfc_offload_errors_total",
    "pg_cctl_pagestream_request_errors_total",
    "pg_cctl_configure_statement_timeout_errors_total",
    "pg_cctl_attached",
];

/// All metric families of the process. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Locked by a scrape and by each replacement of series; holds the values computed at a scrape.
    exchange: Arc<Mutex<AtScrape>>,
    up: IntGaugeVec,
    installed_extensions: IntGaugeVec,
    cplane_requests: IntCounterVec,
    remote_ext_requests: IntCounterVec,
    db_migration_failed: IntCounterVec,
    /// Bytes of log files in `PGDATA/log` (04 §10.4).
    pub audit_log_dir_size: IntGauge,
    /// Milliseconds since Postgres last answered; 0 after each successful check.
    pub pg_current_downtime_ms: IntGauge,
    /// Total milliseconds in which Postgres did not answer.
    pub pg_downtime_ms: IntCounter,
    /// Started prewarms of the local file cache.
    pub lfc_prewarms: IntCounter,
    /// Prewarms that ended as `failed`.
    pub lfc_prewarm_errors: IntCounter,
    /// Started offloads of the state of the local file cache.
    pub lfc_offloads: IntCounter,
    /// Offloads that ended as `failed`.
    pub lfc_offload_errors: IntCounter,
    /// Calls of `/refresh_configuration`, whatever the answer.
    pub pagestream_request_errors: IntCounter,
    /// Statements of a configuration that ended with SQLSTATE 57014; counted in Lakebase mode.
    pub configure_statement_timeouts: IntCounter,
    attached: IntGaugeVec,
    certificate_days: GaugeVec,
    certificate_expiry: GaugeVec,
    process: ProcessMetrics,
    twins: TwinMetrics,
    /// The start and its phases.
    pub start: StartMetrics,
    /// Work, readiness and users.
    pub work: WorkMetrics,
    /// Tries to reach peers.
    pub tries: StorageTries,
    /// LSN leases of a static compute.
    pub leases: LeaseMetrics,
    /// Requests to the HTTP servers.
    pub http: HttpMetrics,
}

#[derive(Debug, Default)]
struct AtScrape {
    certificate_expiry: Option<DateTime<Utc>>,
}

/// One version of an extension, over all databases (02 §12.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledExtension {
    /// `extname`.
    pub name: String,
    /// `extversion`.
    pub version: String,
    /// Whether its owner is the bootstrap superuser.
    pub owned_by_superuser: bool,
    /// Number of databases that have it.
    pub databases: u32,
}

/// Labels of [`Metrics::set_attached`].
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// `--compute-id`.
    pub compute_id: &'a str,
    /// `INSTANCE_ID`.
    pub instance_id: &'a str,
    /// Effective tenant id.
    pub tenant_id: &'a str,
    /// Effective timeline id.
    pub timeline_id: &'a str,
}

/// Creates families and registers them.
struct Registrar {
    registry: Registry,
}

impl Registrar {
    fn keep<C: Collector + Clone + 'static>(&self, family: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.keep(IntGauge::new(name, help)?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }
}

impl Metrics {
    /// Registers all families. Fails only if two families share a name.
    pub fn new() -> Result<Self, prometheus::Error> {
        Self::with(&TraceMetrics::new()?)
    }

    /// The same, with the counters of an export of traces that has begun.
    ///
    /// # Errors
    /// Two families share a name.
    pub fn with(traces: &TraceMetrics) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        traces.register(&registry)?;
        let new = Registrar { registry: registry.clone() };
        let tries = StorageTries::register(&registry)?;
        // Without labels, but vectors, so that there is no series without a certificate.
        let of_certificate = |name, help| new.keep(GaugeVec::new(Opts::new(name, help), &[])?);
        Ok(Self {
            leases: LeaseMetrics::register(&registry, tries.clone())?,
            tries,
            process: ProcessMetrics::register(&registry)?,
            twins: TwinMetrics::register(&registry)?,
            start: StartMetrics::register(&registry)?,
            work: WorkMetrics::register(&registry)?,
            http: HttpMetrics::register(&registry)?,
            registry,
            exchange: Arc::default(),
            up: new.gauges(
                "compute_ctl_up",
                "Always 1; the labels tell the build and the status",
                &["build_tag", "status"],
            )?,
            installed_extensions: new.gauges(
                "compute_installed_extensions",
                "Databases that have this version of an extension",
                &["extension_name", "version", "owned_by_superuser"],
            )?,
            cplane_requests: new.counters(
                "compute_ctl_cplane_requests_total",
                "Requests to the control plane, one for each try",
                &["rpc", "http_status"],
            )?,
            remote_ext_requests: new.counters(
                "compute_ctl_remote_ext_requests_total",
                "Downloads of extensions",
                &["http_status", "filename"],
            )?,
            db_migration_failed: new.counters(
                "compute_ctl_db_migration_failed_total",
                "Migrations that failed",
                &["migration_id"],
            )?,
            audit_log_dir_size: new.gauge(
                "compute_audit_log_dir_size",
                "Size in bytes of the log files in the audit log directory",
            )?,
            pg_current_downtime_ms: new.gauge(
                "compute_pg_current_downtime_ms",
                "Milliseconds for which Postgres has not answered, 0 when it does",
            )?,
            pg_downtime_ms: new.counter(
                "compute_pg_downtime_ms_total",
                "Milliseconds in which Postgres did not answer",
            )?,
            lfc_prewarms: new.counter(
                "compute_ctl_lfc_prewarms_total",
                "Prewarms of the local file cache that were begun",
            )?,
            lfc_prewarm_errors: new.counter(
                "compute_ctl_lfc_prewarm_errors_total",
                "Prewarms of the local file cache that failed",
            )?,
            lfc_offloads: new.counter(
                "compute_ctl_lfc_offloads_total",
                "Offloads of the state of the local file cache that were begun",
            )?,
            lfc_offload_errors: new.counter(
                "compute_ctl_lfc_offload_errors_total",
                "Offloads of the state of the local file cache that failed",
            )?,
            pagestream_request_errors: new.counter(
                "pg_cctl_pagestream_request_errors_total",
                "Calls of /refresh_configuration, made when pageservers do not answer Postgres",
            )?,
            configure_statement_timeouts: new.counter(
                "pg_cctl_configure_statement_timeout_errors_total",
                "Statements of a configuration that met the statement timeout",
            )?,
            attached: new.gauges(
                "pg_cctl_attached",
                "Always 1; the labels tell what the compute is attached to",
                &["pg_compute_id", "pg_instance_id", "tenant_id", "timeline_id"],
            )?,
            certificate_days: of_certificate(
                "compute_ctl_tls_certificate_expiry_days",
                "Days until the TLS certificate that Postgres was given expires, negative after",
            )?,
            certificate_expiry: of_certificate(
                "compute_ctl_tls_certificate_expiry_timestamp_seconds",
                "When the TLS certificate that Postgres was given expires",
            )?,
        })
    }

    /// Registers the families of the VM monitor, which other computes do not have.
    ///
    /// # Errors
    /// They are registered already.
    pub fn vm_monitor(&self) -> Result<VmMonitorMetrics, prometheus::Error> {
        VmMonitorMetrics::register(&self.registry)
    }

    /// Locks out scrapes, or another replacement of series.
    fn exchange(&self) -> MutexGuard<'_, AtScrape> {
        self.exchange.lock()
    }

    /// Sets the status: exactly one series of `compute_ctl_up` exists at a time (01 §14.4).
    pub fn set_status(&self, status: ComputeStatus) {
        let _no_scrape = self.exchange();
        self.up.reset();
        self.up.with_label_values(&[BUILD_TAG, &status.to_string()]).set(1);
        self.work.status_changed();
    }

    /// Sets the version of the Postgres in use, in `compute_ctl_build_info`.
    pub fn set_postgres(&self, version: &str) {
        let _no_scrape = self.exchange();
        self.process.set_postgres(version);
    }

    /// Replaces the series of the previous collection of extensions (03 W13).
    pub fn set_installed_extensions(&self, found: &[InstalledExtension]) {
        let _no_scrape = self.exchange();
        self.installed_extensions.reset();
        for extension in found {
            let owned = if extension.owned_by_superuser { "1" } else { "0" };
            self.installed_extensions
                .with_label_values(&[extension.name.as_str(), extension.version.as_str(), owned])
                .set(extension.databases.into());
        }
    }

    /// Counts one try to reach the control plane; `None` as status means no answer.
    pub fn count_cplane_request(&self, rpc: &str, status: Option<StatusCode>) {
        self.cplane_requests.with_label_values(&[rpc, &status_label(status)]).inc();
        self.tries.count_http(Peer::ControlPlane, status);
    }

    /// Counts one try to download `<extension>.tar.zst`; `None` as status means no answer.
    pub fn count_remote_ext_request(&self, filename: &str, status: Option<StatusCode>) {
        self.tries.count_http(Peer::ExtensionGateway, status);
        let status = status_label(status);
        self.remote_ext_requests.with_label_values(&[status.as_str(), filename]).inc();
    }

    /// Counts a failed migration.
    pub fn count_failed_migration(&self, migration_id: &str) {
        self.db_migration_failed.with_label_values(&[migration_id]).inc();
    }

    /// Sets the series with the ids of the compute; only in Lakebase mode with an instance id.
    pub fn set_attached(&self, to: Attachment<'_>) {
        let _no_scrape = self.exchange();
        self.attached.reset();
        let labels = [to.compute_id, to.instance_id, to.tenant_id, to.timeline_id];
        self.attached.with_label_values(&labels).set(1);
    }

    /// Sets the duration of the start so far, and of its parts.
    pub fn set_startup<'a>(
        &self,
        total: Duration,
        phases: impl IntoIterator<Item = (&'a str, Duration)>,
    ) {
        let _no_scrape = self.exchange();
        self.start.set_shares(total, phases);
    }

    /// Sets the end of validity, from which each scrape computes the days left; `None` removes the
    /// series.
    pub fn set_certificate_expiry(&self, not_after: Option<DateTime<Utc>>) {
        self.exchange().certificate_expiry = not_after;
    }

    /// The end of validity, if it is known.
    pub fn certificate_expiry(&self) -> Option<DateTime<Utc>> {
        self.exchange().certificate_expiry
    }

    /// All families in the text format, in the order of the document.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let families = {
            let at_scrape = self.exchange();
            match at_scrape.certificate_expiry {
                Some(end) => {
                    let only = |family: &GaugeVec| family.get_metric_with_label_values::<&str>(&[]);
                    only(&self.certificate_days)?.set(days_until(end, Utc::now()));
                    only(&self.certificate_expiry)?.set(seconds(end.into()));
                }
                None => {
                    self.certificate_days.reset();
                    self.certificate_expiry.reset();
                }
            }
            self.process.look();
            let downtime = (&self.pg_current_downtime_ms, &self.pg_downtime_ms);
            self.twins.follow(downtime.0, downtime.1, &self.audit_log_dir_size);
            self.registry.gather()
        };
        TextEncoder::new().encode_to_string(&in_order(families))
    }
}

/// Families arrive sorted by name; those that the document lacks stay sorted at the end.
fn in_order(mut families: Vec<MetricFamily>) -> Vec<MetricFamily> {
    families.sort_by_key(|family| {
        ORDER.iter().position(|name| *name == family.name()).unwrap_or(ORDER.len())
    });
    families
}

/// `200 OK`, or `unknown` without an answer.
fn status_label(status: Option<StatusCode>) -> String {
    status.map_or_else(|| "unknown".to_owned(), |status| status.to_string())
}

/// Days until a time, with a fraction; negative if it has passed.
fn days_until(moment: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    (moment - now).as_seconds_f64() / 86_400.0
}

#[cfg(test)]
mod tests;
