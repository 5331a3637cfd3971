//! One statement with parameters that may take long and can be given up.

use std::pin::pin;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::{CANCEL_DEADLINE, Session, SessionError};

/// Why a call gave no rows.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The caller gave it up.
    #[error("cancelled")]
    Cancelled,
    /// It failed, or took too long.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl Session {
    /// Runs one statement, at most for `limit`. When `cancel` fires, or the limit is over, the
    /// server is asked to stop and its last word is waited for: whoever goes on after that finds
    /// nothing of this call at work.
    pub async fn call(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<Vec<Row>, CallError> {
        let mut query = pin!(self.client.query(sql, parameters));
        let given_up = tokio::select! {
            biased;
            () = cancel.cancelled() => CallError::Cancelled,
            rows = &mut query => {
                return rows.map_err(|error| SessionError::Statement(error.into()).into());
            }
            () = sleep(limit) => SessionError::StatementDeadline(limit).into(),
        };
        self.cancel().await;
        match timeout(CANCEL_DEADLINE, query).await {
            // Done at the last moment.
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(_)) | Err(_) => Err(given_up),
        }
    }
}
