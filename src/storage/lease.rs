//! Keeps the LSN of a static compute from garbage collection (01 §16, 06 §6).
//!
//! Starts as soon as the first spec is known, in parallel with the start of Postgres, and ends with
//! the compute. Each pageserver of each shard is asked and renewed independently, so that a slow or
//! dead one does not delay the others (06 W7). Nothing here changes the status: failures go to the
//! log and to the metrics (06 W10).
//!
//! The pageservers of a newer spec are used at once. A new token is used at once where the last
//! request has failed, elsewhere from the next request on. The LSN that the compute was started
//! with stays leased until the end, whatever a later spec says, because Postgres reads at it until
//! it ends. An LSN in a later spec is leased as well, as long as the spec names it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::lease_request::{Lease, LeasePageserver, LeasedLsn};
use super::rotation::grown;
use crate::duration::varied;
use crate::secret::Secret;
use crate::spec::pageserver::PageserverConnectionInfo;
use crate::spec::{ComputeMode, ParsedSpec, ShardIndex};
use crate::telemetry::lease_metrics::LeaseMetrics;

/// The spec in force, and every later one.
pub(crate) type Specs = watch::Receiver<Option<Arc<ParsedSpec>>>;

/// How long to wait for and between requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseLimits {
    /// Limit for connecting and answering.
    pub request: Duration,
    /// A lease is renewed this long before its end, or after half of its duration, whichever is
    /// later.
    pub ahead: Duration,
    /// Least time between a grant and its renewal: by the local clock the lease may have ended
    /// (06 W9).
    pub least_sleep: Duration,
    /// Pause after the first failure; each further one is 1.5 times as long.
    pub first_pause: Duration,
    /// Longest pause after a failure.
    pub longest_pause: Duration,
}

impl Default for LeaseLimits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(15),
            ahead: Duration::from_secs(60),
            least_sleep: Duration::from_secs(1),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// Starts to follow the specs; the one in force counts as the first. Dropping the handle ends the
/// task.
pub(crate) fn start(
    specs: Specs,
    limits: LeaseLimits,
    metrics: LeaseMetrics,
) -> AbortOnDropHandle<()> {
    let first = specs.borrow().as_deref().and_then(pin);
    let task = Task { first, specs, limits, metrics };
    AbortOnDropHandle::new(tokio::spawn(task.run()))
}

/// The LSN that a static compute needs; `None` in other modes.
fn pin(spec: &ParsedSpec) -> Option<LeasedLsn> {
    let ComputeMode::Static(lsn) = spec.mode() else { return None };
    Some(LeasedLsn { tenant_id: spec.tenant_id, timeline_id: spec.timeline_id, lsn })
}

/// Which pageservers are asked for which leases. The token is not part of it: a new one does not
/// restart the requests.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The LSNs to lease, at least one.
    pins: Vec<LeasedLsn>,
    pageserver: PageserverConnectionInfo,
}

struct Task {
    /// The LSN of the first spec, if the compute was started as a static one.
    first: Option<LeasedLsn>,
    specs: Specs,
    limits: LeaseLimits,
    metrics: LeaseMetrics,
}

impl Task {
    async fn run(self) {
        loop {
            let plan = self.plan(self.specs.borrow().as_deref());
            let mut specs = self.specs.clone();
            let replaced = specs.wait_for(|spec| self.plan(spec.as_deref()) != plan);
            tokio::select! {
                never = self.hold_all(plan.as_ref()) => match never {},
                changed = replaced => if changed.is_err() {
                    return;
                },
            }
            if plan.is_some() {
                tracing::info!(
                    "Pageserver config changed, LSN leases are asked for anew if needed"
                );
                self.metrics.forget();
            }
        }
    }

    /// `None` while no lease is needed.
    fn plan(&self, spec: Option<&ParsedSpec>) -> Option<Plan> {
        let spec = spec?;
        let mut pins = Vec::from_iter(self.first);
        pins.extend(pin(spec).filter(|pin| Some(*pin) != self.first));
        (!pins.is_empty()).then(|| Plan { pins, pageserver: spec.pageserver.clone() })
    }

