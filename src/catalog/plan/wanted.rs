//! What the catalog should say, as far as the plan reads it from the spec.

use std::collections::HashMap;

use super::super::snapshot::Questions;
use crate::spec::ComputeSpec;
use crate::spec::wire::{Database, DeltaOperation, Role};

/// What the catalog should say.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Roles, databases, delta operations, audit level.
    pub spec: &'a ComputeSpec,
    /// The timeline of the compute, as 32 lower-case digits.
    pub timeline: &'a str,
    /// `--privileged-role-name`.
    pub privileged_role: &'a str,
    /// Look into every database, whatever the shared catalogs show (05 §7.9b).
    pub look_everywhere: bool,
}

impl<'a> Wanted<'a> {
    /// The questions that the snapshot must answer for this spec.
    pub fn questions(&self) -> Questions<'a> {
        // A role may be renamed first and then deleted by its new name.
        let deltas = self.deltas("delete_role").chain(self.deltas("rename_role"));
        let inside = !self.spec.cluster.databases.is_empty();
        Questions {
            privileged_role: inside.then_some(self.privileged_role),
            deleted_roles: deltas.map(|delta| delta.name.as_str()).collect(),
            timeline: self.spec.drop_subscriptions_before_start.then(|| self.timeline.to_owned()),
        }
    }

    /// The last of several entries with one name counts.
    pub(super) fn roles(&self) -> Vec<&'a Role> {
        last_of_each(&self.spec.cluster.roles, |role| &role.name)
    }

    /// The last of several entries with one name counts.
    pub(super) fn databases(&self) -> Vec<&'a Database> {
        last_of_each(&self.spec.cluster.databases, |database| &database.name)
    }

    pub(super) fn all_deltas(&self) -> &'a [DeltaOperation] {
        self.spec.delta_operations.as_deref().unwrap_or_default()
    }

    pub(super) fn deltas(
        &self,
        action: &'static str,
    ) -> impl Iterator<Item = &'a DeltaOperation> + use<'a> {
        self.all_deltas().iter().filter(move |delta| delta.action == action)
    }
}

fn last_of_each<T>(list: &[T], name: impl Fn(&T) -> &str) -> Vec<&T> {
    let last: HashMap<&str, usize> =
        list.iter().enumerate().map(|(at, item)| (name(item), at)).collect();
    let is_last = |at: usize, item: &T| last.get(name(item)) == Some(&at);
    let kept = list.iter().enumerate().filter(|(at, item)| is_last(*at, item));
    kept.map(|(_, item)| item).collect()
}
