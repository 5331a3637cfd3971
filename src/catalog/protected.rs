//! What a request on the internal port must not change (05 §15.3, §15.4).
//!
//! That port asks for no token, and its routes act as superuser. So each route obeys this rule: it
//! does not change what the server and this program trust, and gives nothing to roles that are
//! superusers already.
//!
//! - Schemas: those of the server, `pg_*` and `information_schema`, which unqualified names reach,
//!   and our own, `neon` and `neon_migration`. They are recognised by name: `pg_` is reserved by
//!   Postgres, and the others belong to superusers or are mistaken for ours. Case matters, because
//!   names are always quoted.
//! - Roles: superusers, and `public`, which means every role to Postgres, also in quotes. A direct
//!   or indirect member of a superuser counts as one: `SET ROLE` makes it one, it needs no grant,
//!   and the caller is a program that hands roles out to strangers.
//!
//! The check runs before the statement that it protects. No tenant can change its result in
//! between: only superusers rename these schemas, give that attribute, or give a membership in a
//! role that has it. (On PostgreSQL 14 and 15 a role with CREATEROLE can also pass on a role that
//! is a mere member; where there is one, it has become superuser without our help.)

use thiserror::Error;

use super::query_error::QueryError;
use crate::sql::quote::role_expression;

/// Schemas that this program creates and fills.
const OURS: [&str; 2] = ["neon", "neon_migration"];

/// The extension that this program creates and updates itself.
const OUR_EXTENSION: &str = "neon";

/// Why a request that could be carried out is refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Privileges on a schema of the server or of this program.
    #[error(
        "schema {0:?} belongs to the server or to compute_ctl: no privileges on it are granted on \
         request; name a schema of users"
    )]
    Schema(String),
    /// Privileges for every role.
    #[error(
        "the name \"public\" stands for every role: privileges are granted to one role at a \
         time; name it"
    )]
    EveryRole,
    /// Privileges for a superuser.
    #[error(
        "role {0:?} is a superuser: it needs no privileges, and none are granted to it on request"
    )]
    Superuser(String),
    /// Privileges for a member of a superuser.
    #[error(
        "role {0:?} is a member of a superuser: it can have all privileges by SET ROLE, and none \
         are granted to it on request"
    )]
    MemberOfSuperuser(String),
    /// The extension `neon`.
    #[error("extension \"neon\" is created and updated by compute_ctl itself, not on request")]
    OurExtension,
    /// An extension in one of our schemas.
    #[error(
        "extension {0:?} is in schema \"neon\" or \"neon_migration\", which compute_ctl looks \
         after: it is not updated on request"
    )]
    InOurSchema(String),
}

/// Why a request failed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// The request is not permitted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// Whether privileges on the schema may be granted at all.
pub(super) fn schema(name: &str) -> Result<(), Refusal> {
    if name.starts_with("pg_") || name == "information_schema" || OURS.contains(&name) {
        return Err(Refusal::Schema(name.to_owned()));
    }
    Ok(())
}

/// Whether the name stands for one role.
pub(super) fn role(name: &str) -> Result<(), Refusal> {
    if name == "public" {
        return Err(Refusal::EveryRole);
    }
    Ok(())
}

/// Whether requests may create or update the extension.
pub(super) fn extension(name: &str) -> Result<(), Refusal> {
    if name == OUR_EXTENSION {
        return Err(Refusal::OurExtension);
    }
    Ok(())
}

/// The answer of [`standing`] about a superuser.
const SUPERUSER: &str = "superuser";
/// The answer of [`standing`] about a member of a superuser.
const MEMBER: &str = "member of a superuser";

/// A query that has one row if the role is refused.
pub(super) fn standing(role: &str) -> String {
    format!(
        "SELECT CASE WHEN r.rolsuper THEN '{SUPERUSER}'::pg_catalog.text \
                     ELSE '{MEMBER}'::pg_catalog.text END \
         FROM pg_catalog.pg_roles r \
         WHERE r.rolname OPERATOR(pg_catalog.=) {}::pg_catalog.name \
           AND EXISTS (SELECT FROM pg_catalog.pg_roles s WHERE s.rolsuper \
                       AND pg_catalog.pg_has_role(r.oid, s.oid, 'MEMBER'::pg_catalog.text))",
        role_expression(role)
    )
}

/// Translates a row of [`standing`]. Any other text means that the role is not refused.
pub(super) fn refused_standing(role: &str, text: &str) -> Result<(), Refusal> {
    match text {
        SUPERUSER => Err(Refusal::Superuser(role.to_owned())),
        MEMBER => Err(Refusal::MemberOfSuperuser(role.to_owned())),
        _ => Ok(()),
    }
}

/// A SQL expression: whether a name, given as an expression, is that of one of our schemas.
pub(super) fn is_ours(name: &str) -> String {
    let ours = OURS.map(|ours| format!("'{ours}'::pg_catalog.name")).join(", ");
    format!("{name} OPERATOR(pg_catalog.=) ANY (ARRAY[{ours}])")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_server_and_of_ours() {
        for name in [
            "pg_catalog",
            "pg_toast",
            "pg_temp_3",
            "pg_temp",
            "pg_",
            "information_schema",
            "neon",
            "neon_migration",
        ] {
            assert_eq!(schema(name), Err(Refusal::Schema(name.to_owned())));
        }
        // In quotes these are names of other schemas.
        for name in ["public", "auth", "pgq", "neon2", "NEON", "Pg_catalog", " neon", "pg"] {
            assert_eq!(schema(name), Ok(()), "{name}");
        }
        assert_eq!(role("public"), Err(Refusal::EveryRole));
        assert_eq!((role("PUBLIC"), role("pg_monitor")), (Ok(()), Ok(())));
        assert_eq!(extension("neon"), Err(Refusal::OurExtension));
        assert_eq!((extension("plpgsql"), extension("neon_utils")), (Ok(()), Ok(())));
    }

    #[test]
    fn standings() {
        let name = "it's".to_owned();
        assert!(standing(&name).contains("'it''s'::pg_catalog.name"));
        assert_eq!(refused_standing(&name, SUPERUSER), Err(Refusal::Superuser(name.clone())));
        assert_eq!(refused_standing(&name, MEMBER), Err(Refusal::MemberOfSuperuser(name.clone())));
        assert_eq!(refused_standing(&name, "USAGE"), Ok(()));
    }

    #[test]
    fn reasons_are_sentences_with_the_name() {
        let text = Refusal::Schema("pg_catalog".to_owned()).to_string();
        assert!(text.starts_with("schema \"pg_catalog\" belongs to the server"), "{text}");
        let text = Refusal::MemberOfSuperuser("a\"b".to_owned()).to_string();
        assert!(text.starts_with(r#"role "a\"b" is a member of a superuser: "#), "{text}");
    }
}
