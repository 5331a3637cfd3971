//! How often the configuration is fetched, and what a fetched one costs (03 §6.4): Postgres asks at
//! every failed request to a pageserver.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::network::{HttpStub, Reply, answer};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// As the program has it.
const REST: Duration = Duration::from_secs(5);
/// So long a request waits for a refresh under way.
const JOINED: Duration = Duration::from_secs(2);

fn document(bed: &Bed, change: impl FnOnce(&mut Value)) -> Reply {
    let mut spec = bed.spec.spec();
    change(&mut spec);
    Reply::Answer(200, answer(bed, "attached", spec).into_bytes())
}

async fn ask(compute: &Compute) -> (StatusCode, String) {
    let url = format!("{}/refresh_configuration", compute.internal);
    let answer = compute.http.post(url).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

#[tokio::test]
async fn after_a_fetch_that_found_nothing_new_the_next_one_waits() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let control_plane = HttpStub::start(document(&bed, |_| {})).await;
        let mut compute = Compute::spawn(&bed, &bed.args_for(&control_plane.url()), &[]);
        bed.wait_running(&mut compute).await;
        let began = Instant::now();
        assert_eq!(ask(&compute).await, (StatusCode::OK, String::new()));
        compute.wait_for_log("the configuration has not changed").await;
        assert_eq!(ask(&compute).await, (StatusCode::OK, String::new()));
        bed.spec.typed("work_mem", "7MB", "integer");
        let (code, body) = compute.configure(&bed).await;
        assert_eq!(code, StatusCode::OK, "not held up: {body}");
        // As fast as three clients can, for longer than the rest.
        let asking = || async {
            while control_plane.count() < 3 {
                assert_eq!(ask(&compute).await, (StatusCode::OK, String::new()));
            }
        };
        let ((), (), ()) = tokio::join!(asking(), asking(), asking());
        assert!(began.elapsed() >= REST, "{:?}", began.elapsed());
        assert_eq!(control_plane.count(), 3, "the start, and two refreshes");
        compute.wait_for("running").await;
        let (code, body) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(code, StatusCode::OK, "not held up: {body}");
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert_nothing_left(&bed);
    })
    .await;
}

/// Postgres counts every answer but 200, and gives up after a minute of them.
#[tokio::test]
async fn a_request_joins_the_refresh_under_way() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let control_plane = HttpStub::start(document(&bed, |_| {})).await;
        let mut compute = Compute::spawn(&bed, &bed.args_for(&control_plane.url()), &[]);
        bed.wait_running(&mut compute).await;
        let moved = |spec: &mut Value| {
            spec["pageserver_connstring"] = json!("postgresql://no_user@127.0.0.1:1");
        };
        control_plane.reply(document(&bed, moved).held());
        assert_eq!(ask(&compute).await.0, StatusCode::OK);
        control_plane.wait_for(2).await;
        // It takes too long for the one who asks.
        let began = Instant::now();
        let text = "Cannot refresh compute configuration in state RefreshConfiguration";
        let refused = (StatusCode::INTERNAL_SERVER_ERROR, json!({"error": text}).to_string());
        assert_eq!(ask(&compute).await, refused);
        assert!(began.elapsed() >= JOINED, "{:?}", began.elapsed());
        // It succeeds before that.
        let releasing = async {
            compute.until_status("refresh_configuration").await;
            control_plane.release();
        };
        let ((code, _), ()) = tokio::join!(ask(&compute), releasing);
        assert_eq!(code, StatusCode::OK);
        compute
            .wait_for_sql("SHOW neon.pageserver_connstring", "postgresql://no_user@127.0.0.1:1")
            .await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A control plane may put fresh tokens into each answer.
#[tokio::test]
async fn other_tokens_are_a_reload_and_no_catalog_apply() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", None);
        let control_plane = HttpStub::start(document(&bed, |_| {})).await;
        let mut compute = Compute::spawn(&bed, &bed.args_for(&control_plane.url()), &[]);
        bed.wait_running(&mut compute).await;
        let applied = "Applying config with max";
        let reloaded = "received SIGHUP";
        compute.wait_for_log_times(applied, 1).await;
        let reloads = compute.count_in_log(reloaded);
        let fresh = |spec: &mut Value| {
            spec["operation_uuid"] = json!("fresh");
            spec["storage_auth_token"] = json!("fresh");
            spec["pageserver_connstring"] = json!("postgresql://no_user:fresh@127.0.0.1:1");
        };
        bed.spec.pageserver_connstring = "postgresql://no_user:old@127.0.0.1:1".to_owned();
        control_plane.reply(document(&bed, |_| {}));
        assert_eq!(ask(&compute).await.0, StatusCode::OK);
        compute.wait_for_log_times(applied, 2).await;
        compute.wait_for("running").await;
        let reloads_of_apply = compute.count_in_log(reloaded) - reloads;
        assert!(reloads_of_apply > 1, "an apply lifts the size limit");

        control_plane.reply(document(&bed, fresh));
        assert_eq!(ask(&compute).await.0, StatusCode::OK);
        compute.wait_for_log("finished reconfiguration of compute node for operation fresh").await;
        let show = "SHOW neon.pageserver_connstring";
        compute.wait_for_sql(show, "postgresql://no_user:fresh@127.0.0.1:1").await;
        assert_eq!(compute.count_in_log(applied), 2, "{}", compute.log());
        compute.assert_logged(reloaded, reloads + reloads_of_apply + 1).await;
        let (_, status) = compute.get("/status").await;
        assert_eq!(status["extra"]["applied_operation"], "fresh", "{status}");
        // Nothing new: the next fetch rests.
        assert_eq!(ask(&compute).await.0, StatusCode::OK);
        assert_eq!(compute.get("/status").await.1["status"], "running");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
