//! What has to be done so that the catalog says what the spec says (05 §6, §7). Pure.
//!
//! [`plan_cluster`] compares the spec with the [`ClusterState`] and simulates each change on it, so
//! that later phases decide by what earlier ones will have done. What depends on the inside of a
//! database is left open as a [`Look`], unless `outline` can tell from without that all is well there:
//! the database is looked at when its turn comes, and [`plan_database`] says what is missing there.
//! Both write only what differs, so a second apply of the same spec writes nothing.
//!
//! The order of effects is in the [`Stage`]s: one begins when the one before it is done, and the
//! [`Chain`]s of one run at the same time.

mod databases;
mod inside;
mod lakebase;
mod outline;
mod permissions;
mod refuse;
mod repeated;
mod roles;
mod subscriptions;
mod system;
mod wanted;

use std::collections::HashMap;
use std::sync::Arc;

use super::operation::{Action, CatalogStep, Object, ObjectKind, Operation};
use super::snapshot::ClusterState;
use crate::secret::Secret;
use crate::sql::{is_foreign, shown};
pub use inside::{DatabaseState, Look, plan_database};
pub use permissions::Permissions;
pub use refuse::PlanError;
pub use wanted::Wanted;

/// What one session does in one database, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The session's database.
    pub database: Arc<str>,
    /// Known from the snapshot.
    pub first: Vec<Operation>,
    /// What the database itself has to tell before the rest is known.
    pub look: Option<Look>,
    /// After what the look asks for.
    pub then: Vec<Operation>,
}

impl Chain {
    fn of(operations: Vec<Operation>) -> Option<Self> {
        let database = Arc::clone(&operations.first()?.database);
        Some(Self { database, first: operations, look: None, then: Vec::new() })
    }

    const fn is_empty(&self) -> bool {
        self.first.is_empty() && self.look.is_none() && self.then.is_empty()
    }
}

/// Chains that may run at the same time.
pub type Stage = Vec<Chain>;

/// All that is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterPlan {
    /// One after the other; an error ends the apply with its stage.
    pub stages: Vec<Stage>,
    /// What [`plan_database`] needs to know.
    pub permissions: Permissions,
    /// Objects of the spec that are as they should be.
    pub unchanged: Vec<Object>,
    /// What is left out because the server cannot do it, as sentences.
    pub notes: Vec<String>,
    /// What is done, or not done, as documented but looks like a mistake, as sentences.
    pub remarks: Vec<String>,
}

impl ClusterPlan {
    /// The operations that the snapshot alone asks for, in order.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        let chains = self.stages.iter().flatten();
        chains.flat_map(|chain| chain.first.iter().chain(&chain.then))
    }
}

/// Compares spec and cluster. An error means that the spec cannot be applied as it is; nothing was
/// changed then.
pub fn plan_cluster(wanted: &Wanted<'_>, state: ClusterState) -> Result<ClusterPlan, PlanError> {
    refuse::check(wanted, &state)?;
    let mut planner = Planner::new(wanted, state);

    let remember = planner.remember_subscriptions();
    let overtaken = planner.overtaken();
    let pre_drop = planner.pre_drop(&overtaken);
    let mut line = planner.privileged_role();
    line.extend(planner.lakebase_roles());
    line.extend(planner.invalid_databases());
    line.extend(planner.rename_roles());
    line.extend(planner.roles());
    line.extend(planner.remove_databases(&overtaken)?);

    let mut stages: Vec<Stage> = Vec::new();
    if pre_drop.is_empty() {
        line.splice(0..0, remember);
    } else {
        stages.extend(in_order(remember));
        stages.push(pre_drop);
    }
    stages.extend(in_order(line));
    stages.extend(planner.databases()?);
    // Shared objects are cleaned up once, from here, so that the databases do not get into each
    // other's way: Postgres refuses concurrent changes to one shared row (05 §19.2 item 7).
    stages.extend(in_order(planner.clean_up_system()));
    let mut inside = planner.inside_databases();
    inside.extend(Chain::of(planner.system_objects()));
    stages.push(inside);
    stages.extend(in_order(planner.drop_roles()));
    stages.extend(in_order(planner.monitor_privileges()));
    stages.extend(in_order(planner.record_subscriptions()));
    stages.extend(in_order(planner.audit()));
    stages.retain(|stage| !stage.is_empty());
    let permissions = planner.permissions();
    let Planner { unchanged, notes, remarks, .. } = planner;
    Ok(ClusterPlan { stages, permissions, unchanged, notes, remarks })
}

