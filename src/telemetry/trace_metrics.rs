//! Metrics of the export of traces (01 §21).

use prometheus::{IntCounter, Registry};

/// Counters of the export; 0 for a program without traces. Clones share them.
#[derive(Debug, Clone)]
pub struct TraceMetrics {
    /// Requests to the collector that failed.
    pub(crate) failures: IntCounter,
    /// Spans that have ended and that the collector did not get.
    pub(crate) dropped: IntCounter,
}

impl TraceMetrics {
    /// Makes the counters. Fails only if a name cannot be that of a metric.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            failures: IntCounter::new(
                "compute_ctl_trace_export_failures_total",
                "Requests to the collector of traces that failed",
            )?,
            dropped: IntCounter::new(
                "compute_ctl_trace_spans_dropped_total",
                "Spans that the collector of traces did not get",
            )?,
        })
    }

    /// Registers the families. Fails only if another family has one of the names.
    pub(super) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.failures.clone()))?;
        registry.register(Box::new(self.dropped.clone()))
    }
}
