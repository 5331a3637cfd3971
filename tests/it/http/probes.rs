//! `/live`, `/ready`, waiting in `/status`, and its member `extra`.

use compute_ctl::dev::pageserver::Fault;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// What a probe says no with.
fn no(text: &str) -> (StatusCode, Value) {
    (UNAVAILABLE, json!({"error": text}))
}

fn yes() -> (StatusCode, Value) {
    (StatusCode::OK, json!("ok"))
}

#[tokio::test]
async fn probes_follow_the_compute() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        // A compute without a spec is alive and not ready.
        assert_eq!(compute.get("/live").await, yes());
        let waits = "the compute has no spec yet and waits for /configure";
        assert_eq!(compute.get("/ready").await, no(&format!("not ready: {waits}")));
        assert_eq!(compute.get("/startup").await, no(&format!("not started: {waits}")));
        let (code, _) = compute.configure(&bed).await;
        assert_eq!(code, StatusCode::OK);
        assert_eq!(compute.get("/ready").await, yes());
        assert_eq!(compute.get("/startup").await, yes());

        // Postgres runs and takes no new sessions; those that it has go on.
        let postmaster = Pid::from_raw(compute.postmaster());
        kill(postmaster, Signal::SIGSTOP).unwrap();
        until("the stopped Postgres is noticed", || async {
            compute.get("/ready").await.0 == UNAVAILABLE
        })
        .await;
        let stopped = "not ready: the process of Postgres is stopped; the log says which";
        assert_eq!(compute.get("/ready").await, no(stopped));
        assert_eq!(compute.get("/live").await, yes());
        assert_eq!(compute.get("/startup").await, yes());
        kill(postmaster, Signal::SIGCONT).unwrap();
        until("it is ready again", || async { compute.get("/ready").await == yes() }).await;

        let (code, _) = compute.post("/terminate?mode=fast", None).await;
        assert_eq!(code, StatusCode::OK);
        assert_eq!(compute.get("/ready").await, no("not ready: the compute is ending"));
        assert_eq!(compute.get("/startup").await, yes());
        assert_eq!(compute.get("/live").await, yes());
        // One line for each change, none for a probe.
        assert_eq!(compute.count_in_log(" ready: Postgres serves"), 2, "{}", compute.log());
        assert_eq!(compute.count_in_log("not ready: "), 2, "{}", compute.log());
        assert_eq!(compute.count_in_log("GET /ready"), 0);
        assert_eq!(compute.count_in_log("url.path=/ready"), 0);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Readiness follows Postgres, not the status: neither a `/configure` nor its failure ends it.
