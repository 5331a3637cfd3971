//! Names that break SQL without quotes (05 §21 no. 11): created as roles and as databases, found
//! again by a second apply, renamed, deleted.

use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{delta, rename, running_for_catalog};
use crate::support::server::{on_every_server, on_one_server};

fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        " leading and trailing ",
        "tab\tand\nline feed",
        "%20%s%I",
        "#&=?/",
        "🐘 émoji",
        "it's 'quoted'",
        "\"quoted\"",
        "back\\slash\\",
        "'; SELECT pg_sleep(1000); --",
        "name$",
        "name$$",
        "name$x$",
        "x",
        "xx",
        "$x",
        "x$",
        "$x$",
        "xx$",
        "$xx",
        "$xx$",
        "$block$",
        "select",
        "--help",
        "host=nowhere",
        "@ROLE@",
    ]
    .map(str::to_owned)
    .into();
    names.push("x".repeat(63));
    // 63 bytes, the last character of which has several.
    names.push(format!("y{}", "é".repeat(31)));
    names
}

async fn made_renamed_and_deleted(mut bed: Bed, drop_subscriptions: bool) {
    let names = names();
    let mut compute = running_for_catalog(&mut bed).await;
    bed.spec.member("drop_subscriptions_before_start", json!(drop_subscriptions));
    bed.spec.member("reconfigure_concurrency", json!(4));
    for name in &names {
        bed.spec.role(name, None).database(name, name);
    }
    compute.apply(&bed).await;
    let all = "SELECT datname FROM pg_database \
        WHERE datname = pg_get_userbyid(datdba) AND datname <> 'cloud_admin'";
    let mut seen = compute.rows(all).await;
    seen.sort();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(seen, expected);
    compute.apply_changes_nothing(&bed).await;

    // Each role owns or holds something that makes a plain DROP ROLE fail.
    for name in &names {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let sql = format!(
            "CREATE TABLE public.t (); GRANT SELECT ON public.t TO neon_superuser WITH GRANT OPTION; \
             SET ROLE neon_superuser; GRANT SELECT ON public.t TO {quoted}"
        );
        compute.run_in(name, &sql).await;
    }
    let renamed = |name: &str| match name.len() {
        ..60 => format!("{name}'$\""),
        _ => format!("z{}", name.chars().skip(1).collect::<String>()),
    };
    bed.spec.roles.clear();
    bed.spec.databases.clear();
    let renames = names.iter().flat_map(|name| {
        ["rename_db", "rename_role"].map(|action| rename(action, name, &renamed(name)))
    });
    bed.spec.member("delta_operations", renames.collect());
    for name in names.iter().map(|name| renamed(name)) {
        bed.spec.role(&name, None).database(&name, &name);
    }
    compute.apply(&bed).await;
    compute.apply_changes_nothing(&bed).await;
    assert_eq!(compute.rows(all).await.len(), names.len());

    // The roles first, with their databases still there.
    for database in &mut bed.spec.databases {
        database["owner"] = json!("cloud_admin");
    }
    bed.spec.roles.clear();
    let deleted = names.iter().map(|name| delta("delete_role", &renamed(name)));
    bed.spec.member("delta_operations", deleted.collect());
    compute.apply(&bed).await;
    let roles = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'";
    let mut roles = compute.rows(roles).await;
    roles.sort();
    assert_eq!(roles, ["cloud_admin", "neon_superuser"]);
    bed.spec.databases.clear();
    let deleted = names.iter().map(|name| delta("delete_db", &renamed(name)));
    bed.spec.member("delta_operations", deleted.collect());
    compute.apply(&bed).await;
    compute.apply_changes_nothing(&bed).await;
    let databases = "SELECT count(*) FROM pg_database";
    assert_eq!(compute.rows(databases).await, ["3"]);
    compute.end().await;
    assert_nothing_left(&bed);
}

#[tokio::test]
async fn names_that_break_what_is_not_quoted() {
    on_every_server(|server| async {
        made_renamed_and_deleted(Bed::new(server).await, false).await;
    })
    .await;
}

#[tokio::test]
async fn the_same_when_subscriptions_are_dropped() {
    on_one_server(|server| async {
        made_renamed_and_deleted(Bed::new(server).await, true).await;
    })
    .await;
}
