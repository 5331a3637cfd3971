//! A start that failed can be inspected for 30 seconds, whatever failed (01 §8.2, §24 no. 5).

use std::time::{Duration, Instant};

use compute_ctl::dev::sync_wrapper::SyncMode;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

/// A moment that is surely within the stay, and one that is surely after it.
const EARLY: Duration = Duration::from_secs(25);
const LATE: Duration = Duration::from_secs(30);

/// Starts, sees the failure, looks again when the stay is nearly over, sees the exit.
async fn stays(bed: &Bed, expected: &str) {
    let mut compute = bed.start();
    let error = compute.wait_for_failure().await;
    let failed = Instant::now();
    assert!(error.contains(expected), "{error}");
    tokio::time::sleep(EARLY).await;
    let (_, status) = compute.get("/status").await;
    assert_eq!((&status["status"], &status["error"]), (&"failed".into(), &error.into()));
    assert_eq!(compute.wait_exit_within(LATE).await.code(), Some(1));
    assert!(failed.elapsed() >= EARLY);
    assert_nothing_left(bed);
}

#[tokio::test]
async fn every_failed_start_can_be_read() {
    on_one_server(|server| async {
        let mut bad_setting = Bed::new(server.clone()).await;
        bad_setting.spec.typed("max_connections", "-1", "integer");

        let mut no_quorum = Bed::with_safekeepers(server.clone(), 3).await;
        for dead in no_quorum.safekeepers.drain(1..) {
            dead.shutdown().await;
        }
        no_quorum.wrapper.set_mode(SyncMode::Exit(7)).unwrap();

        let foreign = Bed::new(server).await;
        std::fs::create_dir(foreign.pgdata()).unwrap();
        std::fs::write(foreign.pgdata().join("thesis.tex"), "months of work").unwrap();
        crate::support::bed::hand_over(&foreign.pgdata());

        tokio::join!(
            stays(&bad_setting, "max_connections"),
            stays(&no_quorum, "failed to sync safekeepers"),
            stays(&foreign, "--force-wipe"),
        );
        assert!(foreign.pgdata().join("thesis.tex").exists());
    })
    .await;
}
