//! Names that are not UTF-8: created in a database of another encoding, or cut within a character.
//! They stay unchanged and disturb nothing (public reports dbeaver#22100, pgadmin4#1794).

use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, families, until};
use crate::support::bed::Bed;
use crate::support::process::{Compute, check};
use crate::support::server::on_every_server;

/// A character of three bytes, which `EUC_JP` refuses.
const OWNER: &str = "名前";

/// Databases of a user, with their encodings.
const DATABASES: [(&str, &str); 3] =
    [("latin", "LATIN1"), ("ascii", "SQL_ASCII"), ("euc", "EUC_JP")];

fn names<'a>(objects: &'a Value, kind: &str) -> Vec<&'a str> {
    objects[kind].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

/// The number of databases that have an extension, with any owner.
async fn installed(compute: &Compute, name: &str) -> u64 {
    let (_, text) = compute.get("/metrics").await;
    let families = families(text.as_str().unwrap());
    let family = families.iter().find(|it| it.name == "compute_installed_extensions");
    let samples = family.into_iter().flat_map(|it| &it.samples);
    let of_it = samples.filter(|it| it.labels["extension_name"] == name);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    of_it.map(|it| it.value as u64).sum()
}

/// Objects that an ordinary user can create, and a few more.
async fn make_names(compute: &Compute) {
    for (database, encoding) in DATABASES {
        compute
            .run(&format!(
                "CREATE DATABASE {database} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' \
                 TEMPLATE template0 OWNER ann"
            ))
            .await;
    }
    // The server converts: one byte for the last letter of each name.
    compute.run_in("latin", "CREATE ROLE \"josé\" LOGIN SUPERUSER").await;
    compute.run_in("latin", "CREATE SCHEMA \"caché\" AUTHORIZATION \"josé\"").await;
    compute.run_in("latin", "SET ROLE \"josé\"; CREATE EXTENSION hstore SCHEMA public").await;
    compute.run_in("latin", "CREATE DATABASE \"café\" TEMPLATE latin OWNER \"josé\"").await;
    compute.run_in("euc", "CREATE ROLE \"日本\" IN ROLE neon_superuser").await;
    compute.run_in("euc", "ALTER SCHEMA public OWNER TO cloud_admin").await;
    // Cut after 63 bytes, within the last character.
    let long = format!("{}é", "x".repeat(62));
    let session = compute.session_in("ascii").await;
    // The notice about the cut has the same partial character in it.
    session.batch_execute("SET client_min_messages = error").await.unwrap();
    let sql = format!("CREATE ROLE \"{long}\"; CREATE SCHEMA \"{long}\"");
    session.batch_execute(&sql).await.unwrap();
}

async fn everything_works(compute: &Compute, bed: &mut Bed, role: &str) {
    let (code, objects) = compute.get("/dbs_and_roles").await;
    assert_eq!(code, 200, "{objects}");
    let roles = names(&objects, "roles");
    let cut = format!("{}\u{fffd}", "x".repeat(62));
    for name in ["jos\u{fffd}", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}", &cut, "ann"] {
        assert!(roles.contains(&name), "{name}: {roles:?}");
    }
    assert!(names(&objects, "databases").contains(&"caf\u{fffd}"), "{objects}");

    bed.spec.role(role, None);
    let before = compute.count_in_log("left alone, because their names are not UTF-8");
    compute.apply(bed).await;
    compute.assert_logged("left alone, because their names are not UTF-8", before + 1).await;

    for (database, _) in DATABASES {
        let (code, dump) = compute.get(&format!("/database_schema?database={database}")).await;
        // Not every server has a pg_dump.
        if dump["error"] == "failed to execute pg_dump" {
            compute.wait_for_log("/pg_dump: No such file").await;
        } else {
            assert_eq!(code, 200, "{database}: {dump}\n{}", compute.log());
        }
        for schema in ["public", "schéma"] {
            for role in ["ann", OWNER] {
                let body = json!({"database": database, "schema": schema,
                    "privileges": ["USAGE"], "role": role});
                let (code, answer) = compute.post_internal("/grants", &body).await;
                // The content of each database depends on its encoding.
                let known = schema == "public" || database != "euc";
                assert!(code == 201 || !known, "{body}: {answer}");
            }
        }
        let body = json!({"database": database, "extension": "citext", "version": "1.6"});
        let (code, answer) = compute.post_internal("/extensions", &body).await;
        assert_eq!(code, 201, "{database}: {answer}");
    }
}

#[tokio::test]
async fn they_are_left_alone() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        // The pause between two rounds of statistics follows it.
        bed.spec.member("suspend_timeout_seconds", json!(1));
        let mut compute = bed.start_with_args(&["--installed-extensions-collection-interval", "1"]);
        bed.wait_running(&mut compute).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", None).role(OWNER, None);
        bed.spec.database("store", "ann");
        compute.apply(&bed).await;
        make_names(&compute).await;
        for (database, _) in DATABASES {
            bed.spec.database(database, OWNER);
        }
        for database in ["latin", "ascii"] {
            compute.run_in(database, "CREATE SCHEMA \"schéma\"").await;
        }
        everything_works(&compute, &mut bed, "bob").await;
        compute.apply_changes_nothing(&bed).await;

        // The spec's owner is found by its bytes, although no client could write it in that
        // encoding.
        let owner = "SELECT pg_catalog.encode(pg_catalog.namesend(rolname), 'hex') FROM pg_roles r \
            JOIN pg_namespace n ON n.nspowner = r.oid WHERE nspname = 'public'";
        let session = compute.session_in("euc").await;
        session.batch_execute("SET client_encoding = 'SQL_ASCII'").await.unwrap();
        let row = session.query_one(owner, &[]).await.unwrap();
        let digits: String = OWNER.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(row.get::<_, String>(0), digits);
        drop(session);

        let path = bed.write("plan.json", &bed.spec.config()).display().to_string();
        let checked = check(&["-c", &path, "--plan", "--connstr", &bed.connstr()]).await;
        let plan = checked.good();
        assert!(plan.contains(" 0 operations, "), "{plan}");
        assert!(plan.contains("not UTF-8: roles ["), "{plan}");

        // The database that cannot be named has a copy.
        until("all are counted", || async {
            installed(&compute, "hstore").await == 2 && installed(&compute, "citext").await == 3
        })
        .await;
        let log = compute.log();
        assert!(!log.contains("extension statistics from database"), "{log}");
        compute.wait_for_looks(1).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
