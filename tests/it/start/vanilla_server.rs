//! A Postgres without Neon's parts: steps that need them are skipped with one line, or fail with an
//! error that says so.

use compute_ctl::dev::spec::SpecBuilder;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Marked;
use crate::support::server::{on_every_server, on_one_server};

/// The server itself, without the wrapper that knows `--sync-safekeepers`.
fn use_bare_server(bed: &mut Bed) {
    bed.pgbin = bed.server.program("postgres");
}

async fn error_of_failed_start(bed: &Bed) -> String {
    let mut compute = bed.start();
    let (status, _) = compute.wait_for_any(&["failed", "running"]).await;
    assert_eq!(status, "failed", "{}", compute.log());
    let (_, status) = compute.get("/status").await;
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    status["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_missing_preload_library_is_named() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        if bed.server_has_neon() {
            return println!("skipped: this server has the library");
        }
        let marked = Marked::put(&bed);
        for libraries in ["neon", "pg_stat_statements, neon"] {
            bed.spec.set("shared_preload_libraries", libraries);
            let error = error_of_failed_start(&bed).await;
            for part in ["shared_preload_libraries", "`neon`", "no such library", "--pgbin"] {
                assert!(error.contains(part), "no {part:?} in {error}");
            }
        }
        // The program did nothing for a start that cannot work.
        marked.assert_untouched();
        assert_eq!(bed.pageserver.journal().commands(), Vec::<String>::new());
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn safekeepers_that_need_a_sync_are_an_error() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        if bed.server_has_neon() {
            return println!("skipped: this server can sync");
        }
        use_bare_server(&mut bed);
        bed.safekeepers[0].behave(|safekeeper| safekeeper.commit_lsn -= 8);
        let error = error_of_failed_start(&bed).await;
        let program = bed.pgbin.display().to_string();
        for part in ["failed to sync safekeepers", "--sync-safekeepers", "--pgbin", &program] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        assert_eq!(bed.pageserver.journal().commands(), Vec::<String>::new());
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn the_end_skips_the_sync_with_one_line() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        if bed.server_has_neon() {
            return println!("skipped: this server can sync");
        }
        use_bare_server(&mut bed);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let (code, answer) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!((code.as_u16(), &answer["lsn"]), (200, &Value::Null), "{answer}");
        assert!(answer.get("lsn").is_some(), "{answer}");
        assert_eq!(compute.wait_exit().await.code(), Some(0), "{}", compute.log());
        compute.assert_logged(": the safekeepers were not synced: ", 1).await;
        let log = compute.log();
        let line = log.lines().find(|line| line.contains("safekeepers were not synced")).unwrap();
        // The end belongs to the request.
        assert!(
            line.contains(" INFO HTTP{http.request.method=POST url.path=/terminate}: the"),
            "{line}"
        );
        compute.assert_logged("--sync-safekeepers", 1).await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// A start that fails for another reason is not blamed on the sync.
#[tokio::test]
async fn a_failed_start_ends_with_its_cause() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        if bed.server_has_neon() {
            return println!("skipped: this server can sync");
        }
        use_bare_server(&mut bed);
        bed.spec.set("no_such_setting", "1");
        let mut compute = bed.start();
        let error = compute.wait_for_failure().await;
        assert!(error.contains("no_such_setting"), "{error}");
        compute.dismiss().await;
        let log = compute.log();
        let skipped = "INFO the safekeepers will not be synced at the end: ";
        assert_eq!(log.matches(skipped).count(), 1, "{log}");
        let cause = log.find("could not start the compute node: ").unwrap();
        assert!(log.find(skipped).unwrap() < cause, "{log}");
        assert!(!log.contains("--sync-safekeepers"), "{log}");
        assert_eq!(log.matches("ERROR").count(), 1, "{log}");
        assert_nothing_left(&bed);
    })
    .await;
}

const SCRAM: &str = "SCRAM-SHA-256$4096:lydLg2iQKcvKsNhnvZkVcA==$\
    1nsqRxUj5Rf6Of9Rs6BpPsSgTHtSTRtLcTDYpmvsiAo=:kUyg6WXqRIVC+zCgXRzKzy7Ei/FfDSxHM3RZNiwZYeo=";

fn roles_and_databases(spec: &mut SpecBuilder) {
    spec.skip_pg_catalog_updates = false;
    spec.role("ann", Some(SCRAM)).role("o'hara \"x\"", None).database("store", "ann");
    let database = json!({"name": "quo\"te d", "owner": "o'hara \"x\"", "options": null});
    spec.databases.push(database);
}

/// Roles and databases of the spec, after a first start and after another one on the same data.
#[tokio::test]
async fn roles_and_databases_without_the_extension() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        let vanilla = !bed.server_has_neon();
        roles_and_databases(&mut bed.spec);
        for start in 1..=2 {
            let mut compute = bed.start();
            compute.wait_for("running").await;
            for (query, expected) in [
                ("SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'", SCRAM),
                ("SELECT rolpassword FROM pg_authid WHERE rolname = 'o''hara \"x\"'", "NULL"),
                ("SELECT rolsuper::text FROM pg_authid WHERE rolname = 'ann'", "false"),
                ("SELECT datdba::regrole::text FROM pg_database WHERE datname = 'store'", "ann"),
                (
                    "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'quo\"te d'",
                    "o'hara \"x\"",
                ),
                ("SELECT count(*) FROM pg_roles WHERE rolname = 'neon_superuser'", "1"),
            ] {
                assert_eq!(compute.sql_text(query).await, expected, "start {start}: {query}");
            }
            // Reported once, and not discovered by a statement that fails.
            let log = compute.settled_log().await;
            let lines = log.matches("has no `neon` extension").count();
            assert_eq!(lines, usize::from(vanilla), "{}", compute.log());
            assert_eq!(compute.count_in_log("ERROR"), 0, "{}", compute.log());
            assert!(!compute.log().contains(SCRAM), "a verifier is in the log");

            // The same spec again: nothing to do.
            let (code, answer) = compute.configure(&bed).await;
            assert_eq!((code.as_u16(), &answer["status"]), (200, &json!("running")), "{answer}");
            compute.wait_for_log("as the spec says, 0 statements").await;
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// With catalog updates skipped the extension is not looked up, and no role is created.
#[tokio::test]
async fn nothing_is_applied_when_updates_are_skipped() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        roles_and_databases(&mut bed.spec);
        bed.spec.skip_pg_catalog_updates = true;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let made = "SELECT count(*) FROM pg_roles WHERE rolname IN ('ann', 'neon_superuser')";
        assert_eq!(compute.sql_text(made).await, "0");
        assert_eq!(compute.count_in_log("has no `neon` extension"), 0);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
