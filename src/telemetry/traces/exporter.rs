//! The task that sends ended spans to the collector in batches.
//!
//! ```text
//! ended spans ─► queue ─► batch (full, or 5 s old) ─► request ─┬─► taken
//!                                                 ▲            │ transient error
//!                                                 └── pause ◄──┘ at most 5 tries, then dropped
//! ```
//!
//! Invariants: nothing waits for the collector, except the end of the process for a short time; its
//! failures are one warning and two counters, until it works again (01 §24 no. 47).

use std::time::Duration;

use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::collector::{Collector, ExportError};
use super::config::{Batches, TraceConfig};
use super::queue::Queue;
use super::{propagation, span};
use crate::duration::varied;
use crate::env::Otel;
use crate::telemetry::trace_metrics::TraceMetrics;

/// Limit for the last exports at the end of the process (01 §21).
pub const END_LIMIT: Duration = Duration::from_secs(2);

/// Tries of a batch.
const TRIES: u32 = 5;
/// Pause before the second try; doubles each time, and varies by half.
const PAUSE: Duration = Duration::from_secs(1);

/// The export of traces, which goes on until [`Traces::end`].
#[derive(Debug)]
pub struct Traces {
    /// Its counters.
    pub metrics: TraceMetrics,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    ends: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Traces {
    /// Makes spans and exports them from now on, unless the variables say otherwise. Must be called
    /// inside a runtime, once. What cannot be used is in the log.
    ///
    /// # Errors
    /// The counters could not be made.
    pub fn start(otel: &Otel) -> Result<Self, prometheus::Error> {
        let metrics = TraceMetrics::new()?;
        let (config, remarks) = TraceConfig::read(otel);
        for remark in remarks {
            tracing::warn!("{remark}");
        }
        let collector = config.as_ref().and_then(|config| match Collector::new(config) {
            Ok(collector) => Some(collector),
            Err(error) => {
                tracing::warn!("no traces: the HTTP client could not be made: {error}");
                None
            }
        });
        let (Some(config), Some(collector)) = (config, collector) else {
            return Ok(Self { metrics, running: None });
        };
        let (queue, spans) = Queue::new(config.batches.queue, metrics.clone());
        let provider = SdkTracerProvider::builder()
            .with_sampler(config.sampler)
            .with_resource(config.resource)
            .with_span_processor(queue)
            .build();
        if config.propagates {
            propagation::install(otel);
        }
        span::install(&provider);
        tracing::debug!("traces are exported to {}", collector.origin());
        Ok(Self::run(collector, spans, config.batches, metrics))
    }

    fn run(
        collector: Collector,
        spans: Receiver<SpanData>,
        batches: Batches,
        metrics: TraceMetrics,
    ) -> Self {
        let ends = CancellationToken::new();
        let exporter = Exporter {
            collector,
            spans,
            batches,
            metrics: metrics.clone(),
            ends: ends.clone(),
            failing: false,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(exporter.run()));
        Self { metrics, running: Some(Running { ends, task }) }
    }

    /// Exports what has ended so far, and ends. Waits at most `limit`.
    pub async fn end(self, limit: Duration) {
        let Some(Running { ends, task }) = self.running else { return };
        ends.cancel();
        if timeout(limit, task).await.is_err() {
            tracing::info!("the last traces were not exported within {limit:?}");
        }
    }
}

struct Exporter {
    collector: Collector,
    spans: Receiver<SpanData>,
    batches: Batches,
    metrics: TraceMetrics,
    ends: CancellationToken,
    /// The last request has failed.
    failing: bool,
}

impl Exporter {
    async fn run(mut self) {
        let ends = self.ends.clone();
        let mut batch = Vec::new();
        while !ends.is_cancelled() {
            let received = tokio::select! {
                biased;
                () = ends.cancelled() => break,
                received = self.spans.recv_many(&mut batch, self.batches.size) => received,
            };
            if received == 0 {
                return;
            }
            let full = async {
                while batch.len() < self.batches.size {
                    let room = self.batches.size.saturating_sub(batch.len());
                    if self.spans.recv_many(&mut batch, room).await == 0 {
                        return;
                    }
                }
            };
            // With an end of the wait, the last batches are sent below.
            let _ = ends.run_until_cancelled(timeout(self.batches.delay, full)).await;
            self.export(std::mem::take(&mut batch)).await;
        }
        self.spans.close();
        while self.spans.recv_many(&mut batch, self.batches.size).await > 0 {
            self.export(std::mem::take(&mut batch)).await;
        }
    }

    /// Sends a batch, and tries again after transient errors. At the end there is no more than one
    /// try.
    async fn export(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let body = self.collector.encode(batch);
        let mut pause = PAUSE;
        for remaining in (0..TRIES).rev() {
            let error = match self.collector.send(body.clone()).await {
                Ok(refused) => {
                    self.metrics.dropped.inc_by(refused);
                    self.works();
                    return;
                }
                Err(error) => error,
            };
            self.metrics.failures.inc();
            self.fails(&error);
            if remaining == 0 || !error.is_transient() || self.ends.is_cancelled() {
                break;
            }
            let wait = error.patience().unwrap_or_else(|| varied(pause));
            let _ = self.ends.clone().run_until_cancelled(sleep(wait)).await;
            pause = pause.saturating_mul(2);
        }
        self.metrics.dropped.inc_by(count);
    }

    /// Logs the first failure.
    fn fails(&mut self, error: &ExportError) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                "traces cannot be exported to {}: {error}; this is logged once, until it works \
                 again. Without a collector set OTEL_SDK_DISABLED=true",
                self.collector.origin()
            );
        }
    }

    fn works(&mut self) {
        if std::mem::replace(&mut self.failing, false) {
            let dropped = self.metrics.dropped.get();
            tracing::info!("traces are exported again; {dropped} spans were dropped so far");
        }
    }
}

#[cfg(test)]
mod tests;
