//! `/refresh_configuration` (01 §13.3, 03 §6.4): the configuration file is read again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

async fn status(compute: &Compute) -> Value {
    compute.get("/status").await.1
}

#[tokio::test]
async fn an_unchanged_file_changes_nothing_and_a_changed_one_is_applied() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let postmaster = compute.postmaster();
        compute.refresh().await;
        compute.wait_for_log("compute status from refresh-configuration to running").await;
        assert_eq!(compute.count_in_log("received SIGHUP"), 0, "{}", compute.log());

        bed.spec.pageserver_connstring = "postgresql://no_user@127.0.0.1:1".to_owned();
        bed.write("config.json", &bed.spec.config());
        compute.refresh().await;
        let show = "SHOW neon.pageserver_connstring";
        let shown = || async { compute.sql_text(show).await == bed.spec.pageserver_connstring };
        until("the new pageserver is in force", shown).await;
        bed.wait_running(&mut compute).await;
        assert_eq!(compute.postmaster(), postmaster);

        // Other differences count, too (01 §24 no. 22).
        bed.spec.typed("work_mem", "9216", "integer");
        bed.write("config.json", &bed.spec.config());
        compute.refresh().await;
        until("the setting is in force", || async {
            compute.sql_text("SHOW work_mem").await == "9MB"
        })
        .await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_broken_file_is_tried_again() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.write_text("config.json", "{");
        compute.refresh().await;
        compute.wait_for("refresh_configuration_pending").await;
        until("the reason is shown", || async { !status(&compute).await["error"].is_null() }).await;
        let error = status(&compute).await["error"].as_str().unwrap().to_owned();
        assert!(error.contains("config.json"), "{error}");
        let extra = &status(&compute).await["extra"];
        let failure = &extra["last_failure"];
        assert_eq!(failure["phase"], "fetch_configuration", "{extra}");
        assert!(failure["operation"].is_null(), "no operation was determined: {extra}");
        assert_eq!(compute.sql_text("SELECT 40 + 2").await, "42");
        let text = "invalid compute status: refresh-configuration-pending";
        let refused = (StatusCode::PRECONDITION_FAILED, json!({"error": text}));
        // Between two pauses it is tried, which has a status of its own.
        until("a configuration is refused in the pause", || async {
            compute.configure(&bed).await == refused
        })
        .await;

        // A new request is served at once.
        bed.spec.typed("work_mem", "9216", "integer");
        bed.write("config.json", &bed.spec.config());
        compute.refresh().await;
        bed.wait_running(&mut compute).await;
        until("the setting is in force", || async {
            compute.sql_text("SHOW work_mem").await == "9MB"
        })
        .await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A single request is retried until it has succeeded (01 §24 no. 9).
#[tokio::test]
async fn one_request_is_enough() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.write_text("config.json", "{");
        compute.refresh().await;
        compute.wait_for_log("could not refresh the configuration").await;
        bed.spec.typed("work_mem", "9216", "integer");
        bed.write("config.json", &bed.spec.config());
        compute.wait_for("running").await;
        assert_eq!(compute.sql_text("SHOW work_mem").await, "9MB");
        assert_eq!(status(&compute).await["error"], Value::Null);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Each failure doubles the pause; a new request cuts the pause short.
#[tokio::test]
async fn a_call_cuts_the_pause_short() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.write_text("config.json", "{");
        // All these pauses together would exceed the test's patience.
        for times in 1..=6 {
            compute.refresh().await;
            compute.wait_for_log_times("could not refresh the configuration", times).await;
        }
        bed.write("config.json", &bed.spec.config());
        compute.refresh().await;
        bed.wait_running(&mut compute).await;
        assert_eq!(compute.count_in_log("received SIGHUP"), 0, "{}", compute.log());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A pipe never ends, or has no writer. It is refused at once, and what comes after it is read.
#[tokio::test]
async fn a_pipe_in_the_files_place_is_refused_and_a_later_file_is_read() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let file = bed.dir().join("config.json");
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let refused = "config.json: it is not a regular file: a pipe gives its content only once";
        compute.signal(Signal::SIGHUP);
        compute.wait_for_log("received SIGHUP: the present configuration stays in force").await;
        assert_eq!(compute.count_in_log(refused), 1, "{}", compute.log());
        compute.refresh().await;
        until("the reason is shown", || async {
            status(&compute).await["error"].as_str().is_some_and(|it| it.contains(refused))
        })
        .await;

        fs::remove_file(&file).unwrap();
        bed.spec.typed("work_mem", "9216", "integer");
        bed.write("config.json", &bed.spec.config());
        compute.signal(Signal::SIGHUP);
        compute.wait_for_log("received SIGHUP: reading the configuration again").await;
        bed.wait_running(&mut compute).await;
        until("the setting is in force", || async {
            compute.sql_text("SHOW work_mem").await == "9MB"
        })
        .await;
        assert_eq!(compute.count_in_log("it gave no content"), 0, "{}", compute.log());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The original refuses it permanently (03 W8).
#[tokio::test]
async fn a_pending_refresh_can_be_terminated() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.write_text("config.json", "{");
        compute.refresh().await;
        until("the refresh has failed", || async { !status(&compute).await["error"].is_null() })
            .await;
        let (code, body) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(code.as_u16(), 200, "{body}");
        assert!(body["lsn"].is_string(), "{body}");
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert_nothing_left(&bed);
    })
    .await;
}

/// The compute has been detached. The original leaves Postgres behind (01 §24 no. 10).
#[tokio::test]
async fn without_a_spec_the_process_ends_with_1() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.write(
            "config.json",
            &json!({"spec": null, "compute_ctl_config": {"jwks": {"keys": []}}}),
        );
        compute.refresh().await;
        assert_eq!(compute.wait_exit_within(Duration::from_secs(20)).await.code(), Some(1));
        compute.wait_for_log("received fast shutdown request").await;
        assert_eq!(bed.wrapper.calls().unwrap(), [], "another compute has the timeline now");
        assert_nothing_left(&bed);
    })
    .await;
}
