//! Checks, before anything is changed, for specs that cannot be applied.

use thiserror::Error;

use super::super::options;
use super::super::snapshot::ClusterState;
use super::wanted::Wanted;
use crate::spec::ComputeSpec;
use crate::spec::wire::{DeltaOperation, PgOption};

/// Postgres truncates longer names, and the next apply would try to create them again (05 W17).
const MAX_NAME_BYTES: usize = 63;

/// Why a spec cannot be applied. Nothing was changed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// Postgres would truncate the name.
    #[error("the name of {kind} {name:?} has {} bytes, Postgres allows {MAX_NAME_BYTES}", name.len())]
    NameTooLong {
        /// Role or database.
        kind: &'static str,
        /// The whole name.
        name: String,
    },
    /// The name is empty, or contains a byte 0.
    #[error(
        "{name:?} cannot be the name of a {kind}: a name has at least one character, and none of them is 0"
    )]
    NoName {
        /// Role or database.
        kind: &'static str,
        /// The name in the spec.
        name: String,
    },
    /// A rename without a new name.
    #[error("delta operation {action} of {name:?} has no new_name")]
    NoNewName {
        /// `rename_role` or `rename_db`.
        action: String,
        /// The object to rename.
        name: String,
    },
    /// A rename onto a name that is taken (05 §7.6). The error does not advise to delete the other
    /// database: in a list that is applied again, its name would be that of the renamed database.
    #[error(
        "could not rename database {name:?} to {new_name:?}: there is a database of that name, \
         and the spec lists neither. Rename that one earlier in delta_operations to move it out of the \
         way, or leave this rename out"
    )]
    NameTaken {
        /// The database to rename.
        name: String,
        /// Its new name.
        new_name: String,
    },
    /// The operation names the database of our own session, which Postgres can neither drop nor
    /// rename.
    #[error("delta operation {action} names {name:?}, the database that --connstr is connected to")]
    SystemDatabase {
        /// `delete_db` or `rename_db`.
        action: String,
        /// Name of the database.
        name: String,
    },
    /// Postgres would refuse this too, but only after everything that the role owns was dropped.
    #[error("delta operation delete_role names {0:?}, the role of compute_ctl itself")]
    OwnRole(String),
    /// An option that would end the statement that contains it.
    #[error(
        "option {name:?} of {kind} {owner:?} is not one piece of SQL: quotes must be closed, and semicolons, comments, dollar signs and backslashes are not allowed outside values of vartype string"
    )]
    BadOption {
        /// Role or database.
        kind: &'static str,
        /// The object of the option.
        owner: String,
        /// Name of the option; its value may be a secret.
        name: String,
    },
    /// The schema `neon`, which would hold the list of inherited subscriptions, belongs to a
    /// tenant.
    #[error(
        "drop_subscriptions_before_start needs the schema \"neon\", which belongs to role {0:?}, not to a \
         superuser: rename or drop that schema"
    )]
    NeonSchemaOfOthers(String),
    /// The owner of a database neither exists nor is in the spec.
    #[error(
        "could not make role {owner:?} the owner of database {database:?}: role {owner:?} does not exist, and the spec does not list it"
    )]
    NoSuchOwner {
        /// The database.
        database: String,
        /// The missing role.
        owner: String,
    },
}

/// Checks every name and option of the spec.
pub(super) fn check(wanted: &Wanted<'_>, state: &ClusterState) -> Result<(), PlanError> {
    if let Some(owner) = &state.neon_schema_of_others
        && wanted.spec.drop_subscriptions_before_start
    {
        return Err(PlanError::NeonSchemaOfOthers(owner.clone()));
    }
    check_document(wanted.spec)?;
    for DeltaOperation { action, name, .. } in wanted.all_deltas() {
        let (action, name) = (action.clone(), name.clone());
        let names_database = matches!(action.as_str(), "delete_db" | "rename_db");
        if names_database && name == state.system_database {
            return Err(PlanError::SystemDatabase { action, name });
        }
        if action == "delete_role" && name == state.session_role {
            return Err(PlanError::OwnRole(name));
        }
    }
    Ok(())
}

/// Finds names and options that no cluster takes. It needs no server, so a spec is refused for them
/// before anything is touched.
///
/// # Errors
/// The first fault.
pub(crate) fn check_document(spec: &ComputeSpec) -> Result<(), PlanError> {
    let cluster = &spec.cluster;
    for role in &cluster.roles {
        check_name("role", &role.name)?;
        check_options("role", &role.name, role.options.as_deref())?;
    }
    for database in &cluster.databases {
        check_name("database", &database.name)?;
        check_name("role", &database.owner)?;
        check_options("database", &database.name, database.options.as_deref())?;
    }
    for delta in spec.delta_operations.iter().flatten() {
        let (kind, rename) = match delta.action.as_str() {
            "delete_db" => ("database", false),
            "rename_db" => ("database", true),
            "delete_role" => ("role", false),
            "rename_role" => ("role", true),
            // Unknown actions have no effect (05 §11).
            _ => continue,
        };
        let (action, name) = (delta.action.clone(), delta.name.clone());
        check_name(kind, &name)?;
        match &delta.new_name {
            Some(new_name) if rename => check_name(kind, new_name)?,
            None if rename => return Err(PlanError::NoNewName { action, name }),
            _ => {}
        }
    }
    Ok(())
}

fn check_name(kind: &'static str, name: &str) -> Result<(), PlanError> {
    if name.is_empty() || name.contains('\0') {
        return Err(PlanError::NoName { kind, name: name.to_owned() });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(PlanError::NameTooLong { kind, name: name.to_owned() });
    }
    Ok(())
}

/// Names and values are written unchanged (02 §8.4), but they must not end the statement (05
/// weakness 7).
fn check_options(
    kind: &'static str,
    owner: &str,
    options: Option<&[PgOption]>,
) -> Result<(), PlanError> {
    for PgOption { name, value, vartype } in options.unwrap_or_default() {
        let value = value.as_deref().unwrap_or_default();
        let good = match vartype.as_str() {
            "string" => !value.contains('\0'),
            _ => options::is_one_piece(value),
        };
        if !good || !options::is_one_piece(name) {
            let (owner, name) = (owner.to_owned(), name.clone());
            return Err(PlanError::BadOption { kind, owner, name });
        }
    }
    Ok(())
}
