//! Inside the databases: cleaning up after roles that go away, privileges of the schema `public`,
//! subscriptions (05 §7.9).
//!
//! What the shared catalogs tell is planned by the snapshot. Owner and default privileges of the
//! schema `public` can only be seen from within: [`super::super::inspect`] looks, [`plan_database`]
//! says what is missing. Where nothing is, as far as [`outline`] can tell, no session is opened.

use std::sync::Arc;

use super::super::snapshot::DatabaseRow;
use super::permissions::{ADMINS, Permissions};
use super::{Action, CatalogStep, Chain, ObjectKind, Operation, Planner, Stage, outline};
use crate::catalog::operation::Object;
use crate::secret::Secret;
use crate::sql::quote::{DollarQuoted, dollar_quoted, naming, role_in_block};
use crate::sql::shown;

/// `@ROLE@` is an expression, `@TAG@` the tag of the block around it.
const REVOKE: &str = include_str!("../sql/revoke_grants.sql");

/// What has to be known about the inside of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The owner that the spec wants.
    pub owner: String,
    /// The name that the database has before the apply; none if it is not there yet.
    pub before: Option<String>,
}

/// The inside of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseState {
    /// Owner of the schema `public`; none if there is no such schema.
    pub public_owner: Option<String>,
    /// `web_access` may create objects in it.
    pub web_access: bool,
    /// The privileged role gets everything on tables to come.
    pub default_tables: bool,
    /// The same for sequences.
    pub default_sequences: bool,
}

impl DatabaseState {
    /// A database as `template1` usually makes it.
    pub fn fresh(permissions: &Permissions) -> Self {
        let owner = if permissions.major >= 15 {
            "pg_database_owner"
        } else {
            permissions.session_role.as_ref()
        };
        Self { public_owner: Some(owner.to_owned()), ..Self::default() }
    }
}

/// 05 §7.9b: what is missing in a database of the spec.
pub fn plan_database(
    database: &Arc<str>,
    look: &Look,
    permissions: &Permissions,
    state: &DatabaseState,
) -> Vec<Operation> {
    let op = |action, reason: String, sql: String| Operation {
        phase: CatalogStep::InsideDatabases,
        action,
        object: Object::new(ObjectKind::Schema, "public"),
        database: Arc::clone(database),
        role: Arc::clone(&permissions.session_role),
        reason,
        sql: Secret::new(sql),
        alone: false,
    };
    let Some(owner) = &state.public_owner else { return Vec::new() };
    let mut operations = Vec::new();
    // From 15 on it belongs to whoever owns the database.
    if ADMINS.contains(&owner.as_str()) && *owner != look.owner {
        let sql = naming("ALTER SCHEMA public OWNER TO %I", &[&look.owner]);
        operations.push(op(Action::ChangeOwner, format!("its owner is {owner:?}"), sql));
    }
    if permissions.web_access && !state.web_access {
        let sql = "GRANT CREATE ON SCHEMA public TO web_access".to_owned();
        operations.push(op(Action::Grant, "there is a role web_access".to_owned(), sql));
    }
    for (kind, done) in [("TABLES", state.default_tables), ("SEQUENCES", state.default_sequences)] {
        if !done {
            let sql = format!(
                "ALTER DEFAULT PRIVILEGES IN SCHEMA public \
                 GRANT ALL ON {kind} TO %I WITH GRANT OPTION"
            );
            let sql = naming(&sql, &[&permissions.privileged_role]);
            let reason = format!("missing on {}", kind.to_lowercase());
            operations.push(op(Action::GrantDefaults, reason, sql));
        }
    }
    operations
}

