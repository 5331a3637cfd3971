//! A sync child that fails: it is retried, then the error says clearly what is wrong.

use std::time::{Duration, Instant};

use compute_ctl::dev::sync_wrapper::SyncMode;
use nix::sys::signal::Signal;

use crate::support::assertions::{PATIENCE, assert_nothing_left};
use crate::support::bed::{Bed, LSN_TEXT};
use crate::support::network::{ClosedPort, SilentPort};
use crate::support::server::on_one_server;

/// The minimum time for which a failed start can be inspected.
const LINGER: Duration = Duration::from_secs(30);

#[tokio::test]
async fn without_a_quorum_the_error_names_the_missing_ones_and_stays_readable() {
    on_one_server(|server| async {
        let mut bed = Bed::with_safekeepers(server, 3).await;
        let (closed, silent) = (ClosedPort::reserve(), SilentPort::open());
        bed.spec.safekeeper_connstrings[1] = closed.address();
        bed.spec.safekeeper_connstrings[2] = silent.address();
        bed.wrapper.set_mode(SyncMode::Exit(7)).unwrap();
        let mut compute = bed.start();

        let error = compute.wait_for_failure().await;
        let failed_at = Instant::now();
        assert!(error.starts_with("failed to sync safekeepers"), "{error}");
        let good = bed.safekeepers[0].address();
        // On a busy machine even the good one can be too slow.
        if !error.contains(&format!("{good}: no answer within")) {
            for part in [
                "1 of 3 safekeepers answered, 2 are needed",
                &format!("{good}: flush_lsn {LSN_TEXT}, commit_lsn {LSN_TEXT}"),
            ] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
        for part in [
            format!("{}: ", closed.address()).as_str(),
            "Connection refused",
            &format!("{}: no answer within 300 ms", silent.address()),
            "exit status: 7",
            "sync-safekeepers stand-in: exit",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        compute.wait_for_log("failed to sync safekeepers").await;
        assert_eq!(bed.wrapper.calls().unwrap().len(), 6, "one try and five retries");
        assert_eq!(bed.pageserver.journal().commands(), [] as [&str; 0]);
        let metrics = compute.get("/metrics.json").await.1;
        assert_eq!(
            (&metrics["sync_safekeepers_ms"], &metrics["total_startup_ms"]),
            (&0.into(), &0.into())
        );

        let status = compute.wait_exit_within(LINGER + PATIENCE).await;
        assert_eq!(status.code(), Some(1));
        // A little less, because `failed` was seen a little later than it was set.
        assert!(failed_at.elapsed() > LINGER - Duration::from_secs(5), "{:?}", failed_at.elapsed());
        assert_eq!(bed.wrapper.calls().unwrap().len(), 6, "Postgres never ran: no sync at the end");
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_not_an_lsn_is_a_failure() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.safekeepers[0].behave(|it| it.unknown_timeline = true);
        bed.wrapper.set_mode(SyncMode::Garbage).unwrap();
        let mut compute = bed.start();
        let error = compute.wait_for_failure().await;
        for part in ["failed to sync safekeepers", "does not know the timeline", "hello"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(bed.wrapper.calls().unwrap().len(), 6);
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn two_failures_are_forgiven() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.safekeepers[0].behave(|it| it.commit_lsn = 0);
        bed.wrapper.set_mode(SyncMode::FailFirst(2)).unwrap();
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let calls = bed.wrapper.calls().unwrap();
        assert_eq!(calls.len(), 3);
        assert!(calls.iter().all(|call| call.files == ["postgresql.conf"]), "{calls:?}");
        assert_eq!(bed.pageserver.journal().commands(), [bed.basebackup_command(Some(LSN_TEXT))]);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
