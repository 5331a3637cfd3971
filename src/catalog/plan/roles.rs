//! Roles: the privileged one, renames, creation and passwords, deletion (05 §7.2, §7.4, §7.5,
//! §7.13).

use std::collections::HashSet;

use super::super::options::role_options;
use super::super::passwords::{is_stored, password_text, remark};
use super::super::snapshot::StoredPassword;
use super::{Action, CatalogStep, ObjectKind, Operation, Planner};
use crate::secret::Secret;
use crate::spec::wire::Role;
use crate::sql::quote::identifier;

const ROLE: ObjectKind = ObjectKind::Role;

impl Planner<'_> {
    /// Phase 2. An existing role is left to the migrations.
    pub(super) fn privileged_role(&mut self) -> Vec<Operation> {
        let name = self.wanted.privileged_role;
        if self.state.roles.contains_key(name) {
            self.unchanged(ROLE, name);
            return Vec::new();
        }
        self.state.roles.insert(name.to_owned(), StoredPassword::Known(None));
        let replication = if self.is_lakebase() { "" } else { " REPLICATION" };
        let sql = format!(
            "CREATE ROLE {} CREATEDB CREATEROLE NOLOGIN{replication} BYPASSRLS \
             IN ROLE pg_read_all_data, pg_write_all_data",
            identifier(name)
        );
        let reason = "users are its members";
        vec![self.op(CatalogStep::PrivilegedRole, Action::Create, (ROLE, name), reason, sql)]
    }

    /// Phase 4. If only the new name exists, an earlier run has done the rename.
    pub(super) fn rename_roles(&mut self) -> Vec<Operation> {
        let mut operations = Vec::new();
        for delta in self.wanted.deltas("rename_role") {
            // `refuse` has checked this before.
            let (old, Some(new)) = (&delta.name, &delta.new_name) else { continue };
            let is_there = |name| self.state.roles.contains_key(name);
            if old == new || (!is_there(old) && is_there(new)) {
                self.unchanged(ROLE, new);
            } else if !is_there(old) {
                self.remarks
                    .push(format!("role {old:?} is not there and so not renamed to {new:?}"));
            } else if is_there(new) {
                // Not an error, unlike a taken name of a database (05 §7.4).
                self.remarks.push(format!(
                    "role {old:?} is not renamed to {new:?}: there is a role of that name"
                ));
            } else {
                self.state.roles.remove(old);
                self.state.roles.insert(new.clone(), StoredPassword::Unknown);
                for database in self.state.databases.values_mut() {
                    if database.owner.as_ref() == Some(old) {
                        database.owner = Some(new.clone());
                    }
                }
                for held in &mut self.state.dependencies {
                    if held.role == *old {
                        held.role.clone_from(new);
                    }
                }
                let sql = format!("ALTER ROLE {} RENAME TO {}", identifier(old), identifier(new));
                let reason = format!("delta operation, to {new:?}");
                operations.push(self.op(
                    CatalogStep::RenameRoles,
                    Action::Rename,
                    (ROLE, old),
                    reason,
                    sql,
                ));
            }
        }
        operations
    }

    /// Phase 5.
    pub(super) fn roles(&mut self) -> Vec<Operation> {
        let jwt_roles = self.jwt_roles();
        let mut operations = Vec::new();
        for role in self.wanted.roles() {
            operations.extend(self.role(role, jwt_roles.contains(role.name.as_str())));
        }
        operations
    }

    /// Roles that the local proxy hands out are created without any rights.
    fn jwt_roles(&self) -> HashSet<String> {
        let config = self.wanted.spec.local_proxy_config.as_ref();
        let jwks = config.and_then(|config| config.jwks.as_deref()).unwrap_or_default();
        jwks.iter().flat_map(|jwks| jwks.role_names.iter().cloned()).collect()
    }

    /// An existing role gets no attributes beyond the spec's options: users create roles too, and
    /// such a role must not gain rights here.
    fn role(&mut self, role: &Role, jwt: bool) -> Option<Operation> {
        let name = role.name.as_str();
        let (options, quoted) = (role_options(role), identifier(name));
        // The remark is made even where the role needs no change: the spec is still wrong.
        self.remarks.extend(remark(role));
        let (action, reason, sql) = match self.state.roles.get(name) {
            // Compares the stored texts, so that an MD5 role equals itself (02 W10).
            Some(StoredPassword::Known(stored)) if is_stored(stored.as_ref(), role) => {
                self.unchanged(ROLE, name);
                return None;
            }
            Some(stored) => {
                let reason = match stored {
                    StoredPassword::Known(_) => "its password differs",
                    StoredPassword::Unknown => "a rename may have cleared its password",
                };
                (Action::Alter, reason, format!("ALTER ROLE {quoted} {options}"))
            }
            None if jwt => (
                Action::Create,
                "a role of the local proxy",
                format!("CREATE ROLE {quoted} {options}"),
            ),
            None => {
                let sql = format!(
                    "CREATE ROLE {quoted} INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION \
                     IN ROLE {} {options}",
                    identifier(self.wanted.privileged_role)
                );
                (Action::Create, "not there", sql)
            }
        };
        let password = password_text(role).map(Secret::new);
        self.state.roles.insert(name.to_owned(), StoredPassword::Known(password));
        Some(self.op(CatalogStep::Roles, action, (ROLE, name), reason, sql))
    }

    /// Phase 13. If the role still owns or holds something in a database that the apply must not
    /// touch, Postgres refuses, and its answer names the database.
    pub(super) fn drop_roles(&mut self) -> Vec<Operation> {
        let mut operations = Vec::new();
        for delta in self.wanted.deltas("delete_role") {
            let name = delta.name.as_str();
            if self.state.roles.remove(name).is_none() {
                self.unchanged(ROLE, name);
                continue;
            }
            let sql = format!("DROP ROLE IF EXISTS {}", identifier(name));
            operations.push(self.op(
                CatalogStep::DropRoles,
                Action::Drop,
                (ROLE, name),
                "delta operation",
                sql,
            ));
        }
        operations
    }
}
