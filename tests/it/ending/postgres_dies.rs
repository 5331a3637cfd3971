//! Postgres ends by itself, cleanly or not (01 §18.2): the safekeepers are synced after it was
//! reaped, and the process ends with its code.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use crate::support::assertions::{assert_nothing_left, last_position, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// The safekeepers were synced once, and only after Postgres was reaped.
#[track_caller]
fn assert_synced_after_the_end(bed: &Bed, compute: &Compute) {
    assert_eq!(bed.wrapper.calls().unwrap().len(), 1);
    let log = compute.log();
    let ended = last_position(&log, "Postgres ended by itself with");
    assert!(ended < last_position(&log, "starting safekeepers syncing"), "{log}");
    let left_running =
        last_position(&log, "compute status from running to termination-pending-immediate");
    assert!(left_running < last_position(&log, "starting safekeepers syncing"), "{log}");
}

#[tokio::test]
async fn a_killed_postmaster_ends_the_compute_with_1() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        // Backends outlive their postmaster for a while; one of them even holds a query.
        let session = compute.sql().await;
        let busy = tokio::spawn(async move { session.simple_query("SELECT pg_sleep(100)").await });
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
        until("it sleeps", || async { compute.sql_text(sleeping).await == "1" }).await;
        kill(Pid::from_raw(compute.postmaster()), Signal::SIGKILL).unwrap();
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        assert!(busy.await.unwrap().is_err());
        assert_synced_after_the_end(&bed, &compute);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_stop_from_outside_ends_the_compute_with_0() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let mut stop = Command::new(bed.server.program("pg_ctl"));
        stop.args(["stop", "-m", "fast", "-s", "-D"]).arg(bed.pgdata()).current_dir("/");
        if geteuid().is_root() {
            let user = User::from_name("postgres").unwrap().unwrap();
            stop.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let stopped = tokio::task::spawn_blocking(move || stop.output().unwrap()).await.unwrap();
        assert!(stopped.status.success(), "{stopped:?}");
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert_synced_after_the_end(&bed, &compute);
        assert_nothing_left(&bed);
    })
    .await;
}
