//! Ended spans on their way to the exporter: a queue with a fixed number of places.
//!
//! Invariant: ending a span never waits. A span that finds no place is counted as dropped.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::mpsc;

use crate::telemetry::trace_metrics::TraceMetrics;

/// Receives the ended spans of the library.
#[derive(Debug)]
pub(super) struct Queue {
    places: mpsc::Sender<SpanData>,
    metrics: TraceMetrics,
}

impl Queue {
    /// The queue and its other end. `places` is not 0.
    pub(super) fn new(places: usize, metrics: TraceMetrics) -> (Self, mpsc::Receiver<SpanData>) {
        let (sender, receiver) = mpsc::channel(places);
        (Self { places: sender, metrics }, receiver)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.places.try_send(span).is_err() {
            self.metrics.dropped.inc();
        }
    }

    /// The exporter is ended by its own handle.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _limit: Duration) -> OTelSdkResult {
        Ok(())
    }
}
