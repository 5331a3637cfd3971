//! Operations inside the databases: clean-up after deleted roles, privileges of the schema
//! `public`, subscriptions (05 §7.9).
//!
//! The snapshot is enough to plan what the shared catalogs show. Owner and default privileges of
//! the schema `public` are visible only inside the database: [`super::super::inspect`] reads them,
//! and [`plan_database`] returns the missing operations. No session is opened where [`outline`]
//! shows that none are missing.

use std::sync::Arc;

use super::super::snapshot::DatabaseRow;
use super::permissions::{ADMINS, Permissions};
use super::{Action, CatalogStep, Chain, ObjectKind, Operation, Planner, Spared, Stage, outline};
use crate::catalog::operation::Object;
use crate::secret::Secret;
use crate::sql::quote::{DollarQuoted, dollar_quoted, naming, role_in_block};
use crate::sql::shown;

/// `@ROLE@` is an expression, `@TAG@` the tag of the block around the statement.
const REVOKE: &str = include_str!("../sql/revoke_grants.sql");

/// A request to read the inside of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The owner that the spec wants.
    pub owner: String,
    /// The name of the database before the apply; `None` if it does not exist yet.
    pub before: Option<String>,
}

/// The state inside a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseState {
    /// Owner of the schema `public`; `None` if the schema does not exist.
    pub public_owner: Option<String>,
    /// Whether `web_access` may create objects in the schema.
    pub web_access: bool,
    /// Whether the privileged role gets all privileges on future tables.
    pub default_tables: bool,
    /// Whether it gets all privileges on future sequences.
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

/// The operations that a database of the spec still needs (05 §7.9b).
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
    // From 15 on the schema belongs to the owner of the database.
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
    /// Phase 9, in every listed database that needs operations or a look, and in every database
    /// with inherited subscriptions.
    pub(super) fn inside_databases(&mut self) -> Stage {
        let mut stage = Stage::new();
        let permissions = self.permissions();
        for database in self.wanted.databases() {
            let name = database.name.as_str();
            let connectable = self.state.databases.get(name).is_some_and(DatabaseRow::connectable);
            if !connectable {
                self.remarks.push(format!(
                    "nothing is done inside database {name:?}: it does not accept connections"
                ));
                continue;
            }
            let is_system = name == &*self.system;
            let first = if is_system { Vec::new() } else { self.clean_up(name, &database.owner) };
            let then = self.drop_inherited(name);
            // A look costs almost nothing where a session is needed anyway. In the system database
            // it also sees what the clean-up of this apply has changed.
            let has_session = is_system || !first.is_empty() || !then.is_empty();
            let needless = !has_session && self.is_settled(name, &permissions);
            let look =
                Look { owner: database.owner.clone(), before: self.before.get(name).cloned() };
            let look = if needless {
                self.spared.push(Spared { database: name.into(), look });
                None
            } else {
                Some(look)
            };
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

    /// Whether a look would find nothing to change. Outlines have the role names from before any
    /// rename.
    fn is_settled(&self, database: &str, permissions: &Permissions) -> bool {
        if self.wanted.look_everywhere {
            return false;
        }
        let renames = self.wanted.deltas("rename_role").next().is_some();
        let database = self.state.databases.get(database);
        let outline = database.and_then(|database| database.outline.as_ref());
        !renames && outline.is_some_and(|outline| outline::is_settled(outline, permissions))
    }

    /// Phase 9a in the system database, and for shared objects.
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

    /// Each role once, and only roles that exist.
    fn roles_to_delete(&self) -> Vec<&str> {
        let mut roles: Vec<&str> = Vec::new();
        for delta in self.wanted.deltas("delete_role") {
            if self.state.roles.contains_key(&delta.name) && !roles.contains(&delta.name.as_str()) {
                roles.push(&delta.name);
            }
        }
        roles
    }

    /// Whether a role owns or holds anything in a database; `None` stands for shared objects.
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

    /// Remarks on roles that Postgres will refuse to drop.
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
                         which the spec does not list or which does not accept connections"
                    ));
                }
            }
        }
        self.remarks.extend(remarks);
    }
}
