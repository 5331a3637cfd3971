//! The statements that take longest (05 §15.5).
//!
//! They come from the view of the extension `pg_stat_statements`, in whatever schema it is.
//! Another view of that name is not read: a tenant can create one, and our session would run its
//! code ([`super::trust`]).

use super::trust::is_not_ours;
use crate::sql::{Row, Session, SessionError};

/// `application_name` of the session.
pub(crate) const APPLICATION_NAME: &str = "compute_ctl:collect_insights";

/// The statements of `cloud_admin` are left out.
const SLOWEST: &str = include_str!("sql/insights.sql");

/// Rows of `pg_stat_statements` as JSON objects, slowest first. Empty if the extension is not
/// installed, or if Postgres refuses, which means that its library is not loaded.
///
/// # Errors
/// Postgres does not answer, or the view is not ours ([`is_not_ours`]).
pub(crate) async fn slowest_statements(session: &Session) -> Result<Vec<String>, SessionError> {
    let text = |row: Row| row.try_get(0).map(|text| text.unwrap_or("null").to_owned());
    match session.query(SLOWEST).await {
        Ok(rows) => rows.into_iter().map(text).collect(),
        Err(error) if is_not_ours(&error) => Err(error),
        Err(SessionError::Statement(error)) if error.sqlstate.is_some() => {
            tracing::warn!("could not read pg_stat_statements: {error}");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}
