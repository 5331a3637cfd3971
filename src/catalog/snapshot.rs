//! The state of the cluster, read in one round trip before anything is changed (05 §4).
//!
//! [`read`] fetches everything that decisions about roles, databases and the system database need.
//! The inside of another database is read in that database, by [`super::inspect`], unless its
//! [`Outline`] is enough. Invariant: a row of an unexpected shape is an error and is never
//! skipped, because a missing row would lead to an attempt to create what exists (05 weakness 16).
//! Names that are not UTF-8 are stored as [`Row::name`](crate::sql::Row::name) returns them, so no
//! name of a spec equals them.

use std::collections::{BTreeSet, HashMap};

use super::lakebase::LakebaseState;
use super::trust::{Use, trusted_table};
use crate::secret::Secret;
use crate::sql::quote::{identifier, literal};
use crate::sql::{Session, SessionError, TypedRow};

/// The first column of a row names its kind; [`ClusterState::take`] reads the columns of each
/// kind.
const SQL: &str = include_str!("sql/snapshot.sql");
const OUTLINES: &str = include_str!("sql/outlines.sql");
const DEPENDENCIES: &str = include_str!("sql/dependencies.sql");
const SUBSCRIPTIONS_DONE: &str = include_str!("sql/subscriptions_done.sql");

/// Questions that only some specs need.
#[derive(Debug, Clone, Default)]
pub struct Questions<'a> {
    /// The role that gets default privileges in databases; none if no database needs changes.
    pub privileged_role: Option<&'a str>,
    /// Roles that will be dropped: the snapshot lists what they own or hold in each database.
    pub deleted_roles: BTreeSet<&'a str>,
    /// Set if the snapshot must tell whether the inherited subscriptions of this timeline were
    /// dropped.
    pub timeline: Option<String>,
}

/// The password text of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredPassword {
    /// As it stands in the catalog.
    Known(Option<Secret<String>>),
    /// Postgres may have cleared it when the role was renamed.
    Unknown,
}

/// A row of `pg_database`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseRow {
    /// `None` when the role is missing, which happens only in a damaged catalog.
    pub owner: Option<String>,
    /// `datallowconn` is false, so the database does not accept connections.
    pub restricted: bool,
    /// Left by an interrupted DROP DATABASE.
    pub invalid: bool,
    /// A template, which cannot be dropped.
    pub template: bool,
    /// Made by `initdb`.
    pub initial: bool,
    /// No privilege on the database was ever granted or revoked.
    pub default_acl: bool,
    /// Read only on request. The plan clears it once it plans a change that would alter it.
    pub outline: Option<Outline>,
}

/// What the shared catalog `pg_shdepend` shows about the inside of a database: the roles that are
/// owners, and those that access control lists name. It does not list roles that `initdb` made as
/// owners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Rows of `pg_default_acl` that belong to the session's role, or to one that `initdb` made,
    /// and name the privileged role.
    pub defaults: usize,
    /// Owner of the schema `public` that the database was made with.
    pub public_owner: Option<String>,
    /// Whether there are schemas that `initdb` did not make.
    pub more_schemas: bool,
}

impl DatabaseRow {
    /// Whether the database accepts a session.
    pub const fn connectable(&self) -> bool {
        !self.restricted && !self.invalid
    }
}

/// An extension of the system database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionRow {
    /// Installed version.
    pub version: String,
    /// Schema that holds its objects.
    pub schema: String,
    /// Whether it can be moved to another schema.
    pub relocatable: bool,
}

/// A row of `pg_subscription`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// The oid, which is not reused in the life of a timeline.
    pub oid: u32,
    /// The database that it belongs to.
    pub database: String,
}

/// Something that a role that will be deleted owns or holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dependency {
    /// The role.
    pub role: String,
    /// Its database; `None` for a shared object, such as a database itself.
    pub database: Option<String>,
}

/// The state of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// Server version, such as 160002.
    pub server_version: u32,
    /// The setting `max_connections` in force.
    pub max_connections: usize,
    /// The database of the session that read the state.
    pub system_database: String,
    /// The role of that session, which runs every operation.
    pub session_role: String,
    /// Password texts by role name.
    pub roles: HashMap<String, StoredPassword>,
    /// Databases by name.
    pub databases: HashMap<String, DatabaseRow>,
    /// Whether the system database has a schema `neon`.
    pub has_neon_schema: bool,
    /// Owner of that schema, if it is not a superuser; the schema is then not ours.
    pub neon_schema_of_others: Option<String>,
    /// Whether the system database has a relation `public.health_check`, of any owner.
    pub has_health_check: bool,
    /// Whether `pgaudit.log=none` is set for the database `postgres`.
    pub audit_silenced: bool,
    /// The extensions of the system database that this program manages.
    pub extensions: HashMap<String, ExtensionRow>,
    /// Default version of the `neon` extension, if the server's packages offer it.
    pub neon_default_version: Option<String>,
    /// All subscriptions of the cluster.
    pub subscriptions: Vec<SubscriptionRow>,
    /// The inherited subscriptions of the timeline were dropped. Read only on request.
    pub subscriptions_done: bool,
    /// The inherited subscriptions that an interrupted run on this timeline listed. Read only on
    /// request.
    pub subscriptions_todo: Option<Vec<u32>>,
    /// What the roles of [`Questions::deleted_roles`] own or hold.
    pub dependencies: Vec<Dependency>,
    /// Set in Lakebase mode only; [`read`] does not fill it.
    pub lakebase: Option<LakebaseState>,
}

