//! One change to a catalog, as a value that can be printed, sent and reported.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::secret::Secret;

/// The phases of an apply, in the order of their effects (05 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CatalogStep {
    /// Before phase 1: the inherited subscriptions are listed in a table, so that a later run can
    /// finish an interrupted one without dropping subscriptions that users have created since.
    RememberSubscriptions,
    /// 1: subscriptions of databases that will be deleted.
    PreDrop,
    /// 2: the role that users are members of.
    PrivilegedRole,
    /// After 2, in Lakebase mode: the platform's roles.
    LakebaseRoles,
    /// After these, in Lakebase mode: the time-out of readers' statements.
    ReaderTimeouts,
    /// 3: databases that an interrupted DROP DATABASE left.
    InvalidDatabases,
    /// 4.
    RenameRoles,
    /// 5.
    Roles,
    /// 6: databases are renamed and deleted.
    RemoveDatabases,
    /// 7: databases are created, owners changed.
    Databases,
    /// 8: schema `neon` of the system database.
    NeonSchema,
    /// 9: inside every listed database.
    InsideDatabases,
    /// 10: `pg_stat_statements`.
    StatementStatistics,
    /// 11: extension `neon`.
    NeonExtension,
    /// After 11, in Lakebase mode.
    DatabricksAuth,
    /// 12: the table of the availability check.
    AvailabilityCheck,
    /// 13.
    DropRoles,
    /// After 13, in Lakebase mode: what the monitor's role may do.
    MonitorPrivileges,
    /// 14: subscriptions were dropped for this timeline.
    RecordSubscriptions,
    /// 15: `pgaudit`.
    Audit,
    /// 16: `pgauditlogtofile`.
    AuditFile,
    /// 17: no audit of the system database.
    SilenceAudit,
}

impl fmt::Display for CatalogStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RememberSubscriptions => "remember_subscriptions",
            Self::PreDrop => "pre_drop",
            Self::PrivilegedRole => "privileged_role",
            Self::LakebaseRoles => "lakebase_roles",
            Self::ReaderTimeouts => "reader_timeouts",
            Self::InvalidDatabases => "invalid_databases",
            Self::RenameRoles => "rename_roles",
            Self::Roles => "roles",
            Self::RemoveDatabases => "remove_databases",
            Self::Databases => "databases",
            Self::NeonSchema => "neon_schema",
            Self::InsideDatabases => "inside_databases",
            Self::StatementStatistics => "statement_statistics",
            Self::NeonExtension => "neon_extension",
            Self::DatabricksAuth => "databricks_auth",
            Self::AvailabilityCheck => "availability_check",
            Self::DropRoles => "drop_roles",
            Self::MonitorPrivileges => "monitor_privileges",
            Self::RecordSubscriptions => "record_subscriptions",
            Self::Audit => "audit",
            Self::AuditFile => "audit_file",
            Self::SilenceAudit => "silence_audit",
        })
    }
}

impl Serialize for CatalogStep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The kind of object that is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CatalogObjectKind)]
pub enum ObjectKind {
    /// A role.
    Role,
    /// A database.
    Database,
    /// A schema of the session's database.
    Schema,
    /// An extension of the session's database.
    Extension,
    /// A table or view of the session's database.
    Table,
    /// A function of the session's database.
    Function,
}

/// The object that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[schema(as = CatalogObject)]
pub struct Object {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name, as it stands in the catalog.
    pub name: String,
}

impl Object {
    /// An object of a kind.
    pub fn new(kind: ObjectKind, name: &str) -> Self {
        Self { kind, name: name.to_owned() }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ObjectKind::Role => "role",
            ObjectKind::Database => "database",
            ObjectKind::Schema => "schema",
            ObjectKind::Extension => "extension",
            ObjectKind::Table => "table",
            ObjectKind::Function => "function",
        };
        write!(f, "{kind} {:?}", self.name)
    }
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CatalogAction)]
pub enum Action {
    /// Create an object that does not exist.
    Create,
    /// Change the password and options of a role.
    Alter,
    /// Give an object another name.
    Rename,
    /// Give an object another owner.
    ChangeOwner,
    /// Grant privileges on an object.
    Grant,
    /// Grant privileges on future objects in a schema.
    GrantDefaults,
    /// Give what a role owns to another role.
    Reassign,
    /// Revoke what others granted to a role.
    Revoke,
    /// Revoke the privilege TRIGGER on the tables of an extension from tenants.
    Protect,
    /// Drop the remaining privileges of a role.
    DropOwned,
    /// Drop an object.
    Drop,
    /// Clear the template flag of a database.
    Release,
    /// End the sessions in a database.
    EndSessions,
    /// Drop the subscriptions of a database.
    DropSubscriptions,
    /// Write rows into a table.
    Record,
    /// Make an extension relocatable.
    MakeRelocatable,
    /// Move an extension to another schema.
    Move,
    /// Update an extension to its default version.
    Update,
    /// Change a setting of a database or role.
    Set,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Alter => "alter",
            Self::Rename => "rename",
            Self::ChangeOwner => "change the owner of",
            Self::Grant => "grant privileges on",
            Self::GrantDefaults => "grant default privileges in",
            Self::Reassign => "reassign what is owned by",
            Self::Revoke => "revoke what others granted to",
            Self::Protect => "keep triggers of tenants away from",
            Self::DropOwned => "drop the remaining privileges of",
            Self::Drop => "drop",
            Self::Release => "clear the template flag of",
            Self::EndSessions => "end sessions in",
            Self::DropSubscriptions => "drop subscriptions of",
            Self::Record => "write into",
            Self::MakeRelocatable => "make relocatable",
            Self::Move => "move",
            Self::Update => "update",
            Self::Set => "change a setting of",
        })
    }
}

/// One statement and its description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The phase it belongs to.
    pub phase: CatalogStep,
    /// What the statement does.
    pub action: Action,
    /// The object it changes.
    pub object: Object,
    /// Database of the session that runs it.
    pub database: Arc<str>,
    /// Role of that session.
    pub role: Arc<str>,
    /// Why it is needed.
    pub reason: String,
    /// Exactly one statement, which may hold a password verifier.
    pub sql: Secret<String>,
    /// Whether Postgres refuses it in a transaction, so that it must be a message of its own.
    pub alone: bool,
}

impl fmt::Display for Operation {
    /// The text fits after "could not" and "done:".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.object)
    }
}
