//! Runs one statement for a request, and reports the statement with its error when it fails.
//!
//! HTTP clients see both (03 §8.2, §8.3), so only statements without secrets may be run here.

use thiserror::Error;

use crate::sql::{Row, Session, SessionError};

/// A statement that failed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("Failed to execute query: {sql}: {error}")]
pub(crate) struct QueryError {
    /// The statement.
    pub sql: String,
    /// Why it failed.
    pub error: SessionError,
}

/// Runs one statement.
pub(super) async fn query(session: &Session, sql: &str) -> Result<Vec<Row>, QueryError> {
    session.query(sql).await.map_err(|error| QueryError { sql: sql.to_owned(), error })
}

/// The first column of each row; null is left out.
pub(super) async fn texts(session: &Session, sql: &str) -> Result<Vec<String>, QueryError> {
    let mut texts = Vec::new();
    for row in query(session, sql).await? {
        let text = row.try_get(0).map_err(|error| QueryError { sql: sql.to_owned(), error })?;
        texts.extend(text.map(str::to_owned));
    }
    Ok(texts)
}
