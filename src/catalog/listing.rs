//! All roles and databases of the cluster (05 §15.1). Names that are not UTF-8 are shown with
//! replacement characters.

use crate::secret::Secret;
use crate::sql::{Row, Session, SessionError};

/// `application_name` of the session.
pub(crate) const APPLICATION_NAME: &str = "compute_ctl:get_dbs_and_roles";

/// One answer for both. Columns: kind of object, name, stored password or owner, whether
/// connections are not allowed, whether a drop was begun and not finished.
const ALL: &str = "\
    SELECT 'role', rolname::pg_catalog.text, rolpassword, false, false FROM pg_catalog.pg_authid \
    UNION ALL \
    SELECT 'database', datname::pg_catalog.text, \
        pg_catalog.pg_get_userbyid(datdba)::pg_catalog.text, \
        NOT datallowconn, datconnlimit OPERATOR(pg_catalog.=) -2 \
    FROM pg_catalog.pg_database ORDER BY 1, 2";

/// A role of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedRole {
    /// Raw name.
    pub name: String,
    /// The stored text, with its `md5` or `SCRAM-SHA-256` prefix.
    pub password: Option<Secret<String>>,
}

/// A database of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedDatabase {
    /// Raw name.
    pub name: String,
    /// Raw name of the owner.
    pub owner: String,
    /// Connections are not allowed.
    pub restrict_conn: bool,
    /// A drop was begun and not finished (connection limit -2).
    pub invalid: bool,
}

/// All roles and databases by name, templates and predefined roles included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Roles.
    pub roles: Vec<ListedRole>,
    /// Databases.
    pub databases: Vec<ListedDatabase>,
}

/// Reads the listing in one round trip.
pub(crate) async fn list(session: &Session) -> Result<Listing, SessionError> {
    let mut listing = Listing::default();
    for row in session.query(ALL).await? {
        let name = text(&row, 1)?.unwrap_or_default();
        let value = text(&row, 2)?;
        if text(&row, 0)?.as_deref() == Some("role") {
            listing.roles.push(ListedRole { name, password: value.map(Secret::new) });
        } else {
            listing.databases.push(ListedDatabase {
                name,
                owner: value.unwrap_or_default(),
                restrict_conn: is_true(&row, 3)?,
                invalid: is_true(&row, 4)?,
            });
        }
    }
    Ok(listing)
}

fn text(row: &Row, column: usize) -> Result<Option<String>, SessionError> {
    Ok(row.try_get(column)?.map(str::to_owned))
}

fn is_true(row: &Row, column: usize) -> Result<bool, SessionError> {
    Ok(text(row, column)?.as_deref() == Some("t"))
}
