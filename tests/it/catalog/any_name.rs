//! Any name that Postgres accepts, for roles and for databases (05 §10, §16): created, found again
//! by a second apply, renamed, deleted. [`super::names`] has the names that are known to be hard.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, delta, rename, running_for_catalog};
use crate::support::server::on_one_server;

/// Specs per server, and roles and databases per spec: a database takes as long as twenty names.
const SPECS: usize = 2;
const NAMES: usize = 12;
const LONGEST: usize = 63;

/// Characters with a meaning in SQL, dollar quotes, access control lists, a shell or a URL.
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
        // All characters but 0, which Postgres cannot store.
        2 => prop::char::range('\u{1}', char::MAX).prop_map(String::from),
    ]
}

/// One name in four has the maximum length.
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

/// Names that are reserved by Postgres or by the compute.
fn is_free(name: &str) -> bool {
    let taken = ["public", "none", "cloud_admin", "neon_superuser", "web_access", "postgres"];
    !taken.contains(&name) && !name.starts_with("pg_") && !name.starts_with("template")
}

/// Old and new names.
type Pairs = Vec<(String, String)>;

/// Pairs of names that are all different.
fn pairs() -> impl Strategy<Value = Pairs> {
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

/// Applies a spec with exactly these databases and their owners, twice.
async fn becomes(compute: &mut Compute, bed: &mut Bed, wanted: BTreeMap<String, String>) {
    bed.spec.roles.clear();
    bed.spec.databases.clear();
    for (database, owner) in &wanted {
        bed.spec.role(owner, None).database(database, owner);
    }
    compute.apply(bed).await;
    assert_eq!(roles(compute).await, wanted.values().cloned().collect());
    assert_eq!(databases(compute).await, wanted);
    compute.apply_changes_nothing(bed).await;
}

async fn lives(compute: &mut Compute, bed: &mut Bed, of_roles: &Pairs, of_databases: &Pairs) {
    let both = || of_databases.iter().zip(of_roles);
    let old = both().map(|((database, _), (role, _))| (database.clone(), role.clone())).collect();
    bed.spec.member("delta_operations", json!([]));
    becomes(compute, bed, old).await;

    let renames = of_databases.iter().map(|(old, new)| rename("rename_db", old, new));
    let renames = renames.chain(of_roles.iter().map(|(old, new)| rename("rename_role", old, new)));
    bed.spec.member("delta_operations", renames.collect());
    let new = both().map(|((_, database), (_, role))| (database.clone(), role.clone())).collect();
    becomes(compute, bed, new).await;

    let deleted = of_databases.iter().map(|(_, new)| delta("delete_db", new));
    let deleted = deleted.chain(of_roles.iter().map(|(_, new)| delta("delete_role", new)));
    bed.spec.member("delta_operations", deleted.collect());
    becomes(compute, bed, BTreeMap::new()).await;
}

/// Inputs are not shrunk: after a failed apply the compute takes no other spec. The names are
/// printed.
#[tokio::test]
async fn any_name_lives_and_dies() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        let mut runner = TestRunner::default();
        for _ in 0..SPECS {
            let (roles, databases) = (pairs(), pairs()).new_tree(&mut runner).unwrap().current();
            println!("from and to: roles {roles:?}, databases {databases:?}");
            lives(&mut compute, &mut bed, &roles, &databases).await;
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
