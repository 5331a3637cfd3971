//! Whether the compute can write (05 §15.6).

use tokio_postgres::error::SqlState;

use super::session::{Session, SessionError};

/// `application_name` of the session.
pub const APPLICATION_NAME: &str = "compute_ctl:availability_checker";

/// The table is made when the catalog is applied (05 §7.12).
const WRITE: &str = "\
    INSERT INTO public.health_check (id, updated_at) VALUES (1, pg_catalog.now()) \
    ON CONFLICT (id) DO UPDATE SET updated_at = EXCLUDED.updated_at";

/// Writes one row. A full disk is no reason to replace a compute, so it counts as writable.
pub async fn check(session: &Session) -> Result<(), SessionError> {
    match session.query(WRITE).await {
        Err(SessionError::Statement(error)) if error.sqlstate == Some(SqlState::DISK_FULL) => {
            tracing::warn!("the writability check met a full disk: {error}");
            Ok(())
        }
        other => other.map(|_| ()),
    }
}
