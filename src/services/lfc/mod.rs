//! The local file cache of Postgres across computes (07 §4): a list of its pages is stored in the
//! endpoint storage ("offload"), and the next compute loads these pages again ("prewarm").
//!
//! ```text
//! /lfc/prewarm, autoprewarm ─► slot ─► task: storage GET ─► zstd ─► neon.prewarm_local_cache()
//! /lfc/offload, interval ────► slot ─► task: neon.get_local_cache_state() ─► zstd ─► storage PUT
//! ```
//!
//! Invariants: at most one prewarm and one offload at a time; every run ends, even if Postgres or
//! the storage hangs, and its state says how; no run fails the compute or outlives it.

pub(crate) mod slot;
pub(crate) mod states;

mod offload;
mod prewarm;
mod shared;
mod storage;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::background::Background;
use crate::errors::one_line;
use crate::postgres::install::PgVersion;
use crate::spec::ParsedSpec;
use crate::sql::SessionDeadlines;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces;
use offload::Trigger;
pub(crate) use shared::LfcLimits;
use shared::Shared;
pub(crate) use slot::Busy;
use slot::Slot;
use states::{OffloadState, PrewarmState};
use storage::NoObject;

/// Prewarm and offload of one compute. Clones share the state.
#[derive(Debug, Clone)]
pub struct Lfc(Arc<Shared>);

impl Lfc {
    /// Touches nothing. Runs end with the compute. `connstr` is `--connstr`, and `version` is the
    /// version of the server there.
    pub fn new(
        connstr: Url,
        version: PgVersion,
        deadlines: SessionDeadlines,
        limits: LfcLimits,
        metrics: &Metrics,
        background: &Background,
    ) -> Self {
        Self(Arc::new(Shared {
            connstr,
            version,
            deadlines,
            limits,
            metrics: metrics.clone(),
            background: background.clone(),
            prewarm: Slot::new(PrewarmState::NotPrewarmed),
            offload: Slot::new(OffloadState::NotOffloaded),
        }))
    }

    /// State of the prewarm.
    pub fn prewarm_state(&self) -> PrewarmState {
        self.0.prewarm.state()
    }

    /// State of the offload.
    pub fn offload_state(&self) -> OffloadState {
        self.0.offload.state()
    }

    /// Begins a prewarm in the background, from the state of the spec's own endpoint or of another
    /// one. The state is `prewarming` when this returns.
    ///
    /// # Errors
    /// A prewarm is running.
    pub fn start_prewarm(
        &self,
        spec: Arc<ParsedSpec>,
        from_endpoint: Option<String>,
    ) -> Result<(), Busy> {
        let interrupted = PrewarmState::Failed { error: self.0.interrupted("prewarm") };
        let run = self.0.prewarm.begin(PrewarmState::Prewarming, interrupted)?;
        self.0.metrics.lfc_prewarms.inc();
        let shared = Arc::clone(&self.0);
        let span = traces::span("prewarm");
        let inside = span.inside();
        self.0.background.spawn(inside.scope(async move {
            let _span = span;
            let endpoint = from_endpoint.as_deref();
            let ended = prewarm::prewarm(&shared, &spec, endpoint, &run.cancel).await;
            let state = ended.unwrap_or_else(|error| {
                let short = one_line(error.as_ref());
                traces::failed(&short);
                log_failure("prewarm", &error, &short);
                let error = short;
                shared.metrics.lfc_prewarm_errors.inc();
                PrewarmState::Failed { error }
            });
            tracing::info!("prewarm of the local file cache: {state:?}");
            run.end(state);
        }));
        Ok(())
    }

    /// Asks a running prewarm to end; without one it has no effect.
    pub fn cancel_prewarm(&self) {
        self.0.prewarm.cancel();
    }

    /// Begins an offload in the background. The state is `offloading` when this returns.
    ///
    /// # Errors
    /// An offload is running.
    pub fn start_offload(&self, spec: Arc<ParsedSpec>) -> Result<(), Busy> {
        self.begin_offload(spec, Trigger::Request)
    }

    fn begin_offload(&self, spec: Arc<ParsedSpec>, trigger: Trigger) -> Result<(), Busy> {
        let interrupted = OffloadState::Failed { error: self.0.interrupted("offload") };
        let run = self.0.offload.begin(OffloadState::Offloading, interrupted)?;
        self.0.metrics.lfc_offloads.inc();
        let shared = Arc::clone(&self.0);
        let span = traces::span("offload");
        let inside = span.inside();
        self.0.background.spawn(inside.scope(async move {
            let _span = span;
            let state = match offload::offload(&shared, &spec, trigger).await {
                Ok(Some(state)) => state,
                Ok(None) => {
                    tracing::info!("a prewarm began during the offload, so no state is stored");
                    run.before.clone()
                }
                Err(error) => {
                    let short = one_line(error.as_ref());
                    traces::failed(&short);
                    log_failure("offload", &error, &short);
                    let error = short;
                    shared.metrics.lfc_offload_errors.inc();
                    OffloadState::Failed { error }
                }
            };
            tracing::debug!("offload of the local file cache: {state:?}");
            run.end(state);
        }));
        Ok(())
    }

    /// Starts the automatic runs of a spec once the compute is running: a prewarm at once, and an
    /// offload at each interval, with the spec of that moment. Dropping the handle stops the
    /// intervals; a run in progress goes on to its end.
    pub fn start_by_itself(
        &self,
        first: &Arc<ParsedSpec>,
        spec: impl Fn() -> Option<Arc<ParsedSpec>> + Send + 'static,
    ) -> Option<AbortOnDropHandle<()>> {
        // The prewarm comes first, because an offload must not come before it.
        if first.spec.autoprewarm && self.start_prewarm(Arc::clone(first), None).is_err() {
            tracing::info!("no automatic prewarm: one is running already");
        }
        let every = Duration::from_secs(first.spec.offload_lfc_interval_seconds?.get());
        let lfc = self.clone();
        let task = offload::offload_periodically(every, move || {
            let (prewarms, prewarm) = lfc.0.prewarm.look();
            let Some(spec) = spec().filter(|_| prewarm.is_settled()) else {
                return tracing::debug!("no offload, the prewarm is {prewarm:?}");
            };
            if lfc.begin_offload(spec, Trigger::Interval { prewarms }).is_err() {
                tracing::debug!("no offload, one is running");
            }
        });
        Some(AbortOnDropHandle::new(tokio::spawn(task)))
    }
}

/// A request that cannot be done with the spec is a mistake of its sender, who sees it in the state:
/// not an error of this program.
fn log_failure(work: &str, error: &anyhow::Error, text: &str) {
    if error.is::<NoObject>() {
        tracing::warn!("could not {work} the local file cache: {text}");
    } else {
        tracing::error!("could not {work} the local file cache: {text}");
    }
}

#[cfg(test)]
mod tests;
