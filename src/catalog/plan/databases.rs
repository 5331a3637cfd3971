//! Databases: what interrupted drops left, deletion and renames, creation and owners (05 §7.3,
//! §7.6, §7.7).

use super::super::options::options;
use super::super::snapshot::DatabaseRow;
use super::refuse::PlanError;
use super::{Action, CatalogStep, Chain, ObjectKind, Operation, Planner, Stage};
use crate::spec::wire::Database;
use crate::sql::quote::{identifier, literal};
use crate::sql::{is_foreign, shown};

const DATABASE: ObjectKind = ObjectKind::Database;

/// How long a rename waits for sessions to end, in milliseconds. After that Postgres itself waits
/// another 5 s.
const END_OF_SESSIONS_MS: u32 = 5_000;

impl Planner<'_> {
    /// Phase 3. Phase 7 creates those that the spec lists again. Those with names that are not
    /// UTF-8 stay as they are.
    pub(super) fn invalid_databases(&mut self) -> Vec<Operation> {
        let databases = &self.state.databases;
        let mut invalid: Vec<String> = databases
            .iter()
            .filter(|(name, database)| database.invalid && !is_foreign(name))
            .map(|(name, _)| name.clone())
            .collect();
        invalid.sort_unstable();
        let mut operations = Vec::new();
        for name in invalid {
            self.forget_database(&name);
            operations.push(self.drop_database(
                CatalogStep::InvalidDatabases,
                &name,
                "a DROP DATABASE was interrupted",
                "",
            ));
        }
        operations
    }

    /// Phase 6, in the order of the list: one operation may free a name for another.
    pub(super) fn remove_databases(
        &mut self,
        overtaken: &[bool],
    ) -> Result<Vec<Operation>, PlanError> {
        let mut operations = Vec::new();
        for (delta, &overtaken) in self.wanted.all_deltas().iter().zip(overtaken) {
            let name = delta.name.as_str();
            match (delta.action.as_str(), &delta.new_name) {
                ("delete_db", _) if overtaken && self.is_there(name) => self.keep_database(name),
                ("delete_db", _) => self.delete_database(name, &mut operations),
                ("rename_db", Some(new)) if self.is_there(name) && self.is_there(new) => {
                    self.skip_rename(name, new, overtaken)?;
                }
                ("rename_db", Some(new)) => self.rename_database(name, new, &mut operations),
                _ => {}
            }
        }
        Ok(operations)
    }

    fn is_there(&self, name: &str) -> bool {
        self.state.databases.contains_key(name)
    }

    fn keep_database(&mut self, name: &str) {
        self.remarks.push(format!(
            "database {name:?} is not deleted: it is the one that a later operation of the list has \
             renamed to {name:?} in an earlier run"
        ));
        self.unchanged(DATABASE, name);
    }

    /// Both names exist, which is how an earlier run of the same list may have left them (05 §6).
    /// After the rename the old name was given to another database: by a later rename; or because
    /// the spec lists it; or by a user, in which case the spec lists the new name and not the old
    /// one. This last case looks like a rename that was never done because the new name was taken.
    /// A remark is better than a start that fails repeatedly although nothing is wrong. If the
    /// spec lists neither name, it is an error.
    fn skip_rename(&mut self, old: &str, new: &str, overtaken: bool) -> Result<(), PlanError> {
        if old != new && !overtaken {
            let listed = |name: &str| {
                self.wanted.spec.cluster.databases.iter().any(|listed| listed.name == name)
            };
            let Some(wanted) = [old, new].into_iter().find(|name| listed(name)) else {
                let (name, new_name) = (old.to_owned(), new.to_owned());
                return Err(PlanError::NameTaken { name, new_name });
            };
            self.remarks.push(format!(
                "database {old:?} is not renamed to {new:?}: there are databases of both names, and \
                 the spec lists {wanted:?}"
            ));
        }
        self.unchanged(DATABASE, old);
        Ok(())
    }

    fn delete_database(&mut self, name: &str, operations: &mut Vec<Operation>) {
        let Some(database) = self.forget_database(name) else {
            return self.unchanged(DATABASE, name);
        };
        if database.template {
            let sql = format!("ALTER DATABASE {} IS_TEMPLATE false", identifier(name));
            operations.push(self.op(
                CatalogStep::RemoveDatabases,
                Action::Release,
                (DATABASE, name),
                "templates cannot be dropped",
                sql,
            ));
        }
        let drop = self.drop_database(
            CatalogStep::RemoveDatabases,
            name,
            "delta operation",
            " WITH (FORCE)",
        );
        operations.push(drop);
    }

    /// Drops a database and everything in it.
    fn forget_database(&mut self, name: &str) -> Option<DatabaseRow> {
        self.state.dependencies.retain(|held| held.database.as_deref() != Some(name));
        self.state.subscriptions.retain(|subscription| subscription.database != name);
        self.before.remove(name);
        self.state.databases.remove(name)
    }

    fn drop_database(&self, phase: CatalogStep, name: &str, reason: &str, how: &str) -> Operation {
        let sql = format!("DROP DATABASE IF EXISTS {}{how}", identifier(name));
        Operation { alone: true, ..self.op(phase, Action::Drop, (DATABASE, name), reason, sql) }
    }

    /// A second run does not find the old name, which is not an error. Postgres refuses to rename
    /// a database with sessions, so they are ended first.
    fn rename_database(&mut self, old: &str, new: &str, operations: &mut Vec<Operation>) {
        let Some(database) = self.state.databases.remove(old) else {
            return self.unchanged(DATABASE, old);
        };
        self.state.databases.insert(new.to_owned(), database);
        if let Some(before) = self.before.remove(old) {
            self.before.insert(new.to_owned(), before);
        }
        for held in &mut self.state.dependencies {
            if held.database.as_deref() == Some(old) {
                held.database = Some(new.to_owned());
            }
        }
        for subscription in &mut self.state.subscriptions {
            if subscription.database == old {
                new.clone_into(&mut subscription.database);
            }
        }
        let end = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid, {END_OF_SESSIONS_MS}) \
             FROM pg_catalog.pg_stat_activity \
             WHERE datname OPERATOR(pg_catalog.=) {} \
             AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()",
            literal(old)
        );
        let rename = format!("ALTER DATABASE {} RENAME TO {}", identifier(old), identifier(new));
        let (phase, object) = (CatalogStep::RemoveDatabases, (DATABASE, old));
        operations.extend([
            self.op(phase, Action::EndSessions, object, "it is going to be renamed", end),
            self.op(phase, Action::Rename, object, format!("delta operation, to {new:?}"), rename),
        ]);
    }

    /// Phase 7. One message changes the owners of existing databases; each new database is a chain
    /// of its own. A copy of another database of the spec is created after that database.
    pub(super) fn databases(&mut self) -> Result<Vec<Stage>, PlanError> {
        let (mut owners, mut stage, mut copies) = (Vec::new(), Stage::new(), Vec::new());
        for database in self.wanted.databases() {
            if !self.state.roles.contains_key(&database.owner) {
                let (database, owner) = (database.name.clone(), database.owner.clone());
                return Err(PlanError::NoSuchOwner { database, owner });
            }
            match self.state.databases.get(&database.name) {
                None if self.copies_listed(database) => {
                    copies.push(Chain::of(self.create_database(database)).into_iter().collect());
                }
                None => stage.extend(Chain::of(self.create_database(database))),
                Some(row) => {
                    let row = row.clone();
                    owners.extend(self.existing_database(database, &row));
                }
            }
            let row = self.state.databases.entry(database.name.clone()).or_default();
            if row.owner.replace(database.owner.clone()).as_ref() != Some(&database.owner) {
                row.outline = None;
            }
            row.default_acl = false;
        }
        stage.extend(Chain::of(owners));
        copies.insert(0, stage);
        Ok(copies)
    }

    /// Whether the template of a database is another database of the spec.
    fn copies_listed(&self, database: &Database) -> bool {
        let options = database.options.as_deref().unwrap_or_default();
        let templates = options.iter().filter(|option| {
            option.name.split_whitespace().any(|word| word.eq_ignore_ascii_case("template"))
        });
        let mut names = templates.filter_map(|option| option.value.as_deref());
        names.any(|name| {
            let name = name.trim_matches('"');
            let mut listed = self.wanted.spec.cluster.databases.iter();
            listed.any(|database| database.name.eq_ignore_ascii_case(name))
        })
    }

    /// CREATE DATABASE cannot be part of a transaction. Owner and grant share one: so a database
    /// that still belongs to the session's role, with no privileges on it, is one whose creation
    /// was interrupted, and the next apply finishes it.
    fn create_database(&self, database: &Database) -> Vec<Operation> {
        let name = database.name.as_str();
        let options = options(database.options.as_deref());
        let sql = format!("CREATE DATABASE {} {options}", identifier(name));
        let create =
            self.op(CatalogStep::Databases, Action::Create, (DATABASE, name), "not there", sql);
        let mut operations = vec![Operation { alone: true, ..create }];
        if database.owner != *self.role {
            operations.push(self.change_owner(database, "it is new"));
        }
        operations.push(self.grant_on(name, "it is new"));
        operations
    }

    fn existing_database(&mut self, database: &Database, row: &DatabaseRow) -> Vec<Operation> {
        let name = database.name.as_str();
        let mut operations = Vec::new();
        if row.owner.as_ref() != Some(&database.owner) {
            let reason = match &row.owner {
                Some(owner) => format!("its owner is {:?}", shown(owner)),
                None => "it has no owner".to_owned(),
            };
            operations.push(self.change_owner(database, reason));
        }
        let interrupted =
            row.default_acl && !row.initial && row.owner.as_deref() == Some(&*self.role);
        if interrupted {
            operations.push(self.grant_on(name, "its creation was interrupted"));
        }
        if operations.is_empty() {
            self.unchanged(DATABASE, name);
        }
        operations
    }

    fn change_owner(&self, database: &Database, reason: impl Into<String>) -> Operation {
        let Database { name, owner, .. } = database;
        let sql = format!("ALTER DATABASE {} OWNER TO {}", identifier(name), identifier(owner));
        self.op(CatalogStep::Databases, Action::ChangeOwner, (DATABASE, name), reason, sql)
    }

    /// Used only when the database is created.
    fn grant_on(&self, name: &str, reason: &str) -> Operation {
        let sql = format!(
            "GRANT ALL PRIVILEGES ON DATABASE {} TO {}",
            identifier(name),
            identifier(self.wanted.privileged_role)
        );
        self.op(CatalogStep::Databases, Action::Grant, (DATABASE, name), reason, sql)
    }
}
