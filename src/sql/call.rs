//! One statement with parameters that may take long and can be given up.

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

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Until the answer.
    pub answer: Duration,
    /// From being given up to the end: what the server has to do in order to stop.
    pub stop: Duration,
}

/// What is done at once is also stopped at once.
impl From<Duration> for CallLimits {
    fn from(answer: Duration) -> Self {
        Self { answer, stop: CANCEL_DEADLINE }
    }
}

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
    /// Runs one statement. When `cancel` fires, or the answer takes too long, the server is asked
    /// to stop and its last word is waited for: whoever goes on after that finds nothing of this
    /// call at work, unless stopping takes too long as well.
    ///
    /// Once given up it has failed, whatever the server says: a function may catch the request to
    /// stop, and then returns as if it had done all of its work.
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
        // In one message. Of several, one that is not sent yet would be executed after the request
        // to stop.
        let mut query = pin!(self.client().query_typed(sql, parameters));
        let given_up = tokio::select! {
            // First, so that the message is sent before anything else happens.
            biased;
            rows = &mut query => {
                return rows.map_err(|error| SessionError::Statement(error.into()).into());
            }
            () = cancel.cancelled() => CallError::Cancelled,
            () = sleep(limits.answer) => SessionError::StatementDeadline(limits.answer).into(),
        };
        self.cancel().await;
        if timeout(limits.stop, query).await.is_err() {
            tracing::warn!("a statement that was given up goes on after {:?}", limits.stop);
        }
        Err(given_up)
    }
}
