//! Statistics on installed extensions (07 §2).

use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, families, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const LINE: &str = "[NEON_EXT_STAT] ";

/// Number of databases that have an extension, by the label of its owner; `None` without a series.
async fn installed(compute: &Compute, name: &str) -> Option<(u64, String)> {
    let (_, text) = compute.get("/metrics").await;
    let families = families(text.as_str().unwrap());
    let family = families.iter().find(|it| it.name == "compute_installed_extensions")?;
    let sample = family.samples.iter().find(|it| it.labels["extension_name"] == name)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    Some((sample.value as u64, sample.labels["owned_by_superuser"].clone()))
}

/// The last line, as log pipelines read it: name, owner, databases.
fn last_line(compute: &Compute) -> Vec<(String, String, u64)> {
    let log = compute.log();
    let line = log.lines().rev().find_map(|line| line.split_once(LINE)).unwrap().1;
    let document: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let entries = document["extensions"].as_array().unwrap();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let entry = |it: &Value| {
        assert!(!text(it, "version").is_empty());
        (text(it, "extname"), text(it, "owned_by_superuser"), it["n_databases"].as_u64().unwrap())
    };
    entries.iter().map(entry).collect()
}

#[tokio::test]
async fn what_is_installed_where() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.without_autovacuum();
        // Seconds; the statistics wait twice as long.
        let mut compute = bed.start_with_args(&["--installed-extensions-collection-interval", "1"]);
        compute.wait_for("running").await;
        compute.wait_for_log("[NEON_EXT_SPAWN]").await;
        compute.wait_for_log("[NEON_EXT_INT_SLEEP]: Interval: 2").await;
        compute.wait_for_log(LINE).await;
        // `postgres` and `template1`.
        assert_eq!(installed(&compute, "plpgsql").await, Some((2, "1".to_owned())));
        assert_eq!(last_line(&compute), [("plpgsql".to_owned(), "1".to_owned(), 2)]);

        // Extensions of a user, in a database with a difficult name; a database that refuses
        // connections, and one left by an interrupted DROP DATABASE.
        compute.run("CREATE ROLE app LOGIN").await;
        for name in ["\"b'ar =x\"", "closed", "invalid"] {
            compute.run(&format!("CREATE DATABASE {name} OWNER app")).await;
        }
        let app = compute.session_of("app", "b'ar =x").await;
        app.batch_execute("CREATE EXTENSION hstore SCHEMA public").await.unwrap();
        drop(app);
        compute
            .run(
                "UPDATE pg_database SET datallowconn = false WHERE datname = 'closed'; \
                 UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'invalid'",
            )
            .await;
        until("it is seen", || async { installed(&compute, "hstore").await.is_some() }).await;
        assert_eq!(installed(&compute, "hstore").await, Some((1, "0".to_owned())));
        assert_eq!(installed(&compute, "plpgsql").await, Some((3, "1".to_owned())));

        // The program does not even try to connect to those two.
        let refused = |compute: &Compute| {
            compute.count_in_log("is not currently accepting connections")
                + compute.count_in_log("cannot connect to invalid database")
        };
        // The round in progress may have seen their old state.
        compute.wait_for_log_times(LINE, compute.count_in_log(LINE) + 1).await;
        let (before, lines) = (refused(&compute), compute.count_in_log(LINE));
        compute.wait_for_log_times(LINE, lines + 2).await;
        assert_eq!(refused(&compute), before, "{}", compute.log());

        // The series of dropped extensions disappear.
        compute.run("DROP DATABASE \"b'ar =x\" WITH (FORCE)").await;
        until("it is gone", || async { installed(&compute, "hstore").await.is_none() }).await;
        assert_eq!(installed(&compute, "plpgsql").await, Some((2, "1".to_owned())));
        let log = compute.log();
        assert!(!log.contains("extension statistics from database"), "{log}");
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// A database that cannot be visited does not change the numbers of others, and keeps its own.
#[tokio::test]
async fn one_bad_database() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_with_args(&["--installed-extensions-collection-interval", "1"]);
        compute.wait_for("running").await;
        compute.wait_for_log(LINE).await;
        compute.run("CREATE DATABASE broken").await;
        until("it is seen", || async { installed(&compute, "plpgsql").await.unwrap().0 == 3 })
            .await;
        compute
            .run_in(
                "broken",
                "SET allow_system_table_mods = on; ALTER TABLE pg_extension RENAME TO taken",
            )
            .await;
        compute.wait_for_log("no new extension statistics from database \"broken\": ").await;
        let lines = compute.count_in_log(LINE);
        compute.wait_for_log_times(LINE, lines + 1).await;
        assert_eq!(installed(&compute, "plpgsql").await, Some((3, "1".to_owned())));
        compute.run("DROP DATABASE broken WITH (FORCE)").await;
        until("it is gone", || async { installed(&compute, "plpgsql").await.unwrap().0 == 2 })
            .await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// The time after which a compute is suspended sets the pause, at a start that applies the catalog
/// and with each new spec; the pause only grows.
#[tokio::test]
async fn the_pause_follows_the_spec() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.member("suspend_timeout_seconds", json!(1));
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.wait_for_log("[NEON_EXT_INT_SLEEP]: Interval: 2").await;
        bed.spec.member("suspend_timeout_seconds", json!(3));
        compute.apply(&bed).await;
        compute.wait_for_log("[NEON_EXT_INT_SLEEP]: Interval: 6").await;
        bed.spec.member("suspend_timeout_seconds", json!(1));
        compute.apply(&bed).await;
        compute.wait_for_log_times("[NEON_EXT_INT_SLEEP]: Interval: 6", 2).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// A replica does not collect at its start, only at the intervals.
#[tokio::test]
async fn a_replica_waits_first() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.mode = json!("Replica");
        let mut compute = bed.start_with_args(&["--installed-extensions-collection-interval", "1"]);
        compute.wait_for("running").await;
        compute.wait_for_log(LINE).await;
        let log = compute.log();
        assert!(log.find("[NEON_EXT_INT_SLEEP]: Interval: 2") < log.find(LINE), "{log}");
        assert_eq!(installed(&compute, "plpgsql").await, Some((2, "1".to_owned())));
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
