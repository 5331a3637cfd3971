//! The sync after Postgres' end fails or hangs (01 §18.4 step 3): the client gets an answer, and
//! the exit code of the process shows the failure.

use std::time::Duration;

use compute_ctl::dev::sync_wrapper::SyncMode;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// A running compute whose next sync runs this script.
async fn running(bed: &Bed, mode: SyncMode) -> Compute {
    let mut compute = bed.start();
    bed.wait_running(&mut compute).await;
    bed.wrapper.set_mode(mode).unwrap();
    compute
}

#[tokio::test]
async fn a_failed_sync_neither_hides_the_answer_nor_the_failure() {
    on_one_server(|server| async move {
        for mode in [SyncMode::Exit(7), SyncMode::Garbage] {
            let bed = Bed::new(server.clone()).await;
            let mut compute = running(&bed, mode).await;
            let (code, body) = compute.post("/terminate", None).await;
            assert_eq!((code.as_u16(), body), (200, json!({"lsn": null})));
            let (_, status) = compute.get("/status").await;
            assert_eq!(status["status"], "terminated");
            let error = status["error"].as_str().unwrap();
            assert!(error.contains("failed to sync safekeepers"), "{error}");
            // A second request gets the same answer; then a signal cuts the stay short.
            let (code, body) = compute.post("/terminate", None).await;
            assert_eq!((code.as_u16(), body), (201, json!({"lsn": null})));
            assert_eq!(bed.wrapper.calls().unwrap().len(), 1, "one try");
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert_nothing_left(&bed);
        }
    })
    .await;
}

#[tokio::test]
async fn a_failed_sync_makes_the_exit_code_1() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = running(&bed, SyncMode::Exit(7)).await;
        let (code, _) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(code.as_u16(), 200);
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_signal_cuts_a_hanging_sync_short() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = running(&bed, SyncMode::Hang).await;
        let request = compute.http.post(format!("{}/terminate", compute.external)).send();
        let request = tokio::spawn(request);
        until("the sync runs", || async { bed.wrapper.calls().unwrap().len() == 1 }).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        // The client gets an answer, not a broken connection.
        assert_eq!(request.await.unwrap().unwrap().status().as_u16(), 500);
        assert_eq!(bed.wrapper.calls().unwrap().len(), 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Waits for the 30 seconds that the sync may take.
#[tokio::test]
async fn a_sync_that_hangs_alone_is_given_up() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = running(&bed, SyncMode::Hang).await;
        let (code, body) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!((code.as_u16(), body), (200, json!({"lsn": null})));
        let code = compute.wait_exit_within(Duration::from_secs(20)).await.code();
        assert_eq!(code, Some(1));
        compute.wait_for_log("did not end within 30s").await;
        assert_nothing_left(&bed);
    })
    .await;
}
