//! `--pg-init-timeout` (07 §18): in Lakebase mode a start that takes too long ends the process.

use std::time::{Duration, Instant};

use compute_ctl::dev::sync_wrapper::SyncMode;
use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const LINE: &str = "compute did not enter Running state in 2 seconds, exiting";

/// The sync child hangs, for which a start waits minutes.
async fn bed(server: compute_ctl::dev::servers::Server) -> Bed {
    let bed = Bed::new(server).await;
    bed.safekeepers[0].behave(|safekeeper| safekeeper.commit_lsn -= 8);
    bed.wrapper.set_mode(SyncMode::Hang).unwrap();
    bed
}

fn start(bed: &Bed, mode: &str) -> Compute {
    bed.start_with_args(&["--lakebase-mode", mode, "--pg-init-timeout", "2"])
}

/// Waits until a wrong timer would have fired.
async fn outlast(compute: &mut Compute, limit: Duration) {
    tokio::time::sleep(limit + Duration::from_secs(1)).await;
    assert!(compute.is_alive(), "{}", compute.log());
}

#[tokio::test]
async fn a_start_that_hangs() {
    on_one_server(|server| async {
        let bed = bed(server).await;
        let mut compute = start(&bed, "true");
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        compute.wait_for_log(LINE).await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// A failed start can be inspected, but not after the time-out.
#[tokio::test]
async fn a_start_that_fails_before() {
    on_one_server(|server| async {
        let mut bed = bed(server).await;
        bed.spec.set("work_mem", "much");
        bed.wrapper.set_mode(SyncMode::Ok).unwrap();
        let began = Instant::now();
        let mut compute = start(&bed, "true");
        assert_eq!(compute.wait_exit_within(Duration::from_secs(25)).await.code(), Some(1));
        assert!(began.elapsed() >= Duration::from_secs(2));
        compute.wait_for_log("not staying longer than --pg-init-timeout").await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_compute_that_runs_and_other_modes() {
    on_one_server(|server| async {
        // Once it runs, the time-out has no effect.
        let mut bed = bed(server).await;
        let limit = Duration::from_secs(15);
        bed.wrapper.set_mode(SyncMode::Ok).unwrap();
        let args = ["--lakebase-mode", "true", "--pg-init-timeout", "15"];
        let mut compute = bed.start_with_args(&args);
        compute.wait_for("running").await;
        outlast(&mut compute, limit).await;
        assert_eq!(compute.get("/status").await.1["status"], "running");
        compute.end().await;

        // Nor does it have one before a spec arrives.
        let config = serde_json::json!({"compute_ctl_config": {"jwks": {"keys": []}}});
        let config = bed.write("empty.json", &config).display().to_string();
        let args = ["-i", "c1", "-c", &config, "--lakebase-mode", "true", "--pg-init-timeout", "2"];
        let mut compute = bed.start_with(&args);
        compute.wait_for("empty").await;
        outlast(&mut compute, Duration::from_secs(2)).await;
        assert_eq!(compute.get("/status").await.1["status"], "empty");
        compute.end().await;

        bed.wrapper.set_mode(SyncMode::Hang).unwrap();
        bed.take_other_http_ports();
        let mut compute = start(&bed, "false");
        outlast(&mut compute, Duration::from_secs(2)).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert!(!compute.log().contains(LINE));
        assert_nothing_left(&bed);
    })
    .await;
}
