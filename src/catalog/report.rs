//! What became of each object in an apply.

use serde::Serialize;

use super::operation::{Action, Object, Operation, Phase};
use super::session::SessionError;

/// One operation and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperationReport {
    /// Where it stands in the order of effects.
    pub phase: Phase,
    /// What was done.
    pub action: Action,
    /// To what.
    pub object: Object,
    /// Database of the session.
    pub database: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is committed.
    Done,
    /// It was refused; what was in the same transaction is not committed either.
    Failed {
        /// If the server itself answered.
        sqlstate: Option<String>,
        /// Without any SQL text.
        message: String,
    },
}

/// What an apply did. Of operations that were planned and not begun it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ApplyReport {
    /// In the order in which they ended.
    pub operations: Vec<OperationReport>,
    /// Objects of the spec that were as they should be.
    pub unchanged: Vec<Object>,
    /// Databases that vanished meanwhile.
    pub vanished: Vec<String>,
}

impl ApplyReport {
    /// How many operations are committed.
    pub fn done(&self) -> usize {
        self.operations.iter().filter(|report| report.outcome == Outcome::Done).count()
    }

    pub(super) fn note_done(&mut self, operation: &Operation) {
        tracing::info!(
            "done: {operation}, in database {:?}: {}",
            operation.database,
            operation.reason
        );
        self.push(operation, Outcome::Done);
    }

    pub(super) fn note_failed(&mut self, operation: &Operation, error: &SessionError) {
        let sqlstate = error.sqlstate().map(|state| state.code().to_owned());
        self.push(operation, Outcome::Failed { sqlstate, message: error.to_string() });
    }

    fn push(&mut self, operation: &Operation, outcome: Outcome) {
        self.operations.push(OperationReport {
            phase: operation.phase,
            action: operation.action,
            object: operation.object.clone(),
            database: operation.database.to_string(),
            outcome,
        });
    }
}
