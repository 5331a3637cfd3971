//! The document of `GET /status` and of `POST /configure`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::error::Error;
use crate::state::ComputeStatus;

/// What the document is called in errors.
const NAME: &str = "a status document";

/// `GET /status`: where in its life a compute is.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    members: Members,
    document: Value,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Members {
    status: ComputeStatus,
    start_time: Option<DateTime<Utc>>,
    tenant: Option<String>,
    timeline: Option<String>,
    last_active: Option<DateTime<Utc>>,
    error: Option<String>,
}

impl Status {
    /// Reads a document.
    ///
    /// # Errors
    /// [`Error::Unexpected`]: it is not a status document, or has a status that this version does
    /// not know.
    pub fn of(document: Value) -> Result<Self, Error> {
        let members = Members::deserialize(&document).map_err(|_| Error::Unexpected(NAME))?;
        Ok(Self { members, document })
    }

    /// Present status of the compute.
    pub const fn status(&self) -> ComputeStatus {
        self.members.status
    }

    /// Start of the process, or the moment the spec came.
    pub const fn start_time(&self) -> Option<DateTime<Utc>> {
        self.members.start_time
    }

    /// Tenant id, 32 hexadecimal digits; `None` before there is a spec.
    pub fn tenant(&self) -> Option<&str> {
        self.members.tenant.as_deref()
    }

    /// Timeline id, 32 hexadecimal digits; `None` before there is a spec.
    pub fn timeline(&self) -> Option<&str> {
        self.members.timeline.as_deref()
    }

    /// Last activity of a user.
    pub const fn last_active(&self) -> Option<DateTime<Utc>> {
        self.members.last_active
    }

    /// What failed, with causes, in several lines.
    pub fn error(&self) -> Option<&str> {
        self.members.error.as_deref()
    }

    /// Members that only this program has; empty for other implementations of the API.
    ///
    /// # Errors
    /// [`Error::Unexpected`]: a member has another form than in this version.
    /// [`Status::document`] has it.
    pub fn extra(&self) -> Result<Extra, Error> {
        match self.document.get("extra") {
            None | Some(Value::Null) => Ok(Extra::default()),
            Some(extra) => {
                Extra::deserialize(extra).map_err(|_| Error::Unexpected("a known form of `extra`"))
            }
        }
    }

    /// The document as the compute sent it.
    pub const fn document(&self) -> &Value {
        &self.document
    }

    /// The same with another status, which the compute could not show any more.
    pub(in crate::client) fn followed_by(mut self, status: ComputeStatus) -> Self {
        self.members.status = status;
        if let Some(member) = self.document.get_mut("status") {
            *member = Value::from(status.name());
        }
        self
    }
}

/// Member `extra` of the status document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extra {
    /// Work in progress: phases of the start, or the step of a reconfiguration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<String>,
    /// Compressed bytes of the base backup received so far, while the compute starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basebackup_bytes: Option<u64>,
    /// `operation_uuid` of the spec that was last applied without an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_operation: Option<String>,
    /// The last start, reconfiguration or refresh that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// What became of each object when the catalog was last applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply_report: Option<ApplyReport>,
    /// Reasons that have moved `last_active`, and their present state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub activity: Vec<Activity>,
    /// Members without a type here, by name.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// Work that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// `operation_uuid` of the spec to apply; `None` if no spec could be fetched.
    pub operation: Option<String>,
    /// The phase or step that failed.
    pub phase: Option<String>,
    /// With causes, in several lines.
    pub error: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A reason for being awake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Such as `active_sessions`.
    pub reason: String,
    /// Count at the last check; 0 when the activity is over.
    pub count: u64,
    /// The last moment of activity for this reason.
    pub last: DateTime<Utc>,
}

/// The report of the last apply of roles and databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyReport {
    /// The error that ended the apply; `None` if the apply is complete.
    pub error: Option<String>,
    /// Operations, in the order in which they ended: the first 100 that are done, and the first 50
    /// that failed.
    pub operations: Vec<Operation>,
    /// Objects of the spec that needed no change, at most 100.
    pub unchanged: Vec<CatalogObject>,
    /// Databases that were dropped during the apply, at most 100.
    pub vanished: Vec<String>,
    /// Statements that met a time limit.
    pub timed_out: u64,
    /// Number of entries of each kind.
    pub counts: ApplyCounts,
    /// Number of entries of each kind that the lists omit.
    pub left_out: ApplyCounts,
}

/// One change to the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The phase of the apply, such as `databases`.
    pub phase: String,
    /// What is done, such as `create`.
    pub action: String,
    /// To which object.
    pub object: CatalogObject,
    /// Database of the session.
    pub database: String,
    /// The outcome.
    pub outcome: Outcome,
}

/// An object of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogObject {
    /// Such as `role` or `database`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// The outcome of an operation: the string `done`, or an object with the member `failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is committed.
    Done,
    /// It failed.
    Failed {
        /// SQLSTATE, if the server itself answered.
        sqlstate: Option<String>,
        /// The error.
        message: String,
    },
}

/// A count of each kind of entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyCounts {
    /// Operations that are committed.
    pub done: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Objects of the spec that needed no change.
    pub unchanged: u64,
    /// Databases that were dropped during the apply.
    pub vanished: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_a_status_document() {
        let status = Status::of(json!({"status": "running", "new": 1})).unwrap();
        assert_eq!(status.status(), ComputeStatus::Running);
        assert_eq!(status.extra().unwrap(), Extra::default());
        assert_eq!(status.document()["new"], 1);
        let ended = status.followed_by(ComputeStatus::Terminated);
        assert_eq!(ended.document()["status"], "terminated");
        for other in [json!("hello"), json!(null), json!({}), json!({"status": "odd"})] {
            let error = Status::of(other).unwrap_err();
            assert_eq!(error.to_string(), "the answer is not a status document");
        }
    }

    #[test]
    fn extra_members() {
        let document = json!({"status": "init", "extra": {"phases": ["basebackup"], "later": [1]}});
        let extra = Status::of(document).unwrap().extra().unwrap();
        assert_eq!(extra.phases, ["basebackup"]);
        assert_eq!(extra.others["later"], json!([1]));
        let document = json!({"status": "init", "extra": {"phases": 7}});
        let status = Status::of(document).unwrap();
        assert_eq!(
            status.extra().unwrap_err().to_string(),
            "the answer is not a known form of `extra`"
        );
    }
}
