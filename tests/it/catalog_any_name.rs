//! Any name that Postgres accepts, for roles and for databases (05 §10, §16): made, found again by a
//! second apply, renamed, deleted. [`super::catalog_names`] has the names that are known to be hard.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::support::{
    Bed, Compute, assert_nothing_left, delta, on_every_server, rename, running_for_catalog,
};

/// Specs on one server, and roles and databases in each: a database takes as long as twenty names.
const SPECS: usize = 2;
const NAMES: usize = 12;
const LONGEST: usize = 63;

/// What means something to SQL, to dollar quotes, to access control lists, to a shell, to a URL.
const HOSTILE: &str = "'\"\\$`;%@#&=+-*/|:,.(){}[]<>?!~^_ \t\n\rxE";
const WORDS: [&str; 14] = [
    "$x$", "xx$", "''", "\"\"", "'; --", "/*", "%20", "%s", "select", "--", "E'\\'", "@ROLE@",
    "@TAG@", "é",
];

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(HOSTILE.chars().collect::<Vec<_>>()).prop_map(String::from),
        2 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned),
        2 => prop::char::range('!', '~').prop_map(String::from),
        // All but 0, which Postgres cannot store.
        2 => prop::char::range('\u{1}', char::MAX).prop_map(String::from),
    ]
}

/// One in four is as long as can be.
fn name() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(piece(), 1..16);
    (pieces, prop::bool::weighted(0.25)).prop_map(|(pieces, full)| {
        let text = pieces.concat();
        let mut name = String::new();
        for c in if full { text.repeat(LONGEST) } else { text }.chars() {
            if name.len() + c.len_utf8() > LONGEST {
                break;
            }
            name.push(c);
        }
        name
    })
}

/// What Postgres, or the compute itself, keeps for itself.
fn is_free(name: &str) -> bool {
    let taken = ["public", "none", "cloud_admin", "neon_superuser", "web_access", "postgres"];
    !taken.contains(&name) && !name.starts_with("pg_") && !name.starts_with("template")
}

/// Old and new names of so many things, all different.
fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    let free = name().prop_filter("reserved", |name| is_free(name));
    prop::collection::hash_set(free, 2 * NAMES).prop_map(|names| {
        let names: Vec<String> = names.into_iter().collect();
        let (old, new) = names.split_at(NAMES);
        old.iter().cloned().zip(new.iter().cloned()).collect()
    })
}

/// Databases of users, by name, with their owners.
async fn databases(compute: &Compute) -> BTreeMap<String, String> {
    let session = compute.sql().await;
    let sql = "SELECT datname::text, pg_get_userbyid(datdba)::text FROM pg_database \
        WHERE oid >= 16384";
    let rows = session.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn roles(compute: &Compute) -> BTreeSet<String> {
    let rows = compute.rows("SELECT rolname FROM pg_roles WHERE oid >= 16384").await;
    rows.into_iter().filter(|name| name != "neon_superuser").collect()
}

fn set<'a>(names: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    names.cloned().collect()
}

/// Names, and what they become.
type Renames = Vec<(String, String)>;

async fn lives(
    compute: &mut Compute,
    bed: &mut Bed,
    (roles_of, databases_of): &(Renames, Renames),
) {
    let both = || databases_of.iter().zip(roles_of);
    bed.spec.member("delta_operations", json!([]));
    for ((database, _), (role, _)) in both() {
        bed.spec.role(role, None).database(database, role);
    }
    compute.apply(bed).await;
    assert_eq!(roles(compute).await, set(roles_of.iter().map(|(old, _)| old)));
    let old = both().map(|((database, _), (role, _))| (database.clone(), role.clone()));
    assert_eq!(databases(compute).await, old.collect());
    compute.apply_changes_nothing(bed).await;

    bed.spec.roles.clear();
    bed.spec.databases.clear();
    let of_databases = databases_of.iter().map(|(old, new)| rename("rename_db", old, new));
    let of_roles = roles_of.iter().map(|(old, new)| rename("rename_role", old, new));
    bed.spec.member("delta_operations", of_databases.chain(of_roles).collect());
    for ((_, database), (_, role)) in both() {
        bed.spec.role(role, None).database(database, role);
    }
    compute.apply(bed).await;
    assert_eq!(roles(compute).await, set(roles_of.iter().map(|(_, new)| new)));
    let new = both().map(|((_, database), (_, role))| (database.clone(), role.clone()));
    assert_eq!(databases(compute).await, new.collect());
    compute.apply_changes_nothing(bed).await;

    bed.spec.roles.clear();
    bed.spec.databases.clear();
    let of_databases = databases_of.iter().map(|(_, new)| delta("delete_db", new));
    let of_roles = roles_of.iter().map(|(_, new)| delta("delete_role", new));
    bed.spec.member("delta_operations", of_databases.chain(of_roles).collect());
    compute.apply(bed).await;
    assert_eq!(roles(compute).await, BTreeSet::new());
    assert_eq!(databases(compute).await, BTreeMap::new());
    compute.apply_changes_nothing(bed).await;
}

/// Nothing is shrunk: after a failed apply the compute takes no other spec. The names are printed.
#[tokio::test]
async fn any_name_lives_and_dies() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        let mut runner = TestRunner::default();
        for _ in 0..SPECS {
            let names = (pairs(), pairs()).new_tree(&mut runner).unwrap().current();
            println!("roles and databases, from and to: {names:?}");
            lives(&mut compute, &mut bed, &names).await;
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
