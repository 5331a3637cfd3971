//! A look into one database that an apply has judged from outside, and the repair of what it finds
//! (05 §7.9b).

use tokio_postgres::error::SqlState;

use super::inspect::look;
use super::operation::Operation;
use super::plan::{Permissions, Spared, plan_database};
use crate::sql::{Session, SessionConfig, SessionDeadlines, SessionError};

/// `application_name` of the sessions that look.
pub(crate) const CATALOG_CHECK: &str = "compute_ctl:catalog_check";

/// The operations that the database needs; none if it was dropped. The session cannot write.
pub(crate) async fn missing(
    config: &SessionConfig,
    deadlines: SessionDeadlines,
    spared: &Spared,
    permissions: &Permissions,
) -> Result<Vec<Operation>, SessionError> {
    let mut config = config.clone();
    config.dbname(&spared.database);
    config.read_only();
    let session = match Session::connect(&config, deadlines).await {
        Err(error) if error.sqlstate() == Some(&SqlState::UNDEFINED_DATABASE) => {
            return Ok(Vec::new());
        }
        session => session?,
    };
    missing_in(&session, spared, permissions).await
}

/// Looks again, and repairs in the same session. Returns what was repaired.
pub(crate) async fn repair(
    session: &Session,
    spared: &Spared,
    permissions: &Permissions,
) -> Result<Vec<Operation>, SessionError> {
    let operations = missing_in(session, spared, permissions).await?;
    let statements: Vec<&str> =
        operations.iter().map(|operation| operation.sql.expose().as_str()).collect();
    if !statements.is_empty() {
        session.query(&statements.join(";\n")).await?;
    }
    Ok(operations)
}

async fn missing_in(
    session: &Session,
    spared: &Spared,
    permissions: &Permissions,
) -> Result<Vec<Operation>, SessionError> {
    let state = look(session, permissions).await?;
    Ok(plan_database(&spared.database, &spared.look, permissions, &state))
}
