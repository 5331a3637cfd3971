//! `GET /status?wait=STATUS&timeout=DURATION`: the document as it is when the wait ends, so that
//! clients need not poll. An addition to the documented API; without `wait` nothing changes.
//! Waiting requests take at most half of the connections; one more is answered 503 at once.

use std::time::Duration;

use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use serde::Deserialize;
use tokio::time::timeout;

use super::budget::LongPolls;
use super::error::ApiError;
use crate::duration;
use crate::node::ComputeNode;
use crate::state::ComputeStatus;

/// Limit of a wait without `timeout`.
const DEFAULT: Duration = Duration::from_secs(30);

/// Longest accepted `timeout`: a waiting request holds its connection.
const MAX: Duration = Duration::from_secs(300);

/// Extension of the answer to a request that chose itself how long to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited;

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    wanted: ComputeStatus,
    limit: Duration,
}

#[derive(Debug, Deserialize)]
struct WaitQuery {
    wait: Option<ComputeStatus>,
    timeout: Option<String>,
}

/// Reads a `timeout`. The pattern in the description accepts the same texts.
pub(super) fn limit(text: &str) -> Result<Duration, ApiError> {
    let bad = |text: String| ApiError::new(StatusCode::BAD_REQUEST, text);
    let limit = duration::parse(text).map_err(|error| bad(format!("timeout: {error}")))?;
    if limit > MAX {
        return Err(bad(format!("timeout: {} s at most", MAX.as_secs())));
    }
    Ok(limit)
}

impl Wait {
    /// Reads the query; unknown parameters are ignored. None if there is no `wait`.
    pub(super) fn from_uri(uri: &Uri) -> Result<Option<Self>, ApiError> {
        let bad = |text: String| ApiError::new(StatusCode::BAD_REQUEST, text);
        let Query(query) = Query::<WaitQuery>::try_from_uri(uri).map_err(|rejection| {
            let cause = std::error::Error::source(&rejection);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            bad(format!("failed to deserialize query string{cause}"))
        })?;
        let limit = query.timeout.as_deref().map(limit).transpose()?;
        match (query.wait, limit) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(bad("timeout: it needs a status to wait for".to_owned())),
            (Some(wanted), limit) => Ok(Some(Self { wanted, limit: limit.unwrap_or(DEFAULT) })),
        }
    }

    /// Ends when the compute has the wanted status, when only a new request can lead to it, or
    /// when the time is over. A status that lasts for an instant may be missed.
    ///
    /// # Errors
    /// Too many requests wait already. A request that need not wait succeeds even then.
    pub(super) async fn until_over(
        self,
        node: &ComputeNode,
        polls: &LongPolls,
    ) -> Result<(), ApiError> {
        let mut status = node.watch_status();
        if self.is_over(*status.borrow_and_update()) {
            return Ok(());
        }
        let _place = polls.take()?;
        // The node keeps the sender, so the only possible error is the timeout.
        let _ = timeout(self.limit, status.wait_for(|status| self.is_over(*status))).await;
        Ok(())
    }

    fn is_over(self, status: ComputeStatus) -> bool {
        let dead_end = match status {
            ComputeStatus::Failed | ComputeStatus::Terminated => true,
            _ => status.is_ending() && !self.wanted.is_ending(),
        };
        status == self.wanted || dead_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Option<Wait>, (u16, String)> {
        let uri = format!("/status{query}").parse().unwrap();
        Wait::from_uri(&uri).map_err(ApiError::parts)
    }

    #[test]
    fn queries() {
        let wait = |wanted, seconds| Some(Wait { wanted, limit: Duration::from_secs(seconds) });
        for (query, expected) in [
            ("", None),
            ("?", None),
            ("?a=b", None),
            ("?wait=running", wait(ComputeStatus::Running, 30)),
            ("?wait=running&timeout=0", wait(ComputeStatus::Running, 0)),
            ("?x&timeout=5m&wait=terminated", wait(ComputeStatus::Terminated, 300)),
            (
                "?wait=refresh_configuration_pending&timeout=1s",
                wait(ComputeStatus::RefreshConfigurationPending, 1),
            ),
        ] {
            assert_eq!(read(query), Ok(expected), "{query}");
        }
        for (query, text) in [
            ("?wait=", "unknown variant"),
            ("?wait=up", "unknown variant `up`, expected one of `empty`"),
            ("?wait=Running", "unknown variant"),
            ("?wait=refresh-configuration", "unknown variant"),
            ("?wait=running&wait=failed", "duplicate field `wait`"),
            ("?wait=running&timeout=", "timeout: a duration"),
            ("?wait=running&timeout=-1", "timeout: a duration"),
            ("?wait=running&timeout=forever", "timeout: a duration"),
            ("?wait=running&timeout=301s", "timeout: 300 s at most"),
            ("?wait=running&timeout=1s&timeout=2s", "duplicate field `timeout`"),
            ("?timeout=1s", "timeout: it needs a status to wait for"),
        ] {
            let (code, error) = read(query).unwrap_err();
            assert_eq!(code, 400, "{query}");
            assert!(error.contains(text), "{query}: {error}");
        }
    }

    #[test]
    fn ends() {
        use ComputeStatus as S;
        let over = |wanted| {
            let wait = Wait { wanted, limit: MAX };
            S::ALL.into_iter().filter(move |status| wait.is_over(*status)).collect::<Vec<_>>()
        };
        assert_eq!(
            over(S::Running),
            [
                S::Running,
                S::Failed,
                S::TerminationPendingFast,
                S::TerminationPendingImmediate,
                S::Terminated
            ]
        );
        assert_eq!(over(S::Terminated), [S::Failed, S::Terminated]);
    }
}
