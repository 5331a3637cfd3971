//! Taking turns at the catalogs.
//!
//! If two of our sessions change the same row (a role that both grant to, say), the second one
//! fails with "tuple concurrently updated". So every change to the catalogs takes its turn here: an
//! apply as a whole, background work step by step, so that an apply waits for at most one step.
//! Turns are granted in the order of the requests.

use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Hands out the turns, one at a time.
#[derive(Debug)]
pub struct CatalogTurns(Semaphore);

/// The right to change catalogs, until it is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct CatalogTurn<'a>(#[expect(dead_code, reason = "only held")] SemaphorePermit<'a>);

/// The wait for the turn timed out.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("another task of compute_ctl has been changing catalogs for {0:?}")]
pub struct TurnTimedOut(
    /// How long the caller waited.
    pub Duration,
);

impl Default for CatalogTurns {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl CatalogTurns {
    /// Waits for the turn, at most `limit`.
    pub async fn enter(&self, limit: Duration) -> Result<CatalogTurn<'_>, TurnTimedOut> {
        match timeout(limit, self.0.acquire()).await {
            Ok(Ok(permit)) => Ok(CatalogTurn(permit)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(TurnTimedOut(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_within_the_limit() {
        let turns = CatalogTurns::default();
        let turn = turns.enter(LIMIT).await.unwrap();
        assert_eq!(turns.enter(LIMIT).await.unwrap_err(), TurnTimedOut(LIMIT));
        drop(turn);
        drop(turns.enter(LIMIT).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_comes_before_the_next_step_of_the_same_work() {
        let turns = CatalogTurns::default();
        let order = parking_lot::Mutex::new(Vec::new());
        let work = async {
            for step in 0..3 {
                let _turn = turns.enter(LIMIT).await.unwrap();
                order.lock().push(step);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let apply = async {
            let _turn = turns.enter(LIMIT).await.unwrap();
            order.lock().push(100);
        };
        tokio::join!(work, apply);
        assert_eq!(*order.lock(), [0, 100, 1, 2]);
    }
}
