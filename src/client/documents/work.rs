//! The states of work that goes on in the background: prewarm, offload, promotion.

use serde::{Deserialize, Serialize};

/// `GET /lfc/prewarm`: state of the last prewarm of the local file cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Prewarm {
    /// None so far.
    NotPrewarmed,
    /// In progress.
    Prewarming,
    /// Done.
    Completed(PrewarmFigures),
    /// It failed.
    Failed {
        /// The chain of causes.
        error: String,
    },
    /// Nothing is stored for the endpoint.
    Skipped,
    /// Stopped on request.
    Cancelled,
}

/// Figures of a prewarm that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrewarmFigures {
    /// Pages in the stored state.
    pub total: i32,
    /// Pages loaded.
    pub prewarmed: i32,
    /// Pages not loaded.
    pub skipped: i32,
    /// Asking the endpoint storage, in ms.
    pub state_download_time_ms: u32,
    /// Reading and inflating the state, in ms.
    pub uncompress_time_ms: u32,
    /// Loading the pages, in ms.
    pub prewarm_time_ms: u32,
}

/// `GET /lfc/offload`: state of the last offload of the local file cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Offload {
    /// None so far.
    NotOffloaded,
    /// In progress.
    Offloading,
    /// Done.
    Completed(OffloadTimes),
    /// It failed.
    Failed {
        /// The chain of causes.
        error: String,
    },
    /// Postgres has no state: the cache is off or has no room.
    Skipped,
}

/// Durations of an offload that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffloadTimes {
    /// Asking Postgres, in ms.
    pub state_query_time_ms: u32,
    /// Compressing, in ms.
    pub compress_time_ms: u32,
    /// Until the answer of the endpoint storage, in ms.
    pub state_upload_time_ms: u32,
}

/// Answer of `POST /promote`, with 200 and with 500.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Promotion {
    /// Part of the documented form, never answered.
    NotPromoted,
    /// The compute is a primary.
    Completed(PromotionTimes),
    /// The promotion failed.
    Failed {
        /// The chain of causes.
        error: String,
    },
}

/// Durations of the parts of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionTimes {
    /// Until the WAL of the old primary was replayed, in ms.
    pub lsn_wait_time_ms: u32,
    /// From there until Postgres had left recovery, in ms.
    pub pg_promote_time_ms: u32,
    /// From there until the new spec was in force, in ms.
    pub reconfigure_time_ms: u32,
}
