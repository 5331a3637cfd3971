//! Roles and databases of the spec, brought into a running primary.
//!
//! One query reads what is there, [`plan`] compares it with the spec without touching anything,
//! [`apply`] sends only what differs. Applying the same spec again sends nothing; what the spec
//! does not list is left alone (05 §6, §7.2, §7.5, §7.7, §7.8).

use std::collections::{HashMap, HashSet};

use thiserror::Error;
use tokio_postgres::SimpleQueryRow;

use super::quote::{database_options, identifier, role_options, stored_password};
use super::session::{BatchError, MaintenanceSession, SessionError};
use crate::spec::ComputeSpec;
use crate::spec::wire::{Database, Role};
use crate::telemetry::secret::Secret;

/// Longer names are cut by Postgres, and the next apply would try to create them again (05 W17).
const MAX_NAME_BYTES: usize = 63;

/// All in one answer: what kind of object, its name, and the password text or the owner.
const SNAPSHOT: &str = "\
    SELECT 'role', rolname::text, rolpassword FROM pg_catalog.pg_authid \
    UNION ALL \
    SELECT 'database', datname::text, pg_catalog.pg_get_userbyid(datdba)::text \
        FROM pg_catalog.pg_database \
    UNION ALL \
    SELECT 'schema', nspname::text, NULL FROM pg_catalog.pg_namespace WHERE nspname = 'neon'";

/// What is in the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Name to stored password text.
    pub roles: HashMap<String, Option<Secret<String>>>,
    /// Name to name of the owner.
    pub databases: HashMap<String, String>,
    /// Whether the system database has the schema `neon`.
    pub has_neon_schema: bool,
}

/// One statement to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// May hold a password verifier.
    pub sql: Secret<String>,
    /// What it does to which object, for log lines and errors.
    pub what: String,
    /// Cannot run in a transaction and so must be a message of its own.
    pub alone: bool,
}

/// All that is to be done, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The statements.
    pub operations: Vec<Operation>,
    /// Sentences for the log about things that are done as documented but look like a mistake.
    pub remarks: Vec<String>,
}

impl Plan {
    fn push(&mut self, what: String, sql: String) {
        self.operations.push(Operation { sql: Secret::new(sql), what, alone: false });
    }

    fn push_alone(&mut self, what: String, sql: String) {
        self.operations.push(Operation { sql: Secret::new(sql), what, alone: true });
    }
}

/// Why roles and databases are not as the spec wants them.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CatalogError {
    /// Nothing was changed.
    #[error("the name of {kind} {name:?} has {bytes} bytes, Postgres allows {MAX_NAME_BYTES}")]
    NameTooLong {
        /// Role or database.
        kind: &'static str,
        /// The whole name.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// The state could not be read; nothing was changed.
    #[error("could not read roles and databases: {0}")]
    Snapshot(SessionError),
    /// One operation failed; later ones were not tried.
    #[error("could not {what}: {error}")]
    Operation {
        /// What was tried, with the name of the object.
        what: String,
        /// Why it failed.
        error: SessionError,
    },
}

/// Reads what is there. One round trip.
pub async fn snapshot(session: &MaintenanceSession) -> Result<Snapshot, SessionError> {
    let mut snapshot = Snapshot::default();
    for row in session.session().query(SNAPSHOT).await? {
        let name = text(&row, 1)?.unwrap_or_default().to_owned();
        let value = text(&row, 2)?.map(str::to_owned);
        match text(&row, 0)? {
            Some("role") => {
                snapshot.roles.insert(name, value.map(Secret::new));
            }
            Some("database") => {
                snapshot.databases.insert(name, value.unwrap_or_default());
            }
            _ => snapshot.has_neon_schema = true,
        }
    }
    Ok(snapshot)
}

fn text(row: &SimpleQueryRow, column: usize) -> Result<Option<&str>, SessionError> {
    row.try_get(column).map_err(|error| SessionError::Answer(error.to_string()))
}

/// What has to be done so that the catalog says what the spec says. Pure.
///
/// The order of the effects is that of 05 §6: the privileged role before those who are its
/// members, roles before the databases that they own, the schema last.
pub fn plan(
    spec: &ComputeSpec,
    privileged_role: &str,
    snapshot: &Snapshot,
) -> Result<Plan, CatalogError> {
    let cluster = &spec.cluster;
    check_names("role", cluster.roles.iter().map(|role| &role.name))?;
    check_names("database", cluster.databases.iter().map(|database| &database.name))?;

    let mut plan = Plan::default();
    if !snapshot.roles.contains_key(privileged_role) {
        plan.push(
            format!("create privileged role {privileged_role:?}"),
            format!(
                "CREATE ROLE {} CREATEDB CREATEROLE NOLOGIN REPLICATION BYPASSRLS \
                 IN ROLE pg_read_all_data, pg_write_all_data",
                identifier(privileged_role)
            ),
        );
    }
    let jwt_roles = jwt_roles(spec);
    for role in &cluster.roles {
        plan_role(&mut plan, role, privileged_role, &jwt_roles, snapshot);
    }
    // Seen and made so far, so that a database listed twice is made once.
    let mut owners: HashMap<&str, &str> =
        snapshot.databases.iter().map(|(name, owner)| (name.as_str(), owner.as_str())).collect();
    for database in &cluster.databases {
        let owner = owners.insert(&database.name, &database.owner);
        plan_database(&mut plan, database, privileged_role, owner);
    }
    if !snapshot.has_neon_schema {
        plan.push("create schema neon".to_owned(), "CREATE SCHEMA IF NOT EXISTS neon".to_owned());
    }
    Ok(plan)
}

