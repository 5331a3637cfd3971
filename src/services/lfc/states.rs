//! Documents of `/lfc/prewarm` and `/lfc/offload` (02 §12.4).

use serde::Serialize;
use utoipa::ToSchema;

/// State of the prewarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum PrewarmState {
    /// None so far.
    NotPrewarmed,
    /// In progress.
    Prewarming,
    /// Done.
    Completed(Prewarmed),
    /// It failed. Without a stored state the prewarm is skipped instead.
    Failed {
        /// The chain of causes.
        error: String,
    },
    /// Nothing is stored for the endpoint.
    Skipped,
    /// Stopped on request; some pages may be in the cache.
    Cancelled,
}

/// Figures of a prewarm that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Prewarmed {
    /// Pages in the state.
    pub total: i32,
    /// Pages loaded.
    pub prewarmed: i32,
    /// Pages not loaded, because they were there or no longer exist.
    pub skipped: i32,
    /// Until the headers of the answer.
    pub state_download_time_ms: u32,
    /// Reading the body, and inflating it.
    pub uncompress_time_ms: u32,
    /// Connecting to Postgres, and loading.
    pub prewarm_time_ms: u32,
}

impl PrewarmState {
    /// Whether the workload alone has shaped the cache. During a prewarm, or after a partial one,
    /// the stored state is better than the state of the cache (07 §4.6).
    pub const fn is_settled(&self) -> bool {
        match self {
            Self::NotPrewarmed | Self::Completed(_) | Self::Skipped => true,
            Self::Prewarming | Self::Failed { .. } | Self::Cancelled => false,
        }
    }
}

/// State of the offload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum OffloadState {
    /// None so far.
    NotOffloaded,
    /// In progress.
    Offloading,
    /// Done.
    Completed(Offloaded),
    /// It failed.
    Failed {
        /// The chain of causes.
        error: String,
    },
    /// Postgres has no state: the cache is off or has no room.
    Skipped,
}

/// Figures of an offload that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Offloaded {
    /// Connecting to Postgres, and asking.
    pub state_query_time_ms: u32,
    /// Compressing.
    pub compress_time_ms: u32,
    /// Until the answer of the endpoint storage.
    pub state_upload_time_ms: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents() {
        let text = |state: PrewarmState| serde_json::to_value(state).unwrap();
        assert_eq!(text(PrewarmState::NotPrewarmed), json!({"status": "not_prewarmed"}));
        let figures = Prewarmed {
            total: 1,
            prewarmed: 2,
            skipped: 3,
            state_download_time_ms: 4,
            uncompress_time_ms: 5,
            prewarm_time_ms: 6,
        };
        assert_eq!(
            text(PrewarmState::Completed(figures)),
            json!({
                "status": "completed", "total": 1, "prewarmed": 2, "skipped": 3,
                "state_download_time_ms": 4, "uncompress_time_ms": 5, "prewarm_time_ms": 6
            })
        );
        let failed = PrewarmState::Failed { error: "e".to_owned() };
        assert_eq!(text(failed), json!({"status": "failed", "error": "e"}));
        let text = |state: OffloadState| serde_json::to_value(state).unwrap();
        assert_eq!(text(OffloadState::NotOffloaded), json!({"status": "not_offloaded"}));
        let figures =
            Offloaded { state_query_time_ms: 1, compress_time_ms: 2, state_upload_time_ms: 3 };
        assert_eq!(
            text(OffloadState::Completed(figures)),
            json!({
                "status": "completed", "state_query_time_ms": 1, "compress_time_ms": 2,
                "state_upload_time_ms": 3
            })
        );
    }
}
