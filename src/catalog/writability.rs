//! Whether the compute can write (05 §15.6).
//!
//! The check writes one row of `public.health_check`, if that table is ours: a tenant that owns
//! the schema can replace the table ([`super::trust`]).

use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::trust::{Use, trusted_table};
use crate::sql::{Session, SessionError};

/// `application_name` of the session.
pub(crate) const APPLICATION_NAME: &str = "compute_ctl:availability_checker";

/// The statement waits for the safekeepers for as long as the write does (03 §5.6); callers give
/// up long before.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// The apply creates the table (05 §7.12).
const WRITE: &str = include_str!("sql/write_health_check.sql");

/// Writes one row. A full disk counts as writable: replacing the compute would not help.
///
/// # Errors
/// Postgres cannot write, or the table is not ours ([`super::trust::is_not_ours`]): then the check
/// does not tell whether Postgres can write.
pub(crate) async fn check(session: &Session) -> Result<(), SessionError> {
    let trust = trusted_table("public", "health_check", Use::Write);
    verdict(session.query(&WRITE.replace("@TRUST@", &trust)).await.map(|_| ()))
}

fn verdict(outcome: Result<(), SessionError>) -> Result<(), SessionError> {
    match outcome {
        Err(SessionError::Statement(error)) if error.is(&SqlState::DISK_FULL) => {
            tracing::warn!("the writability check met a full disk: {error}");
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::PgError;

    #[test]
    fn only_a_full_disk_counts_as_writable() {
        for (sqlstate, writable) in [
            (SqlState::DISK_FULL, true),
            (SqlState::OUT_OF_MEMORY, false),
            (SqlState::READ_ONLY_SQL_TRANSACTION, false),
            (SqlState::from_code("CT001"), false),
        ] {
            let error =
                PgError { sqlstate: Some(sqlstate), text: String::new(), position: None, at: None };
            assert_eq!(verdict(Err(SessionError::Statement(error))).is_ok(), writable);
        }
        assert!(verdict(Ok(())).is_ok());
    }
}
