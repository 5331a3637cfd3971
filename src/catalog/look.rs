//! A look into one database: what of 05 §7.9b is there already. One round trip.

use super::plan::{DatabaseState, Permissions};
use super::quote::literal;
use super::session::{Session, SessionError};
use super::snapshot::Cells;

/// No row when there is no schema `public`. Everything that there is to grant must be granted,
/// with grant option; what that is differs between versions of Postgres, and `acldefault` tells.
const SQL: &str = include_str!("sql/look.sql");

/// Looks at the schema `public` of the session's database.
pub async fn look(
    session: &Session,
    permissions: &Permissions,
) -> Result<DatabaseState, SessionError> {
    let sql = SQL
        .replace("@WEB_ACCESS@", if permissions.web_access { "'web_access'" } else { "NULL" })
        .replace("@PRIVILEGED@", &literal(&permissions.privileged_role));
    let rows = session.query(&sql).await?;
    let Some(row) = rows.first() else { return Ok(DatabaseState::default()) };
    let row = Cells(row);
    Ok(DatabaseState {
        public_owner: Some(row.owned(1)?),
        web_access: row.flag(2)?,
        default_tables: row.flag(3)?,
        default_sequences: row.flag(4)?,
    })
}