fn check_names<'a>(
    kind: &'static str,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), CatalogError> {
    match names.find(|name| name.len() > MAX_NAME_BYTES) {
        Some(name) => {
            Err(CatalogError::NameTooLong { kind, name: name.clone(), bytes: name.len() })
        }
        None => Ok(()),
    }
}

/// Roles that the local proxy hands out: they are created with no rights at all.
fn jwt_roles(spec: &ComputeSpec) -> HashSet<&str> {
    let jwks = spec.local_proxy_config.as_ref().and_then(|config| config.jwks.as_deref());
    jwks.unwrap_or_default().iter().flat_map(|jwks| &jwks.role_names).map(String::as_str).collect()
}

/// 05 §7.5. A role that exists gets no attributes beyond the spec's options: users create roles
/// too, and none of them may gain rights here.
fn plan_role(
    plan: &mut Plan,
    role: &Role,
    privileged_role: &str,
    jwt_roles: &HashSet<&str>,
    snapshot: &Snapshot,
) {
    let Role { name, .. } = role;
    let (wanted, options) = (stored_password(role), role_options(role));
    let quoted = identifier(name);
    match snapshot.roles.get(name) {
        // Texts as they are stored, so that an MD5 role equals itself (02 W10).
        Some(stored) if stored.as_ref().map(Secret::expose) == wanted.as_ref() => return,
        Some(_) => {
            plan.push(format!("alter role {name:?}"), format!("ALTER ROLE {quoted} {options}"));
        }
        None if jwt_roles.contains(name.as_str()) => {
            plan.push(format!("create role {name:?}"), format!("CREATE ROLE {quoted} {options}"));
        }
        None => plan.push(
            format!("create role {name:?}"),
            format!(
                "CREATE ROLE {quoted} INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION \
                 IN ROLE {} {options}",
                identifier(privileged_role)
            ),
        ),
    }
    if wanted.is_some_and(|password| !is_hash(&password)) {
        plan.remarks.push(format!(
            "encrypted_password of role {name:?} is neither a SCRAM verifier nor an MD5 hash of \
             32 lower-case digits; Postgres takes it for a password in plain text"
        ));
    }
}

/// Whether Postgres stores a password text as it is instead of hashing it.
fn is_hash(password: &str) -> bool {
    match password.strip_prefix("md5") {
        Some(hash) => hash.len() == 32 && hash.bytes().all(|b| b"0123456789abcdef".contains(&b)),
        None => {
            // SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>
            let parts = password.strip_prefix("SCRAM-SHA-256$").map(|rest| rest.split('$'));
            parts.is_some_and(|parts| {
                parts
                    .map(|part| part.split(':').filter(|piece| !piece.is_empty()).count())
                    .eq([2, 2])
            })
        }
    }
}

/// 05 §7.7. The grant follows the creation at once: it is made at no other time.
fn plan_database(plan: &mut Plan, database: &Database, privileged_role: &str, owner: Option<&str>) {
    let name = &database.name;
    let (quoted, wanted) = (identifier(name), &database.owner);
    match owner {
        Some(owner) if owner == wanted => {}
        Some(_) => plan.push(
            format!("change owner of database {name:?} to {wanted:?}"),
            format!("ALTER DATABASE {quoted} OWNER TO {}", identifier(wanted)),
        ),
        None => {
            plan.push_alone(
                format!("create database {name:?}"),
                format!("CREATE DATABASE {quoted} {}", database_options(database)),
            );
            plan.push(
                format!("grant privileges on database {name:?} to role {privileged_role:?}"),
                format!(
                    "GRANT ALL PRIVILEGES ON DATABASE {quoted} TO {}",
                    identifier(privileged_role)
                ),
            );
        }
    }
}

/// Brings roles and databases to what the spec says. Returns the number of statements that were
/// needed. Stops at the first error; a repeated apply goes on from there.
pub async fn apply(
    session: &MaintenanceSession,
    spec: &ComputeSpec,
    privileged_role: &str,
) -> Result<usize, CatalogError> {
    let snapshot = snapshot(session).await.map_err(CatalogError::Snapshot)?;
    let plan = plan(spec, privileged_role, &snapshot)?;
    for remark in &plan.remarks {
        tracing::warn!("{remark}");
    }
    for batch in plan.operations.chunk_by(|a, b| !a.alone && !b.alone) {
        run(session, batch).await?;
    }
    Ok(plan.operations.len())
}

/// Sends operations as one message, which Postgres runs as one transaction.
async fn run(session: &MaintenanceSession, batch: &[Operation]) -> Result<(), CatalogError> {
    let statements: Vec<&str> =
        batch.iter().map(|operation| operation.sql.expose().as_str()).collect();
    let done = session.session().batch(&statements.join(";\n")).await;
    let Err(BatchError { completed, error }) = done else {
        for operation in batch {
            tracing::info!("done: {}", operation.what);
        }
        return Ok(());
    };
    let what = match batch.get(completed) {
        Some(operation) => operation.what.clone(),
        None => "finish changing roles and databases".to_owned(),
    };
    Err(CatalogError::Operation { what, error })
}

#[cfg(test)]
#[path = "roles_and_databases_tests.rs"]
mod tests;