#[tokio::test]
async fn ready_while_postgres_serves() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        // Statements on roles wait for this lock.
        let session = compute.sql().await;
        session.batch_execute("BEGIN; LOCK TABLE pg_authid IN EXCLUSIVE MODE").await.unwrap();
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", None);
        let body = bed.configure_body();
        let others = async {
            compute.until_status("configuration").await;
            assert_eq!(compute.get("/ready").await, yes());
            session.batch_execute("ROLLBACK").await.unwrap();
        };
        let ((code, body), ()) = tokio::join!(compute.post("/configure", Some(&body)), others);
        assert_eq!(code, StatusCode::OK, "{body}");

        // One that fails; the old configuration is in force.
        bed.spec.role("pg_reserved", None);
        let (code, _) = compute.configure(&bed).await;
        assert!(code.is_client_error() || code.is_server_error(), "{code}");
        assert_eq!(compute.get("/ready").await, yes());
        assert_eq!(compute.sql_text("SELECT 'it serves'").await, "it serves");
        assert_eq!(compute.count_in_log("not ready"), 0, "{}", compute.log());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(compute.count_in_log("not ready: the compute is ending"), 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A start that fails is neither started nor ready, and says so while it can be asked.
#[tokio::test]
async fn a_failed_start_says_so() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("no_such_setting_anywhere", "x");
        let mut compute = bed.start();
        compute.wait_for_log("HTTP servers are listening").await;
        compute.until_status("failed").await;
        let failed = "the start has failed; /status and the log say why";
        assert_eq!(compute.get("/ready").await, no(&format!("not ready: {failed}")));
        assert_eq!(compute.get("/startup").await, no(&format!("not started: {failed}")));
        assert_eq!(compute.get("/live").await, yes());
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// However many clients ask, Postgres is not asked for them.
#[tokio::test(flavor = "multi_thread")]
async fn probes_ask_postgres_nothing() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("log_connections", "on").set("log_statement", "all");
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let sessions = || compute.count_in_log("connection authorized");
        compute.wait_for_log("application_name=compute_ctl:compute_monitor").await;
        let before = sessions();
        let requests = (0..200).map(|_| compute.get("/ready"));
        for answer in futures_util::future::join_all(requests).await {
            assert_eq!(answer, yes());
        }
        // Other work may have begun, such as the statistics on extensions.
        assert!(sessions() <= before + 20, "{} before, {} after", before, sessions());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn waiting_for_a_status() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        // One wait that is over at once, and one that is over in time.
        let (code, document) = compute.get("/status?wait=empty&timeout=5m").await;
        assert_eq!((code, &document["status"]), (StatusCode::OK, &json!("empty")));
        let (code, document) = compute.get("/status?wait=running&timeout=20ms").await;
        assert_eq!((code, &document["status"]), (StatusCode::OK, &json!("empty")));
        for nonsense in
            ["wait=up", "wait=running&timeout=x", "wait=running&timeout=6m", "timeout=1"]
        {
            let (code, answer) = compute.get(&format!("/status?{nonsense}")).await;
            assert_eq!(code, StatusCode::BAD_REQUEST, "{nonsense}: {answer}");
            assert!(answer["error"].is_string());
        }
        // Other parameters are ignored.
        assert_eq!(compute.get("/status?x=y&waiting=1").await.0, StatusCode::OK);

        let body = bed.configure_body();
        let wait = compute.get("/status?wait=running&timeout=30s");
        let configure = compute.post("/configure", Some(&body));
        let ((_, document), (code, _)) = tokio::join!(wait, configure);
        assert_eq!((code, &document["status"]), (StatusCode::OK, &json!("running")));

        let wait = compute.get("/status?wait=terminated&timeout=30s");
        let terminate = compute.post("/terminate?mode=fast", None);
        let ((_, document), (code, _)) = tokio::join!(wait, terminate);
        assert_eq!((code, &document["status"]), (StatusCode::OK, &json!("terminated")));
        // The compute will not reach `running` any more.
        let (_, document) = compute.get("/status?wait=running&timeout=5m").await;
        assert_eq!(document["status"], "terminated");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A failed start ends the wait, and `/status` names the phase that failed.
#[tokio::test]
async fn waiting_ends_when_the_start_fails() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("operation_uuid", json!("8cf8a9a5-0d5b-4cbf-a5c8-d5ab0a7d5f66"));
        bed.pageserver.set_fault(Fault::StallAfter(100_000), None);
        let mut compute = bed.start();
        let extra = async || compute.get("/status").await.1["extra"].clone();
        let stalled = || async {
            let Some((_, document)) = compute.try_get("/status").await else { return false };
            document["extra"]["basebackup_bytes"] == 100_000
        };
        until("the basebackup stalls", stalled).await;
        let now = extra().await;
        assert_eq!(now["phases"], json!(["basebackup"]));
        let last = now["startup"].as_array().unwrap().last().unwrap();
        assert_eq!(last["phase"], "basebackup");
        assert!(last["began_ms"].is_f64() && last.get("duration_ms").is_none(), "{last}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        bed.pageserver.clear_faults();
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let mut now = compute.get("/status").await.1["extra"].clone();
        all_phases(&now["startup"].take());
        let operation = "8cf8a9a5-0d5b-4cbf-a5c8-d5ab0a7d5f66";
        assert_eq!(now, json!({"applied_operation": operation, "startup": null}));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        bed.spec.set("no_such_setting_anywhere", "x");
        let mut compute = bed.start();
        compute.wait_for_log("HTTP servers are listening").await;
        let (_, document) = compute.get("/status?wait=running&timeout=1m").await;
        assert_eq!(document["status"], "failed");
        let failure = &document["extra"]["last_failure"];
        assert_eq!(failure["phase"], "start_postgres", "{document}");
        assert_eq!(failure["error"], document["error"]);
        assert_eq!(failure["operation"], "8cf8a9a5-0d5b-4cbf-a5c8-d5ab0a7d5f66");
        assert_eq!(document["extra"]["applied_operation"], Value::Null);
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Every phase of a start that succeeded has its beginning and its duration, and all are small.
fn all_phases(startup: &Value) {
    let phases = startup.as_array().unwrap();
    let named = |name: &str| phases.iter().find(|it| it["phase"] == name).unwrap();
    let end = |name: &str| {
        named(name)["began_ms"].as_f64().unwrap() + named(name)["duration_ms"].as_f64().unwrap()
    };
    assert!(phases.is_sorted_by_key(|it| it["began_ms"].as_f64().unwrap()), "{startup}");
    let begins = named("start_postgres")["began_ms"].as_f64().unwrap();
    // Both are rounded.
    assert!(begins + 0.2 >= end("basebackup"), "{startup}");
    assert!(startup.to_string().len() < 1024, "{startup}");
}

/// A reconfiguration that fails does not change the operation that is in force.
#[tokio::test]
async fn what_is_applied_and_what_failed_last() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.member("operation_uuid", json!("a"));
        let mut compute = bed.start();
        compute.wait_for("running").await;
        bed.spec.member("operation_uuid", json!("b")).role("pg_reserved", None);
        let (code, _) = compute.configure(&bed).await;
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
        let extra = compute.get("/status").await.1["extra"].clone();
        assert_eq!(extra["applied_operation"], "a");
        assert_eq!(extra["last_failure"]["operation"], "b");
        assert_eq!(extra["last_failure"]["phase"], "apply_catalog");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
