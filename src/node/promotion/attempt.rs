//! Attempts to promote the replica (07 §5): the request, and its outcome.
//!
//! ```text
//! POST /promote ─► accept::accept ─► Promotion::ask ─┐                    ┌─► failed: the next ask
//! POST /promote ───────────────────────────────────┴─► one attempt ─────┤   begins a new attempt
//!                                     (served by the driver, standby)   └─► final: for every caller
//! ```
//!
//! Invariants: there is at most one attempt at a time, every caller during the attempt gets its
//! outcome, and it goes on if any of the callers go away. An attempt that ended before the server
//! left recovery is forgotten (07 W27); any later outcome is final for this process. Every attempt
//! ends, even one that is dropped.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::states::PromotionState;
use crate::node::accepted::AcceptedSpec;
use crate::spec::Lsn;
use crate::telemetry::traces::{self, Parent};

/// What a request for promotion wants.
#[derive(Debug, Clone)]
pub struct PromotionRequest {
    /// The spec to run with after the promotion; see [`accept`](super::accept::accept).
    pub spec: AcceptedSpec,
    /// WAL position that must have been replayed first.
    pub wal_flush_lsn: Lsn,
}

/// Error of an attempt that was dropped before its end.
const DROPPED: &str = "promote sender dropped: the compute is ending";

/// The promotion of one compute.
#[derive(Debug, Default)]
pub struct Promotion {
    shared: Arc<Mutex<Shared>>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct Shared {
    /// An attempt that the driver has not taken yet.
    waiting: Option<Attempt>,
    /// Outcome of the current attempt, or the final one.
    outcome: Option<watch::Receiver<PromotionState>>,
    /// The driver takes no more attempts.
    closed: bool,
}

/// The one attempt in progress. Dropping it ends it.
#[derive(Debug)]
pub struct Attempt {
    /// The first caller's request; later callers get the same outcome.
    pub request: PromotionRequest,
    /// Place of that request in its trace.
    pub(crate) from: Parent,
    /// [`PromotionState::NotPromoted`] until the attempt ends.
    outcome: watch::Sender<PromotionState>,
    shared: Arc<Mutex<Shared>>,
    is_over: bool,
}

impl Promotion {
    /// Joins the current attempt or begins one, and waits for its outcome. The attempt goes on if
    /// the caller goes away.
    pub fn ask(
        &self,
        request: PromotionRequest,
    ) -> impl Future<Output = PromotionState> + Send + use<> {
        let followed = self.follow(request);
        async move {
            let dropped = PromotionState::Failed { error: DROPPED.to_owned() };
            let Some(mut outcome) = followed else { return dropped };
            let ended = outcome.wait_for(|state| *state != PromotionState::NotPromoted).await;
            ended.map_or(dropped, |state| state.clone())
        }
    }

    /// `None` after [`Self::close`].
    fn follow(&self, request: PromotionRequest) -> Option<watch::Receiver<PromotionState>> {
        let mut shared = self.shared.lock();
        if let Some(outcome) = &shared.outcome {
            return Some(outcome.clone());
        }
        if shared.closed {
            return None;
        }
        let (sender, outcome) = watch::channel(PromotionState::NotPromoted);
        shared.outcome = Some(outcome.clone());
        let of = Arc::clone(&self.shared);
        let from = traces::here();
        let attempt = Attempt { request, from, outcome: sender, shared: of, is_over: false };
        shared.waiting = Some(attempt);
        drop(shared);
        self.asked.notify_one();
        Some(outcome)
    }

    /// Waits for an attempt to begin; only the driver calls this.
    pub async fn asked(&self) -> Attempt {
        loop {
            self.asked.notified().await;
            let waiting = self.shared.lock().waiting.take();
            if let Some(attempt) = waiting {
                return attempt;
            }
        }
    }

    /// The driver takes no more attempts: present and later callers get an error.
    pub fn close(&self) {
        let waiting = {
            let mut shared = self.shared.lock();
            shared.closed = true;
            shared.waiting.take()
        };
        // Not under the lock: dropping the attempt takes it.
        drop(waiting);
    }
}

impl Attempt {
    /// Ends an attempt that may be tried again; as far as is known the server is still a replica.
    pub fn failed(mut self, error: String) {
        // First, so that a caller that gets the error can try again.
        self.forget();
        self.outcome.send_replace(PromotionState::Failed { error });
    }

    /// Ends the attempt for good, with either outcome: the server is no longer a replica.
    pub fn end(mut self, state: PromotionState) {
        self.is_over = true;
        self.outcome.send_replace(state);
    }

    /// Forgets the attempt, once: afterwards the outcome is that of another attempt.
    fn forget(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.shared.lock().outcome = None;
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ComputeParams;
    use super::super::accept::tests::parsed;
    use super::super::states::Promoted;
    use super::*;
    use serde_json::json;

    fn request(number: u64) -> PromotionRequest {
        let spec = ComputeParams::for_tests().accept(parsed(json!({}))).unwrap();
        PromotionRequest { spec, wal_flush_lsn: Lsn(number) }
    }

    fn done() -> PromotionState {
        PromotionState::Completed(Promoted {
            lsn_wait_time_ms: 1,
            pg_promote_time_ms: 2,
            reconfigure_time_ms: 3,
        })
    }

    fn failed(error: &str) -> PromotionState {
        PromotionState::Failed { error: error.to_owned() }
    }

    #[tokio::test]
    async fn all_get_the_outcome_of_the_first() {
        let promotion = Promotion::default();
        let (first, second) = (promotion.ask(request(1)), promotion.ask(request(2)));
        // The first caller goes away.
        drop(first);
        let attempt = promotion.asked().await;
        assert_eq!(attempt.request.wal_flush_lsn, Lsn(1));
        let third = promotion.ask(request(3));
        attempt.end(done());
        assert_eq!(tokio::join!(second, third), (done(), done()));
        assert_eq!(promotion.ask(request(4)).await, done(), "for good");
    }

    #[tokio::test]
    async fn an_early_failure_is_forgotten_and_a_late_one_is_not() {
        let promotion = Promotion::default();
        let first = promotion.ask(request(1));
        promotion.asked().await.failed("early".to_owned());
        assert_eq!(first.await, failed("early"));
        let second = promotion.ask(request(2));
        let attempt = promotion.asked().await;
        assert_eq!(attempt.request.wal_flush_lsn, Lsn(2));
        attempt.end(failed("late"));
        assert_eq!(second.await, failed("late"));
        assert_eq!(promotion.ask(request(3)).await, failed("late"));
    }

    #[tokio::test]
    async fn every_attempt_ends() {
        let promotion = Promotion::default();
        let first = promotion.ask(request(1));
        drop(promotion.asked().await);
        assert_eq!(first.await, failed(DROPPED));
        let second = promotion.ask(request(2));
        promotion.close();
        assert_eq!(second.await, failed(DROPPED));
        assert_eq!(promotion.ask(request(3)).await, failed(DROPPED));
    }
}
