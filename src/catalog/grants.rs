//! Privileges of a role on a schema (05 §15.3).
//!
//! The privileges of the role are read first, and nothing is executed when none is missing, so
//! that a repeated request succeeds on a read-only replica. [`super::protected`] says which
//! schemas and roles are refused.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::protected::{self, Refusal, RequestError};
use super::query_error;
use crate::sql::Session;
use crate::sql::quote::{naming_schema, role_expression, schema_expression};

/// `application_name` of the session.
pub(crate) const APPLICATION_NAME: &str = "compute_ctl:set_role_grants";

/// A privilege (02 §6.5). Only `USAGE` and `CREATE` apply to schemas; Postgres refuses the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    References,
    Trigger,
    Usage,
    Create,
    Connect,
    Temporary,
    Execute,
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::References => "REFERENCES",
            Self::Trigger => "TRIGGER",
            Self::Usage => "USAGE",
            Self::Create => "CREATE",
            Self::Connect => "CONNECT",
            Self::Temporary => "TEMPORARY",
            Self::Execute => "EXECUTE",
        })
    }
}

/// A request whose names are not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchemaGrant<'a> {
    schema: &'a str,
    role: &'a str,
    privileges: &'a [Privilege],
}

impl<'a> SchemaGrant<'a> {
    /// Checks the names.
    pub(crate) fn new(
        schema: &'a str,
        role: &'a str,
        privileges: &'a [Privilege],
    ) -> Result<Self, Refusal> {
        protected::schema(schema)?;
        protected::role(role)?;
        Ok(Self { schema, role, privileges })
    }

    /// Grants what the role does not have, unless the role is a superuser. The session must be in
    /// the database of the schema.
    pub(crate) async fn carry_out(&self, session: &Session) -> Result<(), RequestError> {
        let Self { schema, role, privileges } = *self;
        // Both queries in one message: one round trip.
        let look = format!("{}; {}", protected::standing(role), privileges_held(schema, role));
        let held = query_error::texts(session, &look).await?;
        held.iter().try_for_each(|text| protected::refused_standing(role, text))?;
        if let Some(sql) = grant_missing(schema, role, privileges, &held) {
            query_error::query(session, &sql).await?;
        }
        Ok(())
    }
}

/// A query for the privileges granted to the role itself. Those it has by membership do not count:
/// a grant adds to them.
fn privileges_held(schema: &str, role: &str) -> String {
    format!(
        "SELECT held.privilege_type \
         FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) held, \
              pg_catalog.pg_roles r \
         WHERE n.nspname OPERATOR(pg_catalog.=) {} AND r.rolname OPERATOR(pg_catalog.=) {} \
             AND held.grantee OPERATOR(pg_catalog.=) r.oid",
        schema_expression(schema),
        role_expression(role)
    )
}

/// The statement that grants the missing privileges, in the order of the request; none when
/// nothing is missing.
fn grant_missing(
    schema: &str,
    role: &str,
    privileges: &[Privilege],
    held: &[String],
) -> Option<String> {
    let mut done: HashSet<String> = held.iter().cloned().collect();
    let wanted = privileges.iter().map(ToString::to_string);
    let missing: Vec<_> = wanted.filter(|privilege| done.insert(privilege.clone())).collect();
    if missing.is_empty() {
        return None;
    }
    let template = format!("GRANT {} ON SCHEMA %I TO %I", missing.join(", "));
    Some(naming_schema(&template, schema, role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_and_once() {
        use Privilege::{Create, Usage};
        let grant = |wanted: &[Privilege], held: &[&str]| {
            let held: Vec<_> = held.iter().map(ToString::to_string).collect();
            grant_missing("a\"b", "r; --", wanted, &held)
        };
        assert_eq!(
            grant(&[Usage, Create, Usage], &[]).as_deref(),
            Some(r#"GRANT USAGE, CREATE ON SCHEMA "a""b" TO "r; --""#)
        );
        assert_eq!(
            grant(&[Usage, Create], &["USAGE"]).as_deref(),
            Some(r#"GRANT CREATE ON SCHEMA "a""b" TO "r; --""#)
        );
        assert_eq!(grant(&[Usage], &["CREATE", "USAGE"]), None);
        assert_eq!(grant(&[], &[]), None);
        let held = privileges_held("it's", "c:\\x");
        assert!(
            held.contains("OPERATOR(pg_catalog.=) 'it''s' AND") && held.contains(r" E'c:\\x' "),
            "{held}"
        );
    }

    #[test]
    fn names_are_checked_first() {
        let all = [Privilege::Usage];
        assert!(SchemaGrant::new("auth", "authenticated", &all).is_ok());
        for (schema, role) in [("pg_catalog", "r"), ("neon", "r"), ("auth", "public")] {
            assert!(SchemaGrant::new(schema, role, &all).is_err(), "{schema} {role}");
        }
    }

    #[test]
    fn the_text_of_sql_is_the_text_of_json() {
        for text in [
            "SELECT",
            "INSERT",
            "UPDATE",
            "DELETE",
            "TRUNCATE",
            "REFERENCES",
            "TRIGGER",
            "USAGE",
            "CREATE",
            "CONNECT",
            "TEMPORARY",
            "EXECUTE",
        ] {
            let privilege: Privilege = serde_json::from_value(text.into()).unwrap();
            assert_eq!(privilege.to_string(), text);
            assert_eq!(serde_json::to_value(privilege).unwrap(), text);
            let lower = text.to_lowercase();
            assert!(serde_json::from_value::<Privilege>(lower.into()).is_err());
        }
    }
}
