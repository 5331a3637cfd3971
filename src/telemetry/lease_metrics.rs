//! Metrics of the LSN leases of a static compute (06 W10).

use std::fmt::Display;
use std::time::SystemTime;

use prometheus::core::Collector as _;
use prometheus::proto::{Metric, MetricFamily};
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};

use super::storage_metrics::{Peer, StorageTries, TryOutcome};

/// A lease, as its series shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LeaseEnd {
    pub(crate) shard: String,
    pub(crate) pageserver: String,
    pub(crate) lsn: String,
    /// End in seconds since 1970; 0 after a permanent refusal.
    pub(crate) seconds: f64,
}

/// The metrics; leases have no series before the first request.
#[derive(Debug, Clone)]
pub struct LeaseMetrics {
    expiry: GaugeVec,
    requests: IntCounterVec,
    tries: StorageTries,
}

impl LeaseMetrics {
    /// Registers the families. Fails only if another family has one of the names.
    pub(super) fn register(
        registry: &Registry,
        tries: StorageTries,
    ) -> Result<Self, prometheus::Error> {
        let expiry = GaugeVec::new(
            Opts::new(
                "compute_ctl_lsn_lease_expiry_timestamp_seconds",
                "When the LSN lease at a pageserver ends; 0 after it was refused for good",
            ),
            &["shard", "pageserver", "lsn"],
        )?;
        let requests = IntCounterVec::new(
            Opts::new("compute_ctl_lsn_lease_requests_total", "Requests for LSN leases"),
            &["result"],
        )?;
        registry.register(Box::new(expiry.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        for result in ["granted", "refused", "failed"] {
            requests.with_label_values(&[result]);
        }
        Ok(Self { expiry, requests, tries })
    }

    /// Records a granted lease.
    pub fn granted(
        &self,
        shard: impl Display,
        pageserver: &str,
        lsn: impl Display,
        until: SystemTime,
    ) {
        self.requests.with_label_values(&["granted"]).inc();
        self.tries.count(Peer::Pageserver, TryOutcome::Succeeded);
        let since_epoch = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.set(shard, pageserver, lsn, since_epoch.as_secs_f64());
    }

    /// Records a permanent refusal.
    pub fn refused(&self, shard: impl Display, pageserver: &str, lsn: impl Display) {
        self.requests.with_label_values(&["refused"]).inc();
        self.tries.count(Peer::Pageserver, TryOutcome::Refused);
        self.set(shard, pageserver, lsn, 0.0);
    }

    /// Records a failed request that will be repeated; an existing lease stays valid.
    pub fn failed(&self) {
        self.requests.with_label_values(&["failed"]).inc();
        self.tries.count(Peer::Pageserver, TryOutcome::Failed);
    }

    /// Removes the series of all leases, because other pageservers are used from now on.
    pub fn forget(&self) {
        self.expiry.reset();
    }

    /// Shard, pageserver, LSN and end of each lease, as the metric has them.
    pub(crate) fn now(&self) -> Vec<LeaseEnd> {
        let families = self.expiry.collect();
        let series = families.iter().flat_map(MetricFamily::get_metric);
        let lease = |series: &Metric| {
            let label = |name: &str| {
                let label = series.get_label().iter().find(|label| label.name() == name);
                label.map(|label| label.value().to_owned()).unwrap_or_default()
            };
            LeaseEnd {
                shard: label("shard"),
                pageserver: label("pageserver"),
                lsn: label("lsn"),
                seconds: series.get_gauge().get_value(),
            }
        };
        series.map(lease).collect()
    }

    fn set(&self, shard: impl Display, pageserver: &str, lsn: impl Display, seconds: f64) {
        let (shard, lsn) = (shard.to_string(), lsn.to_string());
        self.expiry.with_label_values(&[shard.as_str(), pageserver, lsn.as_str()]).set(seconds);
    }
}
