//! Runs one statement with parameters that may take long and can be cancelled.

use std::pin::pin;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use tokio_util::sync::CancellationToken;

use super::error::SessionError;
use super::raw::CANCEL_DEADLINE;
use super::session::Session;

/// Limits of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Until the answer.
    pub answer: Duration,
    /// From the request to stop until the statement ends: the time that the server needs to stop.
    pub stop: Duration,
}

/// A statement with a short limit also stops quickly.
impl From<Duration> for CallLimits {
    fn from(answer: Duration) -> Self {
        Self { answer, stop: CANCEL_DEADLINE }
    }
}

/// Why a call returned no rows.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The caller cancelled it.
    #[error("cancelled")]
    Cancelled,
    /// It failed, or took too long.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl Session {
    /// Runs one statement. When `cancel` fires, or the answer takes too long, the server is asked
    /// to stop, and the call waits for its final answer: after that nothing of this call runs on
    /// the server, unless stopping takes too long as well.
    ///
    /// A call that was cancelled has failed, whatever the server answers: a function may catch the
    /// request to stop and then return as if it had done all of its work.
    pub async fn call(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
        limits: impl Into<CallLimits>,
        cancel: &CancellationToken,
    ) -> Result<Vec<Row>, CallError> {
        let limits = limits.into();
        if cancel.is_cancelled() {
            return Err(CallError::Cancelled);
        }
        // The library sends the query as one message. If it sent several, one that is not sent yet
        // would be executed after the request to stop.
        let mut query = pin!(self.client().query_typed(sql, parameters));
        let given_up = tokio::select! {
            // Polled first, so that the message is sent before anything else happens.
            biased;
            rows = &mut query => {
                return rows.map_err(|error| SessionError::Statement(error.into()).into());
            }
            () = cancel.cancelled() => CallError::Cancelled,
            () = sleep(limits.answer) => SessionError::StatementDeadline(limits.answer).into(),
        };
        self.cancel().await;
        if timeout(limits.stop, query).await.is_err() {
            tracing::warn!("a cancelled statement still runs after {:?}", limits.stop);
        }
        Err(given_up)
    }
}