impl Planner<'_> {
    /// Phase 9 in every listed database where there is something to do or to find out, and wherever
    /// inherited subscriptions are.
    pub(super) fn inside_databases(&mut self) -> Stage {
        let mut stage = Stage::new();
        let permissions = self.permissions();
        for database in self.wanted.databases() {
            let name = database.name.as_str();
            let connectable = self.state.databases.get(name).is_some_and(DatabaseRow::connectable);
            if !connectable {
                self.remarks.push(format!(
                    "nothing is done inside database {name:?}: nobody can connect to it"
                ));
                continue;
            }
            let is_system = name == &*self.system;
            let first = if is_system { Vec::new() } else { self.clean_up(name, &database.owner) };
            let then = self.drop_inherited(name);
            // A look costs next to nothing where there is a session anyway; in the system database
            // it also finds what the cleaning up before this has changed.
            let has_session = is_system || !first.is_empty() || !then.is_empty();
            let needless = !has_session && self.is_settled(name, &permissions);
            let look =
                Look { owner: database.owner.clone(), before: self.before.get(name).cloned() };
            let look = (!needless).then_some(look);
            stage.push(Chain { database: name.into(), first, look, then });
        }
        for name in self.databases_with_inherited() {
            let listed = stage.iter().any(|chain| *chain.database == *name);
            let connectable = self.state.databases.get(&name).is_some_and(DatabaseRow::connectable);
            if !listed && connectable {
                stage.extend(Chain::of(self.drop_inherited(&name)));
            }
        }
        self.remark_on_unreachable_dependencies(&stage);
        stage.retain(|chain| !chain.is_empty());
        stage
    }

    /// Whether a look would find nothing to do. Names in outlines are those from before any rename.
    fn is_settled(&self, database: &str, permissions: &Permissions) -> bool {
        let renames = self.wanted.deltas("rename_role").next().is_some();
        let database = self.state.databases.get(database);
        let outline = database.and_then(|database| database.outline.as_ref());
        !renames && outline.is_some_and(|outline| outline::is_settled(outline, permissions))
    }

    /// Phase 9a in the system database, and for what belongs to no database at all.
    pub(super) fn clean_up_system(&self) -> Vec<Operation> {
        let system = Arc::clone(&self.system);
        let mut operations = Vec::new();
        for role in self.roles_to_delete() {
            if self.holds(role, None) || self.holds(role, Some(&system)) {
                operations.extend(self.clean_up_role(&system, role, &self.role));
            }
        }
        operations
    }

    /// Phase 9a in one database.
    fn clean_up(&self, database: &str, owner: &str) -> Vec<Operation> {
        let roles = self.roles_to_delete().into_iter();
        roles
            .filter(|role| *role != owner && self.holds(role, Some(database)))
            .flat_map(|role| self.clean_up_role(database, role, owner))
            .collect()
    }

    /// Once each, and only those that there are.
    fn roles_to_delete(&self) -> Vec<&str> {
        let mut roles: Vec<&str> = Vec::new();
        for delta in self.wanted.deltas("delete_role") {
            if self.state.roles.contains_key(&delta.name) && !roles.contains(&delta.name.as_str()) {
                roles.push(&delta.name);
            }
        }
        roles
    }

    /// Whether a role owns or holds anything there; `None` is what belongs to no database.
    fn holds(&self, role: &str, database: Option<&str>) -> bool {
        let mut dependencies = self.state.dependencies.iter();
        dependencies.any(|held| held.role == role && held.database.as_deref() == database)
    }

    fn clean_up_role(&self, database: &str, role: &str, heir: &str) -> [Operation; 3] {
        let DollarQuoted { outer_tag, .. } = dollar_quoted(role);
        let revoke = REVOKE.replace("@TAG@", &outer_tag).replace("@ROLE@", &role_in_block(role));
        [
            (Action::Reassign, naming("REASSIGN OWNED BY %I TO %I", &[role, heir])),
            (Action::Revoke, revoke),
            (Action::DropOwned, naming("DROP OWNED BY %I", &[role])),
        ]
        .map(|(action, sql)| {
            let (phase, object) = (CatalogStep::InsideDatabases, (ObjectKind::Role, role));
            let reason = "it is going to be dropped";
            let operation = self.op(phase, action, object, reason, sql);
            Operation { database: database.into(), ..operation }
        })
    }

    /// Postgres will refuse to drop such a role, and say why in its own words.
    fn remark_on_unreachable_dependencies(&mut self, stage: &Stage) {
        let mut remarks = Vec::new();
        for role in self.roles_to_delete() {
            for held in self.state.dependencies.iter().filter(|held| held.role == role) {
                let Some(database) = held.database.as_deref() else { continue };
                let reached = *database == *self.system
                    || stage.iter().any(|chain| *chain.database == *database);
                if !reached {
                    let database = shown(database);
                    remarks.push(format!(
                        "role {role:?} owns something or holds privileges in database {database:?}, \
                         which the spec does not list or nobody can connect to"
                    ));
                }
            }
        }
        self.remarks.extend(remarks);
    }
}
