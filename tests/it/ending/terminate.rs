//! `/terminate` (01 §18.1, 03 §6.2) in both modes and in every state that a test can hold.

use std::time::{Duration, Instant};

use compute_ctl::dev::pageserver::Fault;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, last_position, until};
use crate::support::bed::{Bed, LSN_TEXT};
use crate::support::process::Compute;
use crate::support::server::{on_every_server, on_one_server};

async fn terminate(compute: &Compute, query: &str) -> (u16, Value) {
    let (code, body) = compute.post(&format!("/terminate{query}"), None).await;
    (code.as_u16(), body)
}

#[tokio::test]
async fn fast_answers_with_the_lsn_and_stays() {
    on_every_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let answer = json!({"lsn": LSN_TEXT});
        assert_eq!(terminate(&compute, "").await, (200, answer.clone()));
        assert_eq!(compute.get("/status").await.1["status"], "terminated");
        assert_eq!(terminate(&compute, "?mode=immediate").await, (201, answer));
        assert_eq!(bed.wrapper.calls().unwrap().len(), 1);
        let log = compute.settled_log().await;
        let down = last_position(&log, "database system is shut down");
        assert!(down < last_position(&log, "starting safekeepers syncing"), "{log}");
        let (code, body) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 412, "{body}");
        assert!(compute.is_alive());
        // A signal ends this stay as well.
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(bed.wrapper.calls().unwrap().len(), 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The only test that waits for the whole stay.
#[tokio::test]
async fn fast_stays_for_30_seconds() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        assert_eq!(terminate(&compute, "?mode=fast").await.0, 200);
        let answered = Instant::now();
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(compute.get("/status").await.1["status"], "terminated");
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert!(answered.elapsed() >= Duration::from_secs(29), "{:?}", answered.elapsed());
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn immediate_answers_and_goes() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        assert_eq!(terminate(&compute, "?mode=immediate").await, (200, json!({"lsn": LSN_TEXT})));
        assert_eq!(compute.wait_exit_within(Duration::from_secs(10)).await.code(), Some(0));
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn of_two_at_once_one_is_told_to_wait() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let (one, other) =
            tokio::join!(terminate(&compute, "?mode=immediate"), terminate(&compute, ""));
        let mut answers = [one, other];
        answers.sort_by_key(|answer| answer.0);
        assert_eq!(answers[0], (200, json!({"lsn": LSN_TEXT})));
        let (code, body) = &answers[1];
        // The second request may also have come after the end.
        if *code != 201 {
            assert_eq!(*code, 412, "{body}");
            let error = body["error"].as_str().unwrap();
            assert!(error.starts_with("invalid compute status: termination-pending-"), "{error}");
        }
        let _ = compute.stop(Signal::SIGTERM).await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn bad_queries_and_a_start_in_progress_are_refused() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.pageserver.set_fault(Fault::StallAfter(1000), None);
        let mut compute = bed.start();
        until("the basebackup has begun", || async {
            !bed.pageserver.journal().commands().is_empty()
        })
        .await;
        for query in ["?mode=x", "?y=1", "?", "?mode="] {
            let (code, body) = terminate(&compute, query).await;
            assert_eq!(code, 400, "{query}: {body}");
            assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        }
        let refused = json!({"error": "invalid compute status: init"});
        assert_eq!(terminate(&compute, "").await, (412, refused));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn an_empty_compute_just_goes() {
    on_one_server(|server| async move {
        for query in ["", "?mode=immediate"] {
            let bed = Bed::new(server.clone()).await;
            bed.fake_postgres();
            let mut compute = bed.start_empty();
            compute.wait_for("empty").await;
            assert_eq!(terminate(&compute, query).await, (200, json!({"lsn": null})));
            let code = compute.wait_exit_within(Duration::from_secs(10)).await.code();
            assert_eq!(code, Some(0));
            assert_eq!(bed.wrapper.calls().unwrap(), []);
            assert_nothing_left(&bed);
        }
    })
    .await;
}

/// In the original a compute with a failed reconfiguration cannot be terminated (01 §24 no. 4).
#[tokio::test]
async fn a_failed_reconfiguration_can_be_terminated() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.database("store", "nobody");
        let (code, _) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 500);
        assert_eq!(terminate(&compute, "?mode=immediate").await, (200, json!({"lsn": LSN_TEXT})));
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert_eq!(bed.wrapper.calls().unwrap().len(), 1);
        assert_nothing_left(&bed);
    })
    .await;
}
