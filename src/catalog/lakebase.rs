//! What Lakebase mode asks of the system database besides the snapshot (05 §22). One round trip, in
//! that mode only; nothing is changed.

use std::collections::HashSet;

use crate::sql::{Session, SessionError, TypedRow};

const SQL: &str = include_str!("sql/lakebase.sql");

/// What is in the cluster of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LakebaseState {
    /// The server setting `databricks.reader_statement_timeout`; none where it is not set, empty, or
    /// `0`.
    pub reader_timeout: Option<String>,
    /// Roles of readers that do not have this time-out.
    pub readers: Vec<String>,
    /// The server's packages offer the extension `databricks_auth`.
    pub has_auth: bool,
    /// What `databricks_monitor` holds privileges on as it should, and `statement_timeout` if that is
    /// set for it.
    pub held: HashSet<String>,
    /// Text of the function `public.health_check_write_succeeds()`.
    pub write_check: Option<String>,
    /// Owner of that function, if it is not a superuser: then the function is not ours.
    pub write_check_of_others: Option<String>,
}

/// Reads it.
pub(crate) async fn read(session: &Session) -> Result<LakebaseState, SessionError> {
    let mut state = LakebaseState::default();
    for row in session.query(SQL).await? {
        let row = TypedRow(&row);
        match row.text(0)? {
            "server" => {
                let timeout = row.optional(1)?.filter(|text| !["", "0"].contains(text));
                state.reader_timeout = timeout.map(str::to_owned);
                state.has_auth = row.flag(2)?;
            }
            "reader" => state.readers.push(row.owned(1)?),
            "held" => {
                state.held.insert(row.owned(1)?);
            }
            "function" => {
                state.write_check = Some(row.owned(1)?);
                let owner = row.owned(2)?;
                state.write_check_of_others = (!row.flag(3)?).then_some(owner);
            }
            _ => return Err(row.bad(0)),
        }
    }
    Ok(state)
}
