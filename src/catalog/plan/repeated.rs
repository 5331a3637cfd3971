//! Delta operations on databases in a list that is applied again (05 §6, §7.6).
//!
//! A list stays in the spec after it was applied. By then a name in it may be that of another
//! database: after `delete_db b` and a rename of `a` to `b`, the database `b` is the former `a`,
//! and must not be deleted. Invariant: in a list whose renames all find their databases no
//! operation counts as overtaken, so a first run does what the list says.
//!
//! Names do not tell everything. If there never was an `a`, the `b` of the example stays, too:
//! that mistake loses no data. A list that gives a name away and takes it back, such as one that
//! swaps two names, finds the same names after a run as before it, and runs again; so does the
//! example when there is a new `a`.

use std::collections::HashSet;

use super::Planner;
use crate::spec::wire::DeltaOperation;

impl Planner<'_> {
    /// For each delta operation: whether an earlier run of the list has given its name to another
    /// database, by a later rename.
    pub(super) fn overtaken(&self) -> Vec<bool> {
        // The list runs after phase 3, which drops the databases that an interrupted DROP DATABASE
        // left.
        let there = self.state.databases.iter().filter(|(_, database)| !database.invalid);
        overtaken(self.wanted.all_deltas(), &there.map(|(name, _)| name.as_str()).collect())
    }
}

fn overtaken(deltas: &[DeltaOperation], there: &HashSet<&str>) -> Vec<bool> {
    // Names that may be taken when an operation runs. None is ever removed: a name that the list
    // itself makes free was not free before.
    let mut possible = there.clone();
    let may_find: Vec<bool> = deltas
        .iter()
        .map(|delta| {
            let found = possible.contains(delta.name.as_str());
            possible.extend(new_name(delta).filter(|_| found));
            found
        })
        .collect();
    // From the end, because a name may be passed on: of `b` to `c`, then `a` to `b`, the first was
    // done if the second was, although there is a `b`.
    let mut given = HashSet::new();
    let mut overtaken: Vec<bool> = deltas
        .iter()
        .zip(may_find)
        .rev()
        .map(|(delta, may_find)| {
            let overtaken = given.contains(delta.name.as_str());
            let done = overtaken || !may_find;
            given.extend(new_name(delta).filter(|new| done && there.contains(new)));
            overtaken
        })
        .collect();
    overtaken.reverse();
    overtaken
}

fn new_name(delta: &DeltaOperation) -> Option<&str> {
    delta.new_name.as_deref().filter(|_| delta.action == "rename_db")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-b` deletes, `a>b` renames. Returns the operations that are overtaken.
    fn of(list: &str, there: &str) -> String {
        let operations: Vec<&str> = list.split_whitespace().collect();
        let deltas: Vec<DeltaOperation> = operations
            .iter()
            .map(|operation| {
                let (action, name, new_name) = match operation.split_once('>') {
                    Some((old, new)) => ("rename_db", old, Some(new)),
                    None => ("delete_db", operation.trim_start_matches('-'), None),
                };
                serde_json::from_value(
                    serde_json::json!({"action": action, "name": name, "new_name": new_name}),
                )
                .unwrap()
            })
            .collect();
        let overtaken = overtaken(&deltas, &there.split_whitespace().collect());
        let found = operations.iter().zip(overtaken).filter(|(_, overtaken)| *overtaken);
        found.map(|(operation, _)| *operation).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_an_earlier_run_has_done() {
        assert_eq!(of("-b a>b", "b"), "-b");
        assert_eq!(of("b>c a>b", "b c"), "b>c");
        assert_eq!(of("c>d b>c a>b", "b c d"), "c>d b>c");
        assert_eq!(of("-c b>c a>b", "b c"), "-c b>c");
        assert_eq!(of("-b x>a a>b", "b"), "-b", "by way of another name");
    }

    #[test]
    fn what_is_still_to_be_done() {
        for (list, there) in [
            ("-b a>b", "a b"),
            ("-b a>b", "a"),
            ("-b", "b"),
            ("a>b -b", "b"),
            ("b>c a>b", "a b"),
            ("c>d b>c a>b", "a b c"),
            // The list frees the name that it takes afterwards.
            ("-b x>a a>b", "x b"),
            ("-b -a a>b", "a b"),
            ("a>x -b a>b", "a b"),
            // No database has that name, so none was given it.
            ("z>b b>c a>b", "z c"),
        ] {
            assert_eq!(of(list, there), "", "{list} on {there}");
        }
    }
}
