//! SIGTERM, SIGINT and SIGQUIT (01 §18.3): Postgres is stopped, nothing is synced, the process ends
//! within `--stop-timeout`, a second signal ends it at once.

use std::time::Duration;

use compute_ctl::dev::sync_wrapper::SyncMode;
use nix::sys::signal::Signal;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::{IMMORTAL, on_one_server};

/// More than the default `--stop-timeout`, less than supervisors wait before SIGKILL.
const PROMPT: Duration = Duration::from_secs(10);

/// A running compute with additional flags.
fn start_with(bed: &Bed, flags: &[&str]) -> Compute {
    let mut args = bed.base_args();
    args.extend(bed.config_args());
    args.extend(flags.iter().map(ToString::to_string));
    Compute::spawn(bed, &args, &[])
}

async fn exit_code(compute: &mut Compute) -> Option<i32> {
    compute.wait_exit_within(PROMPT).await.code()
}

#[tokio::test]
async fn each_of_them_stops_postgres_cleanly_and_syncs_nothing() {
    on_one_server(|server| async move {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
            let bed = Bed::new(server.clone()).await;
            let mut compute = bed.start();
            bed.wait_running(&mut compute).await;
            compute.signal(signal);
            assert_eq!(exit_code(&mut compute).await, Some(1));
            let log = compute.log();
            for part in [signal.as_str(), "fast shutdown request", "database system is shut down"] {
                assert!(log.contains(part), "no {part:?} in\n{log}");
            }
            assert_eq!(bed.wrapper.calls().unwrap(), []);
            assert_nothing_left(&bed);
        }
    })
    .await;
}

#[tokio::test]
async fn the_exit_code_can_be_chosen() {
    on_one_server(|server| async move {
        let bed = Bed::new(server).await;
        for wanted in [0, 7] {
            let flags = ["--signal-exit-code", &wanted.to_string()];
            let mut compute = start_with(&bed, &flags);
            bed.wait_running(&mut compute).await;
            assert_eq!(compute.stop(Signal::SIGTERM).await, wanted);
        }
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_postgres_that_ignores_signals_is_killed_in_time() {
    on_one_server(|server| async move {
        let bed = Bed::new(server).await;
        bed.before_server(IMMORTAL);
        let mut compute = start_with(&bed, &["--stop-timeout", "1"]);
        bed.wait_running(&mut compute).await;
        compute.signal(Signal::SIGTERM);
        let limit = Duration::from_secs(5);
        assert_eq!(compute.wait_exit_within(limit).await.code(), Some(1));
        for sent in ["SIGINT", "SIGQUIT", "SIGKILL"] {
            compute.wait_for_log(&format!("sending {sent}")).await;
        }
        assert_eq!(bed.wrapper.calls().unwrap(), []);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_second_signal_ends_everything_at_once() {
    on_one_server(|server| async move {
        let bed = Bed::new(server).await;
        bed.before_server(IMMORTAL);
        // So long that only the second signal can end the process in time.
        let mut compute = start_with(&bed, &["--stop-timeout", "600"]);
        bed.wait_running(&mut compute).await;
        compute.signal(Signal::SIGTERM);
        compute.wait_for_log("sending SIGINT").await;
        assert!(compute.is_alive());
        // Within half a second of the first one it counts as one with it.
        until("a second one is seen as such", || async {
            compute.signal(Signal::SIGINT);
            compute.log().contains("received SIGINT, signal 2, ending everything at once")
        })
        .await;
        assert_eq!(exit_code(&mut compute).await, Some(1));
        assert!(!compute.log().contains("sending SIGQUIT"), "{}", compute.log());
        assert_nothing_left(&bed);
    })
    .await;
}

/// `/terminate` is stopping a slow Postgres; the signal shortens the ladder.
#[tokio::test]
async fn a_signal_shortens_a_terminate() {
    on_one_server(|server| async move {
        let bed = Bed::new(server).await;
        bed.before_server(IMMORTAL);
        let mut compute = start_with(&bed, &["--stop-timeout", "1"]);
        bed.wait_running(&mut compute).await;
        let request = compute.http.post(format!("{}/terminate", compute.external)).send();
        let request = tokio::spawn(request);
        compute.wait_for_log("sending SIGINT").await;
        compute.signal(Signal::SIGTERM);
        assert_eq!(exit_code(&mut compute).await, Some(1));
        assert_eq!(request.await.unwrap().unwrap().status().as_u16(), 500);
        assert_eq!(bed.wrapper.calls().unwrap(), []);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_signal_ends_the_stay_after_a_failed_start() {
    on_one_server(|server| async move {
        let mut bed = Bed::new(server).await;
        bed.spec.typed("max_connections", "-1", "integer");
        let mut compute = bed.start();
        compute.wait_for_failure().await;
        compute.signal(Signal::SIGTERM);
        assert_eq!(exit_code(&mut compute).await, Some(1));
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_signal_ends_an_empty_compute() {
    on_one_server(|server| async move {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        compute.signal(Signal::SIGTERM);
        assert_eq!(exit_code(&mut compute).await, Some(1));
        assert_nothing_left(&bed);
    })
    .await;
}

/// The warm-up server is stopped as well (01 §24 no. 42), and its directory removed.
#[tokio::test]
async fn a_signal_ends_the_warm_up() {
    on_one_server(|server| async move {
        let bed = Bed::new(server).await;
        let warm_up = bed.dir().join("pgdata.warmup");
        bed.before_server("case $2 in *.warmup) cd \"$2\"; exec sleep 86400;; esac");
        let mut compute = bed.start_empty();
        until("the warm-up server is there", || async { warm_up.join("postgresql.conf").exists() })
            .await;
        compute.signal(Signal::SIGTERM);
        assert_eq!(exit_code(&mut compute).await, Some(1));
        assert_nothing_left(&bed);
        assert!(!warm_up.exists());
    })
    .await;
}

/// Postgres has ended, and the sync after it hangs.
#[tokio::test]
async fn a_signal_cuts_the_sync_after_postgres_own_end() {
    on_one_server(|server| async move {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.wrapper.set_mode(SyncMode::Hang).unwrap();
        let postmaster = nix::unistd::Pid::from_raw(compute.postmaster());
        nix::sys::signal::kill(postmaster, Signal::SIGINT).unwrap();
        until("the sync runs", || async { bed.wrapper.calls().unwrap().len() == 1 }).await;
        compute.signal(Signal::SIGTERM);
        assert_eq!(exit_code(&mut compute).await, Some(1));
        assert_eq!(bed.wrapper.calls().unwrap().len(), 1);
        assert_nothing_left(&bed);
    })
    .await;
}
