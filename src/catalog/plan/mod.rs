//! Computes the operations that bring the catalog to what the spec says (05 §6, §7). Pure.
//!
//! [`plan_cluster`] compares the spec with the [`ClusterState`] and simulates each change on it,
//! so that later phases see the effects of earlier ones. Work that depends on the inside of a
//! database becomes a [`Look`], unless the outline shows that the database needs no changes: the
//! execution reads the database in its turn, and [`plan_database`] returns the missing operations.
//! Both functions plan only differences, so a second apply of the same spec writes nothing.
//!
//! [`Stage`]s give the order of effects: each begins when the one before it is done. The
//! [`Chain`]s of one stage run at the same time.

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
use super::options::without_value;
use super::snapshot::ClusterState;
use crate::secret::Secret;
use crate::spec::wire::PgOption;
use crate::sql::{is_foreign, shown};
pub use inside::{DatabaseState, Look, plan_database};
pub use permissions::Permissions;
pub use refuse::PlanError;
pub(crate) use refuse::check_document;
pub use wanted::Wanted;

/// The operations of one session in one database, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The session's database.
    pub database: Arc<str>,
    /// Operations that the snapshot is enough to plan.
    pub first: Vec<Operation>,
    /// Read the inside of the database, and add the operations it needs.
    pub look: Option<Look>,
    /// Operations after those of the look.
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

/// A database that the apply has judged from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spared {
    /// Its name.
    pub database: Arc<str>,
    /// The look that was spared.
    pub look: Look,
}

/// The operations of one apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterPlan {
    /// Run one after the other; an error ends the apply with its stage.
    pub stages: Vec<Stage>,
    /// Input of [`plan_database`].
    pub permissions: Permissions,
    /// Databases that no session is opened in: what the shared catalogs do not show stays unseen.
    pub spared: Vec<Spared>,
    /// Objects of the spec that need no change.
    pub unchanged: Vec<Object>,
    /// Parts of the spec that the server cannot do and the plan omits, as sentences.
    pub notes: Vec<String>,
    /// Documented behaviour that looks like a mistake in the spec, as sentences.
    pub remarks: Vec<String>,
}

impl ClusterPlan {
    /// The operations of the plan in order, without those of looks.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        let chains = self.stages.iter().flatten();
        chains.flat_map(|chain| chain.first.iter().chain(&chain.then))
    }
}

/// Compares spec and cluster. An error means that the spec cannot be applied; nothing was changed.
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
    // The system session cleans up shared objects once: Postgres refuses concurrent changes to one
    // shared row, so the sessions of other databases must not do it (05 §19.2 item 7).
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
    let Planner { spared, unchanged, notes, remarks, .. } = planner;
    Ok(ClusterPlan { stages, permissions, spared, unchanged, notes, remarks })
}

/// A sentence for each option that is left out.
fn options_without_value(wanted: &Wanted<'_>) -> Vec<String> {
    let sentences = |kind: &str, owner: &str, options: Option<&[PgOption]>| {
        let sentence = |option: &str| {
            format!("option {option:?} of {kind} {owner:?} has no value and is left out")
        };
        without_value(options).map(sentence).collect::<Vec<_>>()
    };
    let (roles, databases) = (wanted.roles(), wanted.databases());
    let roles = roles.iter().flat_map(|it| sentences("role", &it.name, it.options.as_deref()));
    let databases = databases.iter();
    let databases = databases.flat_map(|it| sentences("database", &it.name, it.options.as_deref()));
    roles.chain(databases).collect()
}

/// How many names of each kind a remark shows.
const SHOWN: usize = 10;

/// One sentence about all roles and databases whose names are not UTF-8: a spec cannot name them.
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

/// Splits operations into stages. Consecutive operations that fit into a transaction share a
/// chain. Consecutive ones that must be sent alone do not depend on each other and get a chain
/// each.
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
    /// The state after all operations planned so far.
    state: ClusterState,
    role: Arc<str>,
    system: Arc<str>,
    /// Databases that exist before the apply, by the name after all operations planned so far,
    /// with the current name.
    before: HashMap<String, String>,
    /// Inherited subscriptions to drop; none when they were dropped already, or the spec does not
    /// ask for it.
    inherited: Option<Vec<u32>>,
    spared: Vec<Spared>,
    unchanged: Vec<Object>,
    notes: Vec<String>,
    remarks: Vec<String>,
}

impl<'a> Planner<'a> {
    fn new(wanted: &Wanted<'a>, state: ClusterState) -> Self {
        let remarks =
            foreign_names(&state).into_iter().chain(options_without_value(wanted)).collect();
        let (role, system) =
            (state.session_role.as_str().into(), state.system_database.as_str().into());
        Self {
            wanted: *wanted,
            before: state.databases.keys().map(|name| (name.clone(), name.clone())).collect(),
            state,
            role,
            system,
            inherited: None,
            spared: Vec::new(),
            unchanged: Vec::new(),
            notes: Vec::new(),
            remarks,
        }
    }

    /// Builds an operation in the system database.
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
