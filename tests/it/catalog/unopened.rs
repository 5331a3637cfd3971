//! An apply opens a session only in databases that the outline cannot judge from outside (05
//! §7.9b). Whatever customers change inside one, the next apply repairs it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::{Compute, check, delta, rename, running_for_catalog};
use crate::support::server::on_every_server;

/// The sessions and operations of one apply.
#[derive(Debug, PartialEq, Eq)]
struct Applied {
    /// Databases in which it had sessions, without the main one.
    opened: BTreeSet<String>,
    /// Database of the session, action, object; sorted.
    operations: Vec<String>,
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

/// Applies the spec of the bed; the server's log tells which databases it connected to.
async fn apply(compute: &Compute, bed: &Bed) -> Applied {
    let before = compute.log().len();
    compute.apply(bed).await;
    let report = compute.get("/status").await.1["extra"]["apply_report"].take();
    let mut operations: Vec<String> = report["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            format!(
                "{}: {} {}",
                word(&it["database"]),
                word(&it["action"]),
                word(&it["object"]["name"])
            )
        })
        .collect();
    operations.sort();
    // Lines that the server wrote before this one are in the log once this one is.
    let mark = format!("mark {before}");
    let mut config: tokio_postgres::Config = compute.connstr.parse().unwrap();
    drop(config.application_name(&mark).connect(tokio_postgres::NoTls).await.unwrap());
    let mark = format!("application_name={mark}");
    until("the mark is in the log", || async { compute.count_in_log(&mark) > 0 }).await;
    let log = compute.log();
    let opened = log[before..].lines().filter_map(|line| {
        let (_, line) = line.split_once("connection authorized: ")?;
        let (database, name) = line.split_once("database=")?.1.split_once(" application_name=")?;
        let ours = name.starts_with("compute_ctl:apply_config") && database != "postgres";
        ours.then(|| database.to_owned())
    });
    Applied { opened: opened.collect(), operations }
}

