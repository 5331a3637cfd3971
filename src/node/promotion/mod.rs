//! The promotion of a replica to a primary, as the node sees it: the status does not change (01
//! §17). The spec that [`accept`] checks becomes an [`attempt`] of the driver, whose outcome is one
//! of the [`states`].

pub(crate) mod accept;
pub(crate) mod attempt;
pub(crate) mod states;

use std::sync::Arc;

use super::ComputeNode;
use super::requests::WrongStatus;
use crate::spec::ParsedSpec;
use crate::state::ComputeStatus;

impl ComputeNode {
    /// The spec of a compute that can be promoted: one that has a spec and is not ending.
    ///
    /// # Errors
    /// There is no spec, or the compute is ending.
    pub fn may_be_promoted(&self) -> Result<Arc<ParsedSpec>, WrongStatus> {
        let status = self.lock().status;
        if status == ComputeStatus::Empty || status.is_ending() {
            return Err(WrongStatus(status));
        }
        self.spec().ok_or(WrongStatus(status))
    }

    /// Notes the end of a promotion: the members that `/status` shows beside the status.
    pub fn end_promotion(&self, operation: Option<String>, failed: Option<String>) {
        let mut state = self.lock();
        match failed {
            Some(error) => state.last_failure = Some(state.failed_operation(operation, error)),
            None => {
                state.step = None;
                state.applied_operation = operation;
            }
        }
    }
}
