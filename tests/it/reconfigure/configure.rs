//! `/configure` of a running compute (01 §13, 03 §6.1).

use serde_json::json;

use nix::sys::signal::Signal;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

async fn configure(bed: &Bed, compute: &Compute) -> (u16, serde_json::Value) {
    let (code, body) = compute.configure(bed).await;
    (code.as_u16(), body)
}

/// New sessions and existing ones see the change.
async fn until_shown(compute: &Compute, setting: &str, value: &str) {
    let show = format!("SHOW {setting}");
    let shown = || async { compute.sql_text(&show).await == value };
    until(&format!("{setting} is {value}"), shown).await;
}

const RELOAD: &str = "received SIGHUP";

#[tokio::test]
async fn with_skip_it_is_one_rewrite_and_one_reload() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let postmaster = compute.postmaster();
        let requests = bed.pageserver.journal().connections();
        let asked = bed.safekeepers[0].journal().connections();
        let reloaded = compute.count_in_log(RELOAD);

        bed.spec.typed("work_mem", "7168", "integer");
        bed.spec.role("nobody_makes_me", None);
        let (code, status) = configure(&bed, &compute).await;
        assert_eq!((code, &status["status"]), (200, &json!("running")), "{status}");
        // The answer comes when Postgres has loaded the file, so the test need not wait.
        assert_eq!(compute.sql_text("SHOW work_mem").await, "7MB");
        assert_eq!(compute.postmaster(), postmaster);
        assert_eq!(bed.pageserver.journal().connections(), requests);
        assert_eq!(bed.safekeepers[0].journal().connections(), asked);
        assert_eq!(bed.wrapper.calls().unwrap(), []);
        compute.assert_logged(RELOAD, reloaded + 1).await;
        let made = "SELECT count(*) FROM pg_roles WHERE rolname = 'nobody_makes_me'";
        assert_eq!(compute.sql_text(made).await, "0");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn without_skip_the_catalog_follows() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let postmaster = compute.postmaster();
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", None).database("store", "ann");
        bed.spec.typed("work_mem", "8192", "integer");
        // Twice: the second time nothing is left to do.
        for _ in 0..2 {
            let (code, body) = configure(&bed, &compute).await;
            assert_eq!(code, 200, "{body}\n{}", compute.log());
            let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'store'";
            assert_eq!(compute.sql_text(owner).await, "ann");
            until_shown(&compute, "work_mem", "8MB").await;
        }
        assert_eq!(compute.postmaster(), postmaster);
        assert_eq!(bed.pgdata_text("compute_ctl_temp_override.conf"), "", "the limit is back");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_failure_says_why_and_leaves_postgres_serving() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let postmaster = compute.postmaster();
        let (conf, work_mem) = (bed.pgdata_text("postgresql.conf"), "SHOW work_mem");
        let before = compute.sql_text(work_mem).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.database("store", "nobody").typed("work_mem", "7168", "integer");
        let (code, body) = configure(&bed, &compute).await;
        let error = body["error"].as_str().unwrap();
        assert_eq!(code, 500, "{body}");
        assert!(error.starts_with("compute configuration failed: \""), "{error}");
        // The old configuration is in force again when the answer comes.
        assert_eq!(bed.pgdata_text("postgresql.conf"), conf);
        assert_eq!(compute.sql_text(work_mem).await, before);
        for part in [
            "phase apply_catalog",
            "the configuration before it is in force",
            "database",
            "store",
            "role \\\"nobody\\\" does not exist",
        ] {
            assert!(error.contains(part), "{error}");
        }
        let (_, status) = compute.get("/status").await;
        assert_eq!(status["status"], "failed");
        assert!(status["error"].as_str().unwrap().contains("role \"nobody\""), "{status}");
        assert_eq!(compute.sql_text("SELECT 40 + 2").await, "42");
        assert_eq!(compute.postmaster(), postmaster);
        assert_eq!(bed.pgdata_text("compute_ctl_temp_override.conf"), "", "the limit is back");

        let (code, body) = configure(&bed, &compute).await;
        assert_eq!((code, body), (412, json!({"error": "invalid compute status: failed"})));
        // The good file of the start leads back to `running`.
        compute.refresh().await;
        compute.wait_for_any(&["running"]).await;
        let (code, body) = configure(&bed, &compute).await;
        assert_eq!(code, 500, "accepted again: {body}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Postgres dies during a reconfiguration: the client gets an answer, the compute ends (01 §24 no.
/// 3).
#[tokio::test]
async fn postgres_dies_during_it() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        // Statements on roles wait for this lock, and so does the request.
        let session = compute.sql().await;
        session.batch_execute("BEGIN; LOCK TABLE pg_authid IN EXCLUSIVE MODE").await.unwrap();
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", None);
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        let postmaster = nix::unistd::Pid::from_raw(compute.postmaster());
        let kill_while_waiting = async {
            until("the reconfiguration waits", || async { compute.sql_text(waiting).await != "0" })
                .await;
            assert_eq!(compute.get("/status").await.1["status"], "configuration");
            let refused = compute.post("/terminate", None).await.0;
            assert_eq!(refused.as_u16(), 412);
            nix::sys::signal::kill(postmaster, Signal::SIGKILL).unwrap();
        };
        let ((code, body), ()) = tokio::join!(configure(&bed, &compute), kill_while_waiting);
        assert_eq!(code, 500, "{body}");
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        assert_nothing_left(&bed);
    })
    .await;
}