/// How many names are shown, of each kind.
const SHOWN: usize = 10;

/// One sentence about all roles and databases whose names are not UTF-8: no spec can name them.
fn foreign_names(state: &ClusterState) -> Option<String> {
    let list = |kind, mut names: Vec<&String>| {
        names.retain(|name| is_foreign(name));
        names.sort_unstable();
        let first: Vec<&str> = names.iter().take(SHOWN).map(|name| shown(name)).collect();
        (!first.is_empty()).then(|| match names.len().saturating_sub(SHOWN) {
            0 => format!("{kind} {first:?}"),
            more => format!("{kind} {first:?} and {more} more"),
        })
    };
    let roles = list("roles", state.roles.keys().collect());
    let databases = list("databases", state.databases.keys().collect());
    let lists: Vec<String> = roles.into_iter().chain(databases).collect();
    (!lists.is_empty())
        .then(|| format!("left alone, because their names are not UTF-8: {}", lists.join(", ")))
}

/// Operations that must follow each other: what fits into a transaction stays together, what must
/// stand alone is as independent of its neighbours as databases are of each other.
fn in_order(operations: Vec<Operation>) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    let mut before = None;
    for operation in operations {
        let alone = operation.alone;
        match stages.last_mut() {
            Some(stage) if before == Some(alone) && alone => {
                stage.extend(Chain::of(vec![operation]))
            }
            Some(stage) if before == Some(alone) => {
                stage.iter_mut().take(1).for_each(|chain| chain.first.push(operation.clone()));
            }
            _ => stages.push(Chain::of(vec![operation]).into_iter().collect()),
        }
        before = Some(alone);
    }
    stages
}

/// The comparison in progress.
#[derive(Debug)]
struct Planner<'a> {
    wanted: Wanted<'a>,
    /// As it will be when everything planned so far is done.
    state: ClusterState,
    role: Arc<str>,
    system: Arc<str>,
    /// Databases that there are before the apply: the name that each will have when everything
    /// planned so far is done, and the one that it has now.
    before: HashMap<String, String>,
    /// Inherited subscriptions that are to be dropped; none when that is over or not wanted.
    inherited: Option<Vec<u32>>,
    unchanged: Vec<Object>,
    notes: Vec<String>,
    remarks: Vec<String>,
}

impl<'a> Planner<'a> {
    fn new(wanted: &Wanted<'a>, state: ClusterState) -> Self {
        let remarks = foreign_names(&state).into_iter().collect();
        let (role, system) =
            (state.session_role.as_str().into(), state.system_database.as_str().into());
        Self {
            wanted: *wanted,
            before: state.databases.keys().map(|name| (name.clone(), name.clone())).collect(),
            state,
            role,
            system,
            inherited: None,
            unchanged: Vec::new(),
            notes: Vec::new(),
            remarks,
        }
    }

    /// An operation in the system database.
    fn op(
        &self,
        phase: CatalogStep,
        action: Action,
        object: (ObjectKind, &str),
        reason: impl Into<String>,
        sql: String,
    ) -> Operation {
        Operation {
            phase,
            action,
            object: Object::new(object.0, object.1),
            database: Arc::clone(&self.system),
            role: Arc::clone(&self.role),
            reason: reason.into(),
            sql: Secret::new(sql),
            alone: false,
        }
    }

    fn unchanged(&mut self, kind: ObjectKind, name: &str) {
        self.unchanged.push(Object::new(kind, name));
    }

    fn permissions(&self) -> Permissions {
        Permissions {
            privileged_role: self.wanted.privileged_role.to_owned(),
            session_role: Arc::clone(&self.role),
            major: self.state.major(),
            web_access: self.state.major() >= 15 && self.state.roles.contains_key("web_access"),
        }
    }
}

#[cfg(test)]
mod tests;
