//! What is in the cluster, read in one round trip before anything is changed (05 §4).
//!
//! [`read`] asks all that decisions about roles, databases and the system database need. What lies
//! inside the other databases is read there, by [`super::inspect`], unless its [`Outline`] says enough.
//! Invariant: a row that is not of the expected shape is an error, never left out, because a missing
//! row would lead to an attempt to create what exists (05 weakness 16). Names that are not UTF-8 are
//! in it as [`Row::name`](crate::sql::Row::name) has them, and so are none of those that a spec can name.

use std::collections::{BTreeSet, HashMap};

use super::lakebase::LakebaseState;
use super::trust::{Use, trusted_table};
use crate::secret::Secret;
use crate::sql::quote::{identifier, literal};
use crate::sql::{Session, SessionError, TypedRow};

/// Rows begin with what they describe; columns of each kind are those that [`ClusterState::take`]
/// reads.
const SQL: &str = include_str!("sql/snapshot.sql");
const OUTLINES: &str = include_str!("sql/outlines.sql");
const DEPENDENCIES: &str = include_str!("sql/dependencies.sql");
const SUBSCRIPTIONS_DONE: &str = include_str!("sql/subscriptions_done.sql");

/// What is asked only when the spec makes it matter.
#[derive(Debug, Clone, Default)]
pub struct Questions<'a> {
    /// The role that gets default privileges in databases; none if there is nothing to do in any.
    pub privileged_role: Option<&'a str>,
    /// Roles that will be dropped: in which databases do they own or hold anything?
    pub deleted_roles: BTreeSet<&'a str>,
    /// Were the subscriptions that this timeline inherited dropped already?
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
    /// None when the role is gone, which only a damaged catalog shows.
    pub owner: Option<String>,
    /// `datallowconn` is false: nobody can connect.
    pub restricted: bool,
    /// The rest of a DROP DATABASE that was interrupted.
    pub invalid: bool,
    /// Templates cannot be dropped.
    pub template: bool,
    /// Made by `initdb`.
    pub initial: bool,
    /// No privilege on it was ever granted or revoked.
    pub default_acl: bool,
    /// Only if asked, and as long as nothing is planned that would change it.
    pub outline: Option<Outline>,
}

/// What the shared catalog `pg_shdepend` tells about the inside of a database: where roles are named
/// as owners, and in access control lists. Roles that `initdb` made are not in it as owners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Rows of `pg_default_acl` that belong to the session's role, or to one that `initdb` made, and
    /// name the privileged role.
    pub defaults: usize,
    /// Owner of the schema `public` that the database was made with.
    pub public_owner: Option<String>,
    /// There are schemas that somebody made.
    pub more_schemas: bool,
}

impl DatabaseRow {
    /// Whether a session can be had.
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
    /// Its oid, which is never given to another one in the life of a timeline.
    pub oid: u32,
    /// The database that it belongs to.
    pub database: String,
}

/// Something that a role to be deleted owns or holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dependency {
    /// The role.
    pub role: String,
    /// Where; none for what belongs to no database, such as databases themselves.
    pub database: Option<String>,
}

/// What is in the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// Such as 160002.
    pub server_version: u32,
    /// The setting in force.
    pub max_connections: usize,
    /// The database of the session that was asked.
    pub system_database: String,
    /// The role that everything is done as.
    pub session_role: String,
    /// By name.
    pub roles: HashMap<String, StoredPassword>,
    /// By name.
    pub databases: HashMap<String, DatabaseRow>,
    /// Schema `neon` in the system database.
    pub has_neon_schema: bool,
    /// Owner of that schema, if it is not a superuser: then the schema is not ours.
    pub neon_schema_of_others: Option<String>,
    /// A relation `public.health_check` in the system database, of any owner.
    pub has_health_check: bool,
    /// `pgaudit.log=none` is set for the database `postgres`.
    pub audit_silenced: bool,
    /// Those extensions of the system database that the program looks after.
    pub extensions: HashMap<String, ExtensionRow>,
    /// Default version of the `neon` extension, if the server's packages offer it.
    pub neon_default_version: Option<String>,
    /// All of the cluster.
    pub subscriptions: Vec<SubscriptionRow>,
    /// The timeline's inherited subscriptions were dropped; only if asked.
    pub subscriptions_done: bool,
    /// Those that an earlier, interrupted run on this timeline found; only if asked.
    pub subscriptions_todo: Option<Vec<u32>>,
    /// Of the roles that were asked about.
    pub dependencies: Vec<Dependency>,
    /// In Lakebase mode; not part of [`read`].
    pub lakebase: Option<LakebaseState>,
}

/// Reads what is there. One round trip; nothing is changed.
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
    /// PostgreSQL 14 is 14.
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
                // Not of one that was made between the two statements.
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
                // A list of numbers with blanks between them; a placeholder setting cannot be null.
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
