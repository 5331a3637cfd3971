//! Answers of `/promote` (02 §12.5).

use serde::Serialize;
use utoipa::ToSchema;

/// Outcome of a promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum PromotionState {
    /// No outcome yet; part of the documented form, never answered.
    NotPromoted,
    /// The compute is a primary.
    Completed(Promoted),
    /// The promotion failed.
    Failed {
        /// The chain of causes.
        error: String,
    },
}

/// Durations of the parts of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Promoted {
    /// Until the WAL of the old primary was replayed.
    pub lsn_wait_time_ms: u32,
    /// From there until the server had left recovery.
    pub pg_promote_time_ms: u32,
    /// From there until the new spec was in force.
    pub reconfigure_time_ms: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents() {
        let text = |state: PromotionState| serde_json::to_value(state).unwrap();
        assert_eq!(text(PromotionState::NotPromoted), json!({"status": "not_promoted"}));
        let times =
            Promoted { lsn_wait_time_ms: 4, pg_promote_time_ms: 102, reconfigure_time_ms: 35 };
        assert_eq!(
            text(PromotionState::Completed(times)),
            json!({
                "status": "completed", "lsn_wait_time_ms": 4, "pg_promote_time_ms": 102,
                "reconfigure_time_ms": 35
            })
        );
        let failed = PromotionState::Failed { error: "e".to_owned() };
        assert_eq!(text(failed), json!({"status": "failed", "error": "e"}));
    }
}
