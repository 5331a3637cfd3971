//! The statements that take longest (05 §15.5).

use tokio_postgres::SimpleQueryRow;

use super::session::{Session, SessionError};

/// `application_name` of the session.
pub const APPLICATION_NAME: &str = "compute_ctl:collect_insights";

/// Our own statements are left out.
const SLOWEST: &str = "\
    SELECT pg_catalog.row_to_json(s)::text FROM public.pg_stat_statements s \
    WHERE s.userid NOT IN (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = 'cloud_admin') \
    ORDER BY s.mean_exec_time + s.mean_plan_time DESC LIMIT 100";

/// Rows of `pg_stat_statements` as JSON objects, slowest first. None if Postgres refuses, which
/// means that the extension is not installed or not loaded.
pub async fn slowest_statements(session: &Session) -> Result<Vec<String>, SessionError> {
    let text = |row: SimpleQueryRow| {
        row.try_get(0)
            .map(|text| text.unwrap_or("null").to_owned())
            .map_err(|error| SessionError::Answer(error.to_string()))
    };
    match session.query(SLOWEST).await {
        Ok(rows) => rows.into_iter().map(text).collect(),
        Err(SessionError::Statement(error)) if error.sqlstate.is_some() => {
            tracing::warn!("there are no insights: {error}");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}
