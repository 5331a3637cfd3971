//! Databases that no task of this process has looked into: applies have judged them from outside
//! (05 §7.9b). Each is looked into once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::catalog::apply::Unseen;
use crate::catalog::plan::{Permissions, Spared};

/// The databases, and how many tasks work on them.
#[derive(Debug, Default)]
pub struct UnseenDatabases(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    seen: HashSet<Arc<str>>,
    waiting: VecDeque<Spared>,
    permissions: Permissions,
    /// Number of the apply that they come from.
    apply: u64,
    workers: usize,
}

/// One database to look into.
#[derive(Debug, Clone)]
pub struct ToSee {
    /// The database.
    pub spared: Spared,
    /// What it is compared with.
    pub permissions: Permissions,
    apply: u64,
}

impl UnseenDatabases {
    /// Takes what an apply has left unseen, in place of what the one before it left.
    pub fn replace(&self, unseen: Unseen) {
        let mut looks = self.0.lock();
        let Unseen { seen, spared, permissions } = unseen;
        looks.seen.extend(seen);
        let new = spared.into_iter().filter(|spared| !looks.seen.contains(&spared.database));
        looks.waiting = new.collect();
        looks.permissions = permissions;
        looks.apply = looks.apply.wrapping_add(1);
    }

    /// How many more workers there is work for, with at most `most` of them. Each must call
    /// [`Self::next`] until there is no more.
    pub fn hire(&self, most: usize) -> usize {
        let mut looks = self.0.lock();
        let more = looks.waiting.len().min(most).saturating_sub(looks.workers);
        looks.workers = looks.workers.saturating_add(more);
        more
    }

    /// The next database. On `None` the worker must end.
    pub fn next(&self) -> Option<ToSee> {
        let mut looks = self.0.lock();
        let Some(spared) = looks.waiting.pop_front() else {
            looks.workers = looks.workers.saturating_sub(1);
            return None;
        };
        Some(ToSee { spared, permissions: looks.permissions.clone(), apply: looks.apply })
    }

    /// Whether no later apply has come: it may want something else.
    pub fn is_current(&self, to_see: &ToSee) -> bool {
        self.0.lock().apply == to_see.apply
    }

    /// Notes that it was looked into.
    pub fn see(&self, to_see: &ToSee) {
        self.0.lock().seen.insert(Arc::clone(&to_see.spared.database));
    }

    /// Leaves the others to the next apply.
    pub fn give_up(&self) {
        self.0.lock().waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::plan::Look;

    fn unseen(names: &[&str]) -> Unseen {
        let spared = |name: &&str| Spared {
            database: Arc::from(*name),
            look: Look { owner: "ann".to_owned(), before: None },
        };
        Unseen { spared: names.iter().map(spared).collect(), ..Unseen::default() }
    }

    #[test]
    fn each_is_seen_once() {
        let databases = UnseenDatabases::default();
        databases.replace(unseen(&["a", "b", "c"]));
        assert_eq!((databases.hire(2), databases.hire(2)), (2, 0));
        let a = databases.next().unwrap();
        databases.see(&a);
        databases.replace(unseen(&["a", "b", "d"]));
        assert!(!databases.is_current(&a));
        assert_eq!(databases.hire(2), 0, "both are at work");
        let names =
            std::iter::from_fn(|| databases.next()).map(|it| it.spared.database.to_string());
        assert_eq!(names.collect::<Vec<_>>(), ["b", "d"]);
        assert!(databases.next().is_none());
        databases.replace(unseen(&["a", "b"]));
        assert_eq!(databases.hire(2), 1, "b was not seen, and both workers have ended");
        databases.give_up();
        assert!(databases.next().is_none());
        databases.replace(Unseen { seen: vec!["e".into()], ..unseen(&["b", "e"]) });
        assert_eq!(databases.hire(2), 1, "an apply has looked into e");
    }
}
