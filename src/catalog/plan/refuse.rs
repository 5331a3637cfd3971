//! What no apply can make of a spec, found out before anything is changed.

use thiserror::Error;

use super::super::options;
use super::super::snapshot::ClusterState;
use super::wanted::Wanted;
use crate::spec::wire::PgOption;

/// Longer names are cut by Postgres, and the next apply would try to create them again (05 W17).
const MAX_NAME_BYTES: usize = 63;

/// Why a spec cannot be applied. Nothing was changed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// Postgres would cut it.
    #[error("the name of {kind} {name:?} has {} bytes, Postgres allows {MAX_NAME_BYTES}", name.len())]
    NameTooLong {
        /// Role or database.
        kind: &'static str,
        /// The whole name.
        name: String,
    },
    /// Empty, or with a byte 0.
    #[error(
        "{name:?} cannot be the name of a {kind}: a name has at least one character, and none of them is 0"
    )]
    NoName {
        /// Role or database.
        kind: &'static str,
        /// As it came.
        name: String,
    },
    /// A rename to nowhere.
    #[error("delta operation {action} of {name:?} has no new_name")]
    NoNewName {
        /// `rename_role` or `rename_db`.
        action: String,
        /// What is to be renamed.
        name: String,
    },
    /// A rename onto a name that is taken (05 §7.6). The advice is not to delete that one: in a list
    /// that is applied again, the name would be that of the database that was renamed.
    #[error(
        "could not rename database {name:?} to {new_name:?}: there is a database of that name, \
         and the spec lists neither. Rename that one earlier in delta_operations to move it out of the \
         way, or leave this rename out"
    )]
    NameTaken {
        /// What is to be renamed.
        name: String,
        /// The name that it is to have.
        new_name: String,
    },
    /// Postgres never lets go of the database of a session.
    #[error("delta operation {action} names {name:?}, the database that --connstr is connected to")]
    SystemDatabase {
        /// `delete_db` or `rename_db`.
        action: String,
        /// Its name.
        name: String,
    },
    /// Postgres would refuse it too, but only after everything that the role owns was dropped.
    #[error("delta operation delete_role names {0:?}, the role that all this is done as")]
    OwnRole(String),
    /// An option that would end the statement it is written into.
    #[error(
        "option {name:?} of {kind} {owner:?} is not one piece of SQL: quotes must be closed, and semicolons, comments, dollar signs and backslashes are not allowed outside values of vartype string"
    )]
    BadOption {
        /// Role or database.
        kind: &'static str,
        /// Whose option it is.
        owner: String,
        /// Name of the option; its value may be a secret.
        name: String,
    },
    /// What inherited subscriptions are remembered in would be a tenant's.
    #[error(
        "drop_subscriptions_before_start needs the schema \"neon\", which belongs to role {0:?}, not to a \
         superuser: rename or drop that schema"
    )]
    NeonSchemaOfOthers(String),
    /// The owner of a database is neither there nor in the spec.
    #[error(
        "could not make role {owner:?} the owner of database {database:?}: role \"{owner}\" does not exist, and the spec does not list it"
    )]
    NoSuchOwner {
        /// The database.
        database: String,
        /// The role.
        owner: String,
    },
}

/// Looks at every name and option of the spec.
pub(super) fn check(wanted: &Wanted<'_>, state: &ClusterState) -> Result<(), PlanError> {
    if let Some(owner) = &state.neon_schema_of_others
        && wanted.spec.drop_subscriptions_before_start
    {
        return Err(PlanError::NeonSchemaOfOthers(owner.clone()));
    }
    let cluster = &wanted.spec.cluster;
    for role in &cluster.roles {
        check_name("role", &role.name)?;
        check_options("role", &role.name, role.options.as_deref())?;
    }
    for database in &cluster.databases {
        check_name("database", &database.name)?;
        check_name("role", &database.owner)?;
        check_options("database", &database.name, database.options.as_deref())?;
    }
    for delta in wanted.all_deltas() {
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
        if kind == "database" && name == state.system_database {
            return Err(PlanError::SystemDatabase { action, name });
        }
        if action == "delete_role" && name == state.session_role {
            return Err(PlanError::OwnRole(name));
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

/// Names and values are written as they come (02 §8.4), which is no reason to let them end the
/// statement (05 weakness 7).
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