/// `ann` has no more rights than any customer.
async fn as_ann(compute: &Compute, database: &str, sql: &str) {
    let session = compute.session_in(database).await;
    for sql in ["SET SESSION AUTHORIZATION ann", sql] {
        session.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// A compute with a customer and databases of hers, as an apply leaves them.
async fn with_databases(bed: &mut Bed, databases: &[&str]) -> Compute {
    bed.spec.set("log_connections", "on");
    let compute = running_for_catalog(bed).await;
    bed.spec.role("ann", None).role("bob", None);
    for database in databases {
        bed.spec.database(database, "ann");
    }
    let first = apply(&compute, bed).await;
    assert_eq!(first.opened, names(databases));
    nothing_opened(&compute, bed).await;
    compute
}

async fn nothing_opened(compute: &Compute, bed: &Bed) {
    let nothing = Applied { opened: BTreeSet::new(), operations: Vec::new() };
    assert_eq!(apply(compute, bed).await, nothing);
}

/// A change that a user makes inside a database.
struct Deviation {
    database: &'static str,
    by_customer: bool,
    sql: &'static str,
    /// Actions of the next apply in that database.
    repaired_by: &'static [&'static str],
    /// Whether the next apply must open the database.
    opened: bool,
    /// Whether the apply after that must open it.
    opened_again: bool,
}

const DEFAULTS: &[&str] = &["grant_defaults", "grant_defaults"];

const DEVIATIONS: [Deviation; 12] = [
    Deviation {
        database: "dropped",
        by_customer: true,
        sql: "DROP SCHEMA public CASCADE",
        repaired_by: &[],
        opened: true,
        opened_again: true,
    },
    Deviation {
        database: "made_anew",
        by_customer: true,
        sql: "DROP SCHEMA public CASCADE; CREATE SCHEMA public",
        repaired_by: DEFAULTS,
        opened: true,
        opened_again: true,
    },
    Deviation {
        database: "swapped",
        by_customer: true,
        sql: "ALTER SCHEMA public RENAME TO old; CREATE SCHEMA public",
        repaired_by: DEFAULTS,
        opened: true,
        opened_again: true,
    },
    Deviation {
        database: "replaced",
        by_customer: true,
        sql: "CREATE SCHEMA next; DROP SCHEMA public; ALTER SCHEMA next RENAME TO public",
        repaired_by: DEFAULTS,
        opened: true,
        opened_again: true,
    },
    Deviation {
        database: "renamed",
        by_customer: true,
        sql: "ALTER SCHEMA public RENAME TO old",
        repaired_by: &[],
        opened: false,
        opened_again: false,
    },
    Deviation {
        database: "given_away",
        by_customer: true,
        sql: "ALTER SCHEMA public OWNER TO neon_superuser",
        repaired_by: &[],
        opened: false,
        opened_again: false,
    },
    Deviation {
        database: "further_schema",
        by_customer: true,
        sql: "CREATE SCHEMA app",
        repaired_by: &[],
        opened: true,
        opened_again: true,
    },
    Deviation {
        database: "defaults_dropped",
        by_customer: true,
        sql: "DROP OWNED BY neon_superuser",
        repaired_by: DEFAULTS,
        opened: true,
        opened_again: false,
    },
    Deviation {
        database: "defaults_of_ann",
        by_customer: true,
        sql: "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO neon_superuser; \
              ALTER DEFAULT PRIVILEGES GRANT SELECT ON SEQUENCES TO neon_superuser",
        repaired_by: &[],
        opened: false,
        opened_again: false,
    },
    // Her grants do not count as the compute's.
    Deviation {
        database: "defaults_in_place",
        by_customer: true,
        sql: "DROP OWNED BY neon_superuser; \
              ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO neon_superuser; \
              ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO neon_superuser",
        repaired_by: DEFAULTS,
        opened: true,
        opened_again: false,
    },
    // The grantors of these are not known.
    Deviation {
        database: "defaults_of_pg",
        by_customer: true,
        sql: "ALTER DEFAULT PRIVILEGES FOR ROLE pg_read_all_data IN SCHEMA public \
              GRANT SELECT ON TABLES TO neon_superuser",
        repaired_by: &[],
        opened: true,
        opened_again: true,
    },
    Deviation {
        database: "half",
        by_customer: false,
        sql: "ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM neon_superuser",
        repaired_by: &["grant_defaults"],
        opened: true,
        opened_again: false,
    },
];

#[tokio::test]
async fn what_is_done_inside_is_noticed() {
    on_every_server(|server| async {
        let major = server.major;
        let mut bed = Bed::new(server).await;
        let databases: Vec<&str> = DEVIATIONS.iter().map(|it| it.database).collect();
        let mut compute = with_databases(&mut bed, &[&databases[..], &["admins"]].concat()).await;
        for it in &DEVIATIONS {
            if it.by_customer {
                as_ann(&compute, it.database, it.sql).await;
            } else {
                compute.run_in(it.database, it.sql).await;
            }
        }
        // From 15 on nothing outside the database distinguishes the superuser from
        // `pg_database_owner`.
        let back = major == 14;
        if back {
            compute.run_in("admins", "ALTER SCHEMA public OWNER TO cloud_admin").await;
        }
        let admins = back.then(|| "admins: change_owner public".to_owned());
        let repairs = DEVIATIONS.iter().flat_map(|it| {
            it.repaired_by.iter().map(|action| format!("{}: {action} public", it.database))
        });
        let mut operations: Vec<String> = repairs.chain(admins).collect();
        operations.sort();
        let opened = DEVIATIONS.iter().filter(|it| it.opened).map(|it| it.database);
        let opened: Vec<&str> = opened.chain(back.then_some("admins")).collect();

        let config = bed.write("check.json", &bed.configure_body()).display().to_string();
        let plan = check(&["-c", &config, "--plan", "--connstr", &compute.connstr]).await;
        let told = format!("{} operations, ", operations.len());
        assert!(plan.good().contains(&told), "no {told:?} in {}", plan.stdout);
        assert_eq!(apply(&compute, &bed).await, Applied { opened: names(&opened), operations });

        let opened = DEVIATIONS.iter().filter(|it| it.opened_again).map(|it| it.database);
        let opened = opened.map(str::to_owned).collect();
        assert_eq!(apply(&compute, &bed).await, Applied { opened, operations: Vec::new() });
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Other names, other owners, copies, and deleted roles.
#[tokio::test]
async fn databases_change_and_are_not_opened_without_need() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = with_databases(&mut bed, &["one", "two", "three"]).await;
        // Done by a customer and reported to the control plane.
        as_ann(&compute, "postgres", "ALTER DATABASE one RENAME TO uno").await;
        as_ann(&compute, "postgres", "CREATE DATABASE copy TEMPLATE two").await;
        bed.spec.databases.clear();
        for database in ["uno", "two", "three", "copy"] {
            bed.spec.database(database, "ann");
        }
        nothing_opened(&compute, &bed).await;

        bed.spec.databases.clear();
        bed.spec.database("uno", "ann").database("dos", "ann").database("three", "bob");
        bed.spec.database("four", "ann");
        bed.spec.member("delta_operations", json!([rename("rename_db", "two", "dos")]));
        let expected = Applied {
            // One with another owner, and a new one.
            opened: names(&["four", "three"]),
            operations: [
                "four: grant_defaults public",
                "four: grant_defaults public",
                "postgres: change_owner four",
                "postgres: change_owner three",
                "postgres: create four",
                "postgres: end_sessions two",
                "postgres: grant four",
                "postgres: rename two",
            ]
            .map(str::to_owned)
            .into(),
        };
        let mut applied = apply(&compute, &bed).await;
        // 14 gives `public` to the owner of a new database.
        applied.operations.retain(|it| it != "four: change_owner public");
        assert_eq!(applied, expected);
        nothing_opened(&compute, &bed).await;

        compute.run("CREATE ROLE g").await;
        compute.run_in("uno", "CREATE TABLE public.t (); ALTER TABLE public.t OWNER TO g").await;
        bed.spec.member("delta_operations", json!([delta("delete_role", "g")]));
        let expected = Applied {
            opened: names(&["uno"]),
            operations: [
                "postgres: drop g",
                "uno: drop_owned g",
                "uno: reassign g",
                "uno: revoke g",
            ]
            .map(str::to_owned)
            .into(),
        };
        assert_eq!(apply(&compute, &bed).await, expected);
        nothing_opened(&compute, &bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn what_web_access_may_do_is_looked_at() {
    on_every_server(|server| async {
        let major = server.major;
        let mut bed = Bed::new(server).await;
        let mut compute = with_databases(&mut bed, &["one", "two"]).await;
        compute.run("CREATE ROLE web_access").await;
        if major == 14 {
            nothing_opened(&compute, &bed).await;
        } else {
            let looked_into = |operations: &[&str]| Applied {
                opened: names(&["one", "two"]),
                operations: operations.iter().map(|&it| it.to_owned()).collect(),
            };
            let both = looked_into(&["one: grant public", "two: grant public"]);
            assert_eq!(apply(&compute, &bed).await, both);
            assert_eq!(apply(&compute, &bed).await, looked_into(&[]));
            let less = "REVOKE CREATE ON SCHEMA public FROM web_access; \
                GRANT USAGE ON SCHEMA public TO web_access";
            as_ann(&compute, "two", less).await;
            assert_eq!(apply(&compute, &bed).await, looked_into(&["two: grant public"]));
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