    async fn hold_all(&self, plan: Option<&Plan>) -> Infallible {
        let Some(plan) = plan else { return future::pending().await };
        let protocol = plan.pageserver.prefer_protocol;
        let lessors = plan.pageserver.shards.iter().flat_map(|(shard, servers)| {
            let lessor = move |pageserver| LeasePageserver { shard: *shard, pageserver, protocol };
            servers.pageservers.iter().cloned().map(lessor)
        });
        let lessors: Vec<LeasePageserver> = lessors.collect();
        let leases = plan.pins.iter().flat_map(|pin| {
            let LeasedLsn { tenant_id, timeline_id, lsn } = *pin;
            let span = tracing::info_span!("lsn_lease_bg_task", %tenant_id, %timeline_id, %lsn);
            lessors.iter().map(move |lessor| self.hold(lessor, *pin).instrument(span.clone()))
        });
        future::join_all(leases).await;
        // All were refused: wait until the spec names other pageservers.
        future::pending().await
    }

    /// Keeps one lease. Returns when it is refused.
    async fn hold(&self, lessor: &LeasePageserver, pin: LeasedLsn) {
        let limits = self.limits;
        let (shard, whom) = (lessor.shard, lessor.name());
        let mut attempt = 0;
        // End of the last grant, until the log has said that it ran out.
        let mut runs_out = None;
        loop {
            let token = token(self.specs.borrow().as_deref()).cloned();
            match lessor.ask(pin, token.as_ref(), limits.request).await {
                Ok(Lease::Until(until)) => {
                    (attempt, runs_out) = (0, Some(until));
                    self.metrics.granted(shard, &whom, pin.lsn, until);
                    tokio::time::sleep(granted(shard, &whom, until, limits)).await;
                }
                Ok(Lease::Refused) => {
                    self.metrics.refused(shard, &whom, pin.lsn);
                    tracing::error!(
                        "Exited with error: Permanent error: lease could not be obtained, LSN is \
                         behind the GC cutoff (shard {shard} at {whom}); reads at this LSN will fail"
                    );
                    return;
                }
                Err(error) => {
                    self.metrics.failed();
                    tracing::warn!(
                        "Failed to acquire lsn lease: shard {shard} at {whom}: {error} (attempt {attempt})"
                    );
                    if runs_out.take_if(|until| *until <= SystemTime::now()).is_some() {
                        tracing::error!(
                            "the LSN lease of shard {shard} at {whom} has run out: reads at this \
                             LSN may fail"
                        );
                    }
                    let pause = grown(limits.first_pause, attempt).min(limits.longest_pause);
                    attempt += 1;
                    // A wrong token may be the cause, so a new one ends the pause.
                    let other = self.other_token(token.as_ref());
                    if tokio::time::timeout(varied(pause), other).await.is_ok() {
                        attempt = 0;
                    }
                }
            }
        }
    }

    /// Waits for a spec with another token.
    async fn other_token(&self, known: Option<&Secret<String>>) {
        let mut specs = self.specs.clone();
        if specs.wait_for(|spec| token(spec.as_deref()) != known).await.is_err() {
            // No more specs will come; the task notices that as well.
            future::pending::<()>().await;
        }
    }
}

fn token(spec: Option<&ParsedSpec>) -> Option<&Secret<String>> {
    spec?.storage_token()
}

/// Logs a grant and returns how long to sleep before the renewal.
fn granted(shard: ShardIndex, whom: &str, until: SystemTime, limits: LeaseLimits) -> Duration {
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    let sleep = renewal(left, limits);
    if left.is_zero() {
        tracing::warn!(
            "the LSN lease of shard {shard} at {whom} ends in the past: one of the two clocks is \
             wrong"
        );
    }
    tracing::info!(
        "Request succeeded, sleeping for {:.0} seconds (shard {shard} at {whom})",
        sleep.as_secs_f64()
    );
    sleep
}

/// How long to wait before renewing a lease that ends in `left` (06 §6.3).
fn renewal(left: Duration, limits: LeaseLimits) -> Duration {
    left.saturating_sub(limits.ahead).max(left / 2).max(limits.least_sleep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_in_time() {
        let limits = LeaseLimits::default();
        let seconds = Duration::from_secs;
        for (left, sleep) in [(600, 540), (100, 50), (14, 7), (4, 2), (1, 1), (0, 1)] {
            assert_eq!(renewal(seconds(left), limits), seconds(sleep), "{left}");
        }
    }
}
