//! The documents that describe the compute (02 §12.2, §12.3).

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::history::StartedPhase;
use crate::catalog::report::ApplyReport;
use crate::duration::with_z;
use crate::services::monitor::activity::ActivityReason;
use crate::spec::{TenantId, TimelineId};
use crate::state::ComputeStatus;
use crate::vm_monitor::board::VmMonitorStatus;

/// Members of `/metrics.json` (01 §22). 0 until known, never reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct StartupMetrics {
    /// Process start to spec, for a compute that started empty.
    pub wait_for_spec_ms: u64,
    /// The quorum check, whatever its outcome.
    pub sync_sk_check_ms: u64,
    /// The safekeeper sync at start.
    pub sync_safekeepers_ms: u64,
    /// Connect and authenticate, of the try that succeeded.
    pub pageserver_connect_micros: u64,
    /// Connect to unpacked, of the try that succeeded.
    pub basebackup_ms: u64,
    /// Compressed bytes, of the try that succeeded.
    pub basebackup_bytes: u64,
    /// Spawn to ready.
    pub start_postgres_ms: u64,
    /// Ready to running.
    pub config_ms: u64,
    /// `start_time` to running.
    pub total_startup_ms: u64,
    /// Download of preloaded extensions.
    pub load_ext_ms: u64,
    /// Number of extensions downloaded.
    pub num_ext_downloaded: u64,
    /// Bytes of the largest one, compressed.
    pub largest_ext_size: u64,
    /// Bytes of all, compressed.
    pub total_ext_download_size: u64,
}

/// `GET /status` (02 §12.2).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StatusDocument {
    /// Process start, or the moment the spec came.
    #[serde(serialize_with = "with_z")]
    #[schema(value_type = String, format = DateTime)]
    pub start_time: DateTime<Utc>,
    /// Effective tenant id.
    #[schema(required)]
    pub tenant: Option<TenantId>,
    /// Effective timeline id.
    #[schema(required)]
    pub timeline: Option<TimelineId>,
    /// Present status of the compute.
    pub status: ComputeStatus,
    /// Last activity of a user.
    #[serde(serialize_with = "with_offset")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_active: Option<DateTime<Utc>>,
    /// What failed, with causes.
    #[schema(required)]
    pub error: Option<String>,
    /// Members that the document of the original does not have; left out when all are empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<StatusExtra>,
}

/// Member `extra` of `/status`. Members without a value are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct StatusExtra {
    /// Work in progress: phases of the start, or the step of a reconfiguration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<&'static str>,
    /// The phases of the start, in the order in which they began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub startup: Vec<StartedPhase>,
    /// Compressed bytes received so far, while the compute starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basebackup_bytes: Option<u64>,
    /// `operation_uuid` of the spec that was last applied without an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_operation: Option<String>,
    /// The last start, reconfiguration or refresh that failed; stays when a later one succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailedOperation>,
    /// What became of each object when the catalog was last applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ApplyReport>)]
    pub apply_report: Option<Arc<ApplyReport>>,
    /// Reasons that have moved `last_active` so far, and their present state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub activity: Vec<ActivityReason>,
    /// The VM monitor, with `AUTOSCALING` in the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_monitor: Option<VmMonitorStatus>,
}

/// Work that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FailedOperation {
    /// `operation_uuid` of the spec to apply; null if no spec could be fetched.
    pub operation: Option<String>,
    /// The phase or step that failed.
    pub phase: Option<&'static str>,
    /// With causes, as in the member `error`.
    pub error: String,
    /// When.
    #[serde(serialize_with = "with_z")]
    #[schema(value_type = String, format = DateTime)]
    pub at: DateTime<Utc>,
}

/// The last document that was asked for, and its text: it is asked for far more often than it changes,
/// and the text of a long report is most of the work of an answer.
#[derive(Debug, Default)]
pub(crate) struct StatusText(Mutex<Option<(StatusDocument, Bytes)>>);

impl StatusText {
    /// The text of the document.
    ///
    /// # Errors
    /// The document cannot be written as JSON.
    pub(crate) fn of(&self, document: StatusDocument) -> serde_json::Result<Bytes> {
        if let Some((last, text)) = &*self.0.lock()
            && *last == document
        {
            return Ok(text.clone());
        }
        let text = Bytes::from(serde_json::to_vec(&document)?);
        *self.0.lock() = Some((document, text.clone()));
        Ok(text)
    }
}

fn with_offset<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = time.map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, false));
    text.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 02 §3: the two timestamps of one document have different suffixes, and the shortest exact
    /// fraction.
    #[test]
    fn timestamps_of_the_status_document() {
        let time = |nanos| DateTime::from_timestamp(1_000_000_000, nanos).unwrap();
        let document = |start, active: Option<DateTime<Utc>>| {
            serde_json::to_value(StatusDocument {
                start_time: start,
                tenant: None,
                timeline: None,
                status: ComputeStatus::Empty,
                last_active: active,
                error: None,
                extra: None,
            })
            .unwrap()
        };
        let value = document(time(123_456_789), Some(time(4_512_000)));
        assert_eq!(value["start_time"], "2001-09-09T01:46:40.123456789Z");
        assert_eq!(value["last_active"], "2001-09-09T01:46:40.004512+00:00");
        let value = document(time(0), None);
        assert_eq!(value["start_time"], "2001-09-09T01:46:40Z");
        for member in ["tenant", "timeline", "last_active", "error"] {
            assert!(value[member].is_null(), "{member} is there and null");
        }
        assert_eq!(value.as_object().unwrap().len(), 6, "no extra without anything to say");
    }

    #[test]
    fn the_text_is_that_of_the_document() {
        let of = StatusText::default();
        let time = DateTime::from_timestamp(1_000_000_000, 0).unwrap();
        let mut document = StatusDocument {
            start_time: time,
            tenant: None,
            timeline: None,
            status: ComputeStatus::Empty,
            last_active: None,
            error: None,
            extra: None,
        };
        let mut texts = Vec::new();
        for status in [ComputeStatus::Empty, ComputeStatus::Init, ComputeStatus::Empty] {
            document.status = status;
            for error in [None, Some("a"), Some("b")] {
                document.error = error.map(str::to_owned);
                let [first, again] = [(); 2].map(|()| of.of(document.clone()).unwrap());
                assert_eq!(first, serde_json::to_vec(&document).unwrap());
                assert_eq!(first.as_ptr(), again.as_ptr(), "made once");
                texts.push(first);
            }
        }
        assert!(texts.windows(2).all(|two| two[0] != two[1]));
    }

    #[test]
    fn thirteen_metrics() {
        let value = serde_json::to_value(StartupMetrics::default()).unwrap();
        let members = value.as_object().unwrap();
        assert_eq!(members.len(), 13);
        assert!(members.values().all(|value| *value == 0));
    }
}