/// Reads the state in one round trip; nothing is changed.
pub(crate) async fn read(
    session: &Session,
    questions: &Questions<'_>,
) -> Result<ClusterState, SessionError> {
    let mut state = ClusterState::default();
    for row in session.query(&sql(questions)).await? {
        state.take(&TypedRow(&row))?;
    }
    if state.system_database.is_empty() {
        return Err(SessionError::Answer("no row about the server".to_owned()));
    }
    Ok(state)
}

fn sql(questions: &Questions<'_>) -> String {
    let mut sql = SQL.to_owned();
    if let Some(role) = questions.privileged_role {
        sql.push_str(&OUTLINES.replace("@PRIVILEGED@", &literal(&identifier(role))));
    }
    if !questions.deleted_roles.is_empty() {
        let names: Vec<_> = questions.deleted_roles.iter().map(|name| literal(name)).collect();
        sql.push_str(&DEPENDENCIES.replace("@ROLES@", &names.join(", ")));
    }
    if let Some(timeline) = &questions.timeline {
        let trust = |table| trusted_table("neon", table, Use::Read);
        let done = SUBSCRIPTIONS_DONE.replace("@TRUST_DONE@", &trust("drop_subscriptions_done"));
        let done = done.replace("@TRUST_TODO@", &trust("drop_subscriptions_todo"));
        sql.push_str(&done.replace("@TIMELINE@", &literal(timeline)));
    }
    sql
}

impl ClusterState {
    /// The major version, such as 14.
    pub const fn major(&self) -> u32 {
        self.server_version / 10_000
    }

    fn take(&mut self, row: &TypedRow<'_>) -> Result<(), SessionError> {
        match row.text(0)? {
            "server" => {
                self.server_version = row.number(1)?;
                self.max_connections = row.number(2)?;
                self.system_database = row.owned(3)?;
                self.session_role = row.owned(4)?;
                self.neon_schema_of_others = row.optional(5)?.map(str::to_owned);
                self.has_neon_schema = row.flag(6)?;
                self.has_health_check = row.flag(7)?;
                self.audit_silenced = row.flag(8)?;
            }
            "role" => {
                let password = row.optional(2)?.map(|text| Secret::new(text.to_owned()));
                self.roles.insert(row.name(1)?, StoredPassword::Known(password));
            }
            "database" => {
                let database = DatabaseRow {
                    owner: row.optional_name(2)?,
                    restricted: row.flag(3)?,
                    invalid: row.flag(4)?,
                    template: row.flag(5)?,
                    initial: row.flag(6)?,
                    default_acl: row.flag(7)?,
                    outline: None,
                };
                self.databases.insert(row.name(1)?, database);
            }
            "outline" => {
                let outline = Outline {
                    defaults: row.number(2)?,
                    public_owner: row.optional(3)?.map(str::to_owned),
                    more_schemas: row.flag(4)?,
                };
                // A database that was created between the two statements has no row yet.
                if let Some(database) = self.databases.get_mut(&row.name(1)?) {
                    database.outline = Some(outline);
                }
            }
            "extension" => {
                let extension = ExtensionRow {
                    version: row.owned(2)?,
                    schema: row.owned(3)?,
                    relocatable: row.flag(4)?,
                };
                self.extensions.insert(row.owned(1)?, extension);
            }
            "available" => self.neon_default_version = Some(row.owned(1)?),
            "subscription" => {
                let (oid, database) = (row.number(1)?, row.name(2)?);
                self.subscriptions.push(SubscriptionRow { oid, database });
            }
            "dependency" => {
                let database = row.optional_name(2)?;
                self.dependencies.push(Dependency { role: row.owned(1)?, database });
            }
            "subscriptions done" => {
                self.subscriptions_done = row.flag(1)?;
                // Numbers with blanks between them. A text, because a placeholder setting cannot
                // be null.
                let todo = row.text(2)?;
                if let Some(list) = todo.strip_prefix("todo") {
                    let numbers = list.split_whitespace().map(str::parse);
                    let numbers = numbers.collect::<Result<_, _>>().map_err(|_| row.bad(2))?;
                    self.subscriptions_todo = Some(numbers);
                }
            }
            _ => return Err(row.bad(0)),
        }
        Ok(())
    }
}
