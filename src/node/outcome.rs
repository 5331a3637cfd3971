//! What became of the work, where that was not what its sender wanted: status, error text and spec
//! change together.

use std::time::Instant;

use chrono::Utc;

use super::attribution::OTHER;
use super::{AcceptedSpec, ComputeNode, ComputeState, FailedOperation, WrongStatus};
use crate::state::{ComputeStatus, Event, transition};
use crate::telemetry::work_metrics::ApplyOutcome;

/// The step in which a spec is checked, in `/status` and error texts.
pub(crate) const CHECK: &str = "check_configuration";

impl ComputeNode {
    /// Notes that the start failed: status and error text change together, so that `failed` is
    /// never visible without a reason.
    pub fn fail(&self, error: String) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        let failure = state.failed_operation(self.operation(), error.clone());
        if state.status == ComputeStatus::Init {
            self.metrics.start.failed(failure.phase.unwrap_or(OTHER));
        }
        state.last_failure = Some(failure);
        state.error = Some(error);
        self.apply_locked(&mut state, Event::Failed)
    }

    /// Notes that a reconfiguration failed: as [`Self::fail`], and the spec in force is the one
    /// from before. `operation` is that of the spec that failed.
    pub fn fail_back(
        &self,
        error: String,
        operation: Option<String>,
        spec: &AcceptedSpec,
    ) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        state.last_failure = Some(state.failed_operation(operation, error.clone()));
        state.error = Some(error);
        self.set_spec(spec);
        self.apply_locked(&mut state, Event::Failed)
    }

    /// Notes that a spec was refused before anything was changed: the status is as before, and the
    /// spec in force too. Only `extra.last_failure` shows the error.
    pub(crate) fn refuse_spec(
        &self,
        error: String,
        operation: Option<String>,
        spec: &AcceptedSpec,
    ) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        state.last_failure = Some(state.failed_operation(operation, error));
        self.set_spec(spec);
        self.apply_locked(&mut state, Event::Refused)
    }

    /// Notes that a document was refused before it became work. In a status in which no document
    /// would be taken, `extra.last_failure` keeps what it shows.
    pub(crate) fn refuse_document(&self, operation: Option<String>, error: String) {
        let mut state = self.lock();
        if transition(state.status, Event::Configure).is_some() {
            let phase = Some(CHECK);
            state.last_failure = Some(FailedOperation { operation, phase, error, at: Utc::now() });
        }
    }

    /// Measures how long it takes to apply a spec to the running compute, and notes successes.
    pub(super) fn measure(&self, state: &mut ComputeState, event: Event) {
        let outcome = match event {
            Event::BeginConfiguration | Event::BeginRefresh => {
                state.applying = Some(Instant::now());
                return;
            }
            Event::Succeeded => ApplyOutcome::Succeeded,
            Event::Refused => ApplyOutcome::Refused,
            Event::Failed => ApplyOutcome::Failed,
            // The end of the compute abandons the work.
            _ => return,
        };
        let began = state.applying.take();
        let work = &self.metrics.work;
        if let Some(began) = began {
            work.applied(outcome, began.elapsed());
        }
        if outcome == ApplyOutcome::Succeeded
            && (began.is_some() || state.status == ComputeStatus::Init)
        {
            work.succeeded();
        }
    }
}
