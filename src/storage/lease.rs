//! Keeps the LSN of a static compute from garbage collection (01 §16, 06 §6).
//!
//! Begins as soon as the first spec is known, beside the start, and ends with the compute. Every
//! pageserver of every shard is asked by itself, so that one that is slow or gone does not delay
//! the others, and renews its lease by itself (06 W7). None of what happens here changes the
//! status: it is in the log and in the metrics (06 W10).
//!
//! A newer spec counts from the next request on: its token, and, at once, its pageservers. What is
//! leased is the LSN that the compute was started with, to the very end: Postgres reads there until
//! it ends, whatever a later spec says. An LSN that a later spec names is leased as well.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::basebackup::pause;
use super::errors::chain;
use super::lease_request::{Lease, Lessor, Pin};
use crate::spec::pageserver::PageserverConnectionInfo;
use crate::spec::{ComputeMode, ParsedSpec};
use crate::telemetry::lease_metrics::LeaseMetrics;

/// The spec in force, and every later one.
pub type Specs = watch::Receiver<Option<Arc<ParsedSpec>>>;

/// How long to wait for and between requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseLimits {
    /// Connecting and answering.
    pub request: Duration,
    /// A lease is renewed so long before it ends, or after half of it, whichever is later.
    pub ahead: Duration,
    /// Least time between a grant and its renewal: the end may be past by our clock (06 W9).
    pub least_sleep: Duration,
    /// After the first failure; each further one is 1.5 times as long.
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

/// Begins to lease, if the spec in force is that of a static compute. Dropping the handle ends it.
pub fn start(
    specs: Specs,
    limits: LeaseLimits,
    metrics: LeaseMetrics,
) -> Option<AbortOnDropHandle<()>> {
    let first = pin(specs.borrow().as_deref()?)?;
    let task = Task { first, specs, limits, metrics };
    Some(AbortOnDropHandle::new(tokio::spawn(task.run())))
}

/// What a static compute needs.
fn pin(spec: &ParsedSpec) -> Option<Pin> {
    let ComputeMode::Static(lsn) = spec.mode() else { return None };
    Some(Pin { tenant_id: spec.tenant_id, timeline_id: spec.timeline_id, lsn })
}

/// What decides who is asked for what; the token does not.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    pins: Vec<Pin>,
    pageserver: PageserverConnectionInfo,
}

struct Task {
    first: Pin,
    specs: Specs,
    limits: LeaseLimits,
    metrics: LeaseMetrics,
}

impl Task {
    async fn run(self) {
        // There was one when this began, and a spec is only ever replaced.
        while let Some(plan) = self.plan() {
            let mut specs = self.specs.clone();
            let replaced = specs
                .wait_for(|spec| spec.as_deref().is_some_and(|spec| self.plan_of(spec) != plan));
            tokio::select! {
                never = self.hold_all(&plan) => match never {},
                changed = replaced => if changed.is_err() {
                    return;
                },
            }
            tracing::info!("Pageserver config changed, asking for LSN leases anew");
            self.metrics.forget();
        }
    }

    fn plan(&self) -> Option<Plan> {
        self.specs.borrow().as_deref().map(|spec| self.plan_of(spec))
    }

    fn plan_of(&self, spec: &ParsedSpec) -> Plan {
        let mut pins = vec![self.first];
        pins.extend(pin(spec).filter(|pin| *pin != self.first));
        Plan { pins, pageserver: spec.pageserver.clone() }
    }

    async fn hold_all(&self, plan: &Plan) -> std::convert::Infallible {
        let protocol = plan.pageserver.prefer_protocol;
        let lessors = plan.pageserver.shards.iter().flat_map(|(shard, servers)| {
            let lessor = move |pageserver| Lessor { shard: *shard, pageserver, protocol };
            servers.pageservers.iter().cloned().map(lessor)
        });
        let lessors: Vec<Lessor> = lessors.collect();
        let leases = plan.pins.iter().flat_map(|pin| {
            let Pin { tenant_id, timeline_id, lsn } = *pin;
            let span = tracing::info_span!("lsn_lease_bg_task", %tenant_id, %timeline_id, %lsn);
            lessors.iter().map(move |lessor| self.hold(lessor, *pin).instrument(span.clone()))
        });
        future::join_all(leases).await;
        // All were refused: nothing is to be done until there are other pageservers.
        future::pending().await
    }

    /// Keeps one lease. Returns when it is refused.
    async fn hold(&self, lessor: &Lessor, pin: Pin) {
        let limits = self.limits;
        let (shard, whom) = (lessor.shard, lessor.name());
        let mut attempt = 0;
        loop {
            let token = self.specs.borrow().as_ref().and_then(|it| it.storage_token().cloned());
            let sleep = match lessor.ask(pin, token.as_ref(), limits.request).await {
                Ok(Lease::Until(until)) => {
                    attempt = 0;
                    self.metrics.granted(shard, &whom, pin.lsn, until);
                    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
                    let sleep = renewal(left, limits);
                    if left.is_zero() {
                        tracing::warn!(
                            "the LSN lease of shard {shard} at {whom} ends in the past: one of \
                             the two clocks is wrong"
                        );
                    }
                    tracing::info!(
                        "Request succeeded, sleeping for {:.0} seconds (shard {shard} at {whom})",
                        sleep.as_secs_f64()
                    );
                    sleep
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
                        "Failed to acquire lsn lease: shard {shard} at {whom}: {} (attempt {attempt})",
                        chain(&error)
                    );
                    let sleep = pause(limits.first_pause, attempt).min(limits.longest_pause);
                    attempt += 1;
                    sleep
                }
            };
            tokio::time::sleep(sleep).await;
        }
    }
}

/// When to renew a lease that ends in `left` (06 §6.3).
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
