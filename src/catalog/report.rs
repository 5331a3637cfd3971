//! The result of an apply for each object, as `/status` shows it.
//!
//! A spec may have tens of thousands of objects, and the report is kept and sent repeatedly. So it
//! holds the first entries of each kind and counts all of them.

use serde::Serialize;
use utoipa::ToSchema;

// Under this name: a type called `Object` is described as an object with any members.
use super::operation::{Action, CatalogStep, Object as CatalogObject, Operation};
use crate::sql::SessionError;

/// How many entries are kept of each: operations that are done, unchanged objects, vanished
/// databases.
const MAX_LISTED: usize = 100;
/// How many operations that failed are kept; their messages are longer.
const MOST_FAILED: usize = 50;

/// One operation and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OperationReport {
    /// The phase it belongs to.
    #[schema(value_type = String, example = "databases")]
    pub phase: CatalogStep,
    /// What the operation does.
    pub action: Action,
    /// The object it changes.
    pub object: CatalogObject,
    /// Database of the session.
    pub database: String,
    /// The outcome.
    pub outcome: Outcome,
}

/// The outcome of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OperationOutcome)]
pub enum Outcome {
    /// The operation is committed.
    Done,
    /// The operation failed. Operations in the same transaction are not committed either.
    Failed {
        /// SQLSTATE, if the server itself answered.
        #[schema(required)]
        sqlstate: Option<String>,
        /// The error, without any SQL text.
        message: String,
    },
}

/// A count of each kind of entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ApplyCounts)]
pub struct Counts {
    /// Operations that are committed.
    pub done: usize,
    /// Operations that failed.
    pub failed: usize,
    /// Objects of the spec that needed no change.
    pub unchanged: usize,
    /// Databases that were dropped during the apply.
    pub vanished: usize,
}

/// The report of the last apply of roles and databases. Operations that were planned but not begun
/// are not in it. The lists hold the first 100 entries of each kind, and the first 50 operations that
/// failed; `counts` covers all of them, and `left_out` says how many entries the lists omit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ApplyReport {
    /// The error that ended the apply; null if the apply is complete.
    #[schema(required)]
    pub error: Option<String>,
    /// Operations, in the order in which they ended.
    pub operations: Vec<OperationReport>,
    /// Objects of the spec that needed no change.
    pub unchanged: Vec<CatalogObject>,
    /// Databases that were dropped during the apply.
    pub vanished: Vec<String>,
    /// Statements that met a time limit: the server's, one of ours, or that of the whole apply.
    pub timed_out: u64,
    /// Number of entries of each kind.
    pub counts: Counts,
    /// Number of entries of each kind that the lists omit.
    pub left_out: Counts,
}

impl ApplyReport {
    /// A report of an apply that ended before anything was changed.
    pub(super) fn nothing_done(error: &impl ToString) -> Self {
        Self { error: Some(error.to_string()), ..Self::default() }
    }

    pub(super) fn note_done(&mut self, operation: &Operation) {
        tracing::info!(
            "done: {operation}, in database {:?}: {}",
            operation.database,
            operation.reason
        );
        let (count, left_out) = (&mut self.counts.done, &mut self.left_out.done);
        if has_room(MAX_LISTED, count, left_out) {
            self.operations.push(entry(operation, Outcome::Done));
        }
    }

    pub(super) fn note_failed(&mut self, operation: &Operation, error: &SessionError) {
        let (count, left_out) = (&mut self.counts.failed, &mut self.left_out.failed);
        if has_room(MOST_FAILED, count, left_out) {
            let sqlstate = error.sqlstate().map(|state| state.code().to_owned());
            let outcome = Outcome::Failed { sqlstate, message: error.to_string() };
            self.operations.push(entry(operation, outcome));
        }
    }

    /// Counts a statement of the apply if a time limit ended it (05 §22).
    pub(super) fn note_time_limit(&mut self, error: &SessionError) {
        if error.is_time_limit() {
            self.note_timed_out();
        }
    }

    pub(super) const fn note_timed_out(&mut self) {
        self.timed_out = self.timed_out.saturating_add(1);
    }

    pub(super) fn note_unchanged(&mut self, object: &CatalogObject) {
        if has_room(MAX_LISTED, &mut self.counts.unchanged, &mut self.left_out.unchanged) {
            self.unchanged.push(object.clone());
        }
    }

    pub(super) fn note_vanished(&mut self, database: &str) {
        if has_room(MAX_LISTED, &mut self.counts.vanished, &mut self.left_out.vanished) {
            self.vanished.push(database.to_owned());
        }
    }
}

/// Counts one more entry, and says whether to keep it.
const fn has_room(most: usize, count: &mut usize, left_out: &mut usize) -> bool {
    *count = count.saturating_add(1);
    let kept = *count <= most;
    if !kept {
        *left_out = left_out.saturating_add(1);
    }
    kept
}

fn entry(operation: &Operation, outcome: Outcome) -> OperationReport {
    OperationReport {
        phase: operation.phase,
        action: operation.action,
        object: operation.object.clone(),
        database: operation.database.to_string(),
        outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::operation::ObjectKind;
    use crate::secret::Secret;

    #[test]
    fn ten_thousand_databases_fit() {
        let mut report = ApplyReport::default();
        for n in 0..10_000 {
            let object = CatalogObject::new(ObjectKind::Database, &format!("{n:063}"));
            let operation = Operation {
                phase: CatalogStep::Databases,
                action: Action::Create,
                object: object.clone(),
                database: "postgres".into(),
                role: "cloud_admin".into(),
                reason: String::new(),
                sql: Secret::new(String::new()),
                alone: true,
            };
            report.note_unchanged(&object);
            report.note_done(&operation);
            report.note_vanished(&object.name);
            if n >= 9_930 {
                report.note_failed(&operation, &SessionError::Answer("odd".to_owned()));
            }
        }
        let all = Counts { done: 10_000, failed: 70, unchanged: 10_000, vanished: 10_000 };
        assert_eq!(report.counts, all);
        let left_out = Counts { done: 9_900, failed: 20, unchanged: 9_900, vanished: 9_900 };
        assert_eq!(report.left_out, left_out);
        assert_eq!(report.operations.len(), 150, "those that failed last are there, too");
        assert!(serde_json::to_vec(&report).unwrap().len() < 64 * 1024);
    }
}
