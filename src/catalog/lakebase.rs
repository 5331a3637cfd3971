//! Reads what Lakebase mode needs to know of the system database besides the snapshot (05 §22).
//! One round trip, in that mode only; nothing is changed.

use std::collections::HashSet;

use crate::sql::{Session, SessionError, TypedRow};

const SQL: &str = include_str!("sql/lakebase.sql");

/// The objects of Lakebase mode that are in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LakebaseState {
    /// The server setting `databricks.reader_statement_timeout`; `None` where it is not set,
    /// empty, or `0`.
    pub reader_timeout: Option<String>,
    /// Roles of readers that do not have this timeout.
    pub readers: Vec<String>,
    /// The server's packages offer the extension `databricks_auth`.
    pub has_auth: bool,
    /// The objects on which `databricks_monitor` holds the privileges it should have, and
    /// `statement_timeout` if that is set for it.
    pub held: HashSet<String>,
    /// Text of the function `public.health_check_write_succeeds()`.
    pub write_check: Option<String>,
    /// Owner of that function, if it is not a superuser; the function is then not ours.
    pub write_check_of_others: Option<String>,
}

/// Reads the state from the session's database.
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
