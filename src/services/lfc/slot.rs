//! One operation at a time, with a state that outlives it (07 §4.2).
//!
//! Invariants: a "running" state has a [`Run`]; however the run ends, even by a panic, it leaves a
//! final state. Cancelling reaches the present run, never a later one (03 W9).

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Error of [`Slot::begin`]: a run is in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// The state of an operation, and its run if there is one.
#[derive(Debug)]
pub(crate) struct Slot<S> {
    inner: Mutex<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    state: S,
    run: Option<CancellationToken>,
    /// Number of runs that have begun.
    begun: u64,
}

/// The run of an operation. Dropping it ends it as interrupted.
#[derive(Debug)]
pub(crate) struct Run<S: Clone> {
    slot: Arc<Slot<S>>,
    /// Cancelled when the run must end as cancelled.
    pub cancel: CancellationToken,
    /// The state before the run.
    pub before: S,
    end: S,
}

impl<S: Clone> Slot<S> {
    /// A slot without a run.
    pub(crate) fn new(state: S) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(Inner { state, run: None, begun: 0 }) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock()
    }

    /// The present state.
    pub(crate) fn state(&self) -> S {
        self.lock().state.clone()
    }

    /// How many runs have begun so far, and the present state. A state without a run stays until
    /// the number changes.
    pub(crate) fn look(&self) -> (u64, S) {
        let inner = self.lock();
        (inner.begun, inner.state.clone())
    }

    /// Begins a run: the state is `running` from here on, and `interrupted` if it ends without a
    /// result.
    ///
    /// # Errors
    /// A run is in progress already.
    pub(crate) fn begin(self: &Arc<Self>, running: S, interrupted: S) -> Result<Run<S>, Busy> {
        let mut inner = self.lock();
        if inner.run.is_some() {
            return Err(Busy);
        }
        let cancel = CancellationToken::new();
        inner.run = Some(cancel.clone());
        inner.begun = inner.begun.saturating_add(1);
        let before = std::mem::replace(&mut inner.state, running);
        Ok(Run { slot: Arc::clone(self), cancel, before, end: interrupted })
    }

    /// Asks the run to end as cancelled; without one it has no effect.
    pub(crate) fn cancel(&self) {
        if let Some(cancel) = &self.lock().run {
            cancel.cancel();
        }
    }
}

impl<S: Clone> Run<S> {
    /// Ends the run with this state.
    pub(crate) fn end(mut self, state: S) {
        self.end = state;
    }
}

impl<S: Clone> Drop for Run<S> {
    fn drop(&mut self) {
        let mut inner = self.slot.lock();
        inner.state = self.end.clone();
        inner.run = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_always_an_end() {
        let slot = Slot::new("new");
        let run = slot.begin("running", "interrupted").unwrap();
        assert_eq!((slot.state(), run.before), ("running", "new"));
        assert_eq!(slot.begin("running", "interrupted").unwrap_err(), Busy);
        run.end("done");
        assert_eq!(slot.state(), "done");
        drop(slot.begin("running", "interrupted").unwrap());
        assert_eq!(slot.state(), "interrupted");
    }

    #[test]
    fn a_run_that_is_over_can_still_be_told() {
        let slot = Slot::new("new");
        assert_eq!(slot.look(), (0, "new"));
        let run = slot.begin("running", "interrupted").unwrap();
        assert_eq!(slot.look(), (1, "running"));
        slot.begin("running", "interrupted").unwrap_err();
        run.end("new");
        assert_eq!(slot.look(), (1, "new"));
    }

    #[test]
    fn cancelling_reaches_only_the_run_that_is_there() {
        let slot = Slot::new(0);
        slot.cancel();
        let first = slot.begin(1, 2).unwrap();
        assert!(!first.cancel.is_cancelled());
        slot.cancel();
        assert!(first.cancel.is_cancelled());
        first.end(3);
        slot.cancel();
        let second = slot.begin(1, 2).unwrap();
        assert!(!second.cancel.is_cancelled());
    }
}
