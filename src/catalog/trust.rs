//! Rules that keep tenants' code out of our statements. Our sessions are superusers in databases
//! where tenants own objects, so the rules hold for every SQL text of the program:
//!
//! 1. **Names.** A text qualifies each relation, function, type and operator
//!    (`pg_catalog.count(*)`, `OPERATOR(pg_catalog.=)`), and uses no construct that looks an
//!    operator up by its bare name (`IN`, `LIKE`, `BETWEEN`, `IS DISTINCT FROM`, `NULLIF`,
//!    `USING`, `CASE x WHEN`). `search_path` of every session is empty as well.
//! 2. **Objects.** A name proves nothing. A relation outside of `pg_catalog` is read or written
//!    only after `trusted_table` has checked its owner and what is attached to it, in the same
//!    transaction and under its lock. A function counts as ours only if its owner matches as well.
//! 3. **Triggers.** Every session runs with `session_replication_role=replica`, so that ordinary
//!    triggers, rules and event triggers do not fire. Tenants get the privilege TRIGGER on the
//!    tables of an extension script by default privileges, and `close_triggers` revokes it.
//!
//! An object that is not ours is refused with SQLSTATE `CT001` and a sentence that names it, so
//! that a control plane can tell "cannot write" from "the table is not ours".

use tokio_postgres::error::SqlState;

use crate::sql::quote::literal;
use crate::sql::{Session, SessionError};

/// SQLSTATE of our own checks. The server does not use the class `CT`.
const NOT_OURS: &str = "CT001";

const TRUSTED_TABLE: &str = include_str!("sql/trusted_table.sql");
const OWN_SCHEMA: &str = include_str!("sql/own_schema.sql");
const CLOSE_TRIGGERS: &str = include_str!("sql/close_triggers.sql");

/// The use of a table, which decides the lock it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Rows are read.
    Read,
    /// Rows are written.
    Write,
}

/// A statement for the inside of a PL/pgSQL block. It fails with [`NOT_OURS`] unless the table
/// belongs to a superuser and has no code of others attached, and locks the table until the
/// transaction ends. Both names are constants of the program and need no quotes.
pub(super) fn trusted_table(schema: &str, table: &str, purpose: Use) -> String {
    let mode = match purpose {
        Use::Read => "ACCESS SHARE",
        Use::Write => "ROW EXCLUSIVE",
    };
    let sql = TRUSTED_TABLE.trim_end().replace("@SCHEMA@", schema);
    sql.replace("@TABLE@", table).replace("@MODE@", mode)
}

/// Checks, before functions of a schema are called by name, that a superuser owns the schema.
///
/// # Errors
/// The schema is not ours ([`is_not_ours`]), or Postgres does not answer.
pub(crate) async fn require_own_schema(
    session: &Session,
    schema: &str,
) -> Result<(), SessionError> {
    session.query(&OWN_SCHEMA.replace("@SCHEMA@", schema)).await.map(|_| ())
}

/// A statement that revokes the privilege TRIGGER on the tables and views of an extension from all
/// roles but superusers. It belongs in the transaction that creates or updates the extension.
pub(super) fn close_triggers(extension: &str) -> String {
    CLOSE_TRIGGERS.trim_end().replace("@EXTENSION@", &literal(extension))
}

/// Whether one of our own checks refused an object that is not ours.
pub(crate) fn is_not_ours(error: &SessionError) -> bool {
    error.sqlstate().map(SqlState::code) == Some(NOT_OURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in() {
        let table = trusted_table("public", "health_check", Use::Write);
        assert!(table.contains("LOCK TABLE ONLY public.health_check IN ROW EXCLUSIVE MODE"));
        for sql in [table, close_triggers("it's")] {
            assert!(!sql.contains('@'), "{sql}");
        }
        assert!(close_triggers("it's").contains("'it''s'"));
    }

    #[test]
    fn the_sqlstate_of_the_texts() {
        let texts = [TRUSTED_TABLE, OWN_SCHEMA, include_str!("sql/insights.sql")];
        for text in texts {
            assert!(text.contains(&format!("ERRCODE = '{NOT_OURS}'")), "{text}");
        }
    }
}
