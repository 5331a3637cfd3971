//! A Postgres that does not answer the monitor (07 §1.4, 03 §13 T27).

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const CURRENT: &str = "compute_pg_current_downtime_ms";
const TOTAL: &str = "compute_pg_downtime_ms_total";

async fn is_down(compute: &Compute) {
    for _ in 0..2 {
        let before = (compute.metric(CURRENT).await, compute.metric(TOTAL).await);
        until("downtime grows", || async {
            compute.metric(CURRENT).await > before.0 && compute.metric(TOTAL).await > before.1
        })
        .await;
    }
}

async fn is_up(compute: &Compute) {
    until("it is up", || async { compute.metric(CURRENT).await == 0 }).await;
    let total = compute.metric(TOTAL).await;
    compute.wait_for_looks(2).await;
    assert_eq!((compute.metric(CURRENT).await, compute.metric(TOTAL).await), (0, total));
}

#[tokio::test]
async fn the_database_is_gone_and_comes_back() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.without_autovacuum();
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.wait_for_looks(1).await;
        assert_eq!(compute.metric(TOTAL).await, 0);
        let outside = compute.session_in("template1").await;
        outside.batch_execute("DROP DATABASE postgres WITH (FORCE)").await.unwrap();
        is_down(&compute).await;
        compute.wait_for_log("could not connect to Postgres: FATAL").await;
        compute.wait_for_log("downtime_info=\"total_ms: ").await;
        outside.batch_execute("CREATE DATABASE postgres").await.unwrap();
        is_up(&compute).await;
        assert_eq!(compute.last_active().await, None);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_hung_server_is_down() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.without_autovacuum();
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.wait_for_looks(1).await;
        let query = "SELECT pid FROM pg_stat_activity \
                     WHERE application_name = 'compute_ctl:compute_monitor'";
        let backend: i32 = compute.sql_text(query).await.parse().unwrap();
        let signal = |signal| {
            for pid in [compute.postmaster(), backend] {
                // The backend may have ended since.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        };
        signal(Signal::SIGSTOP);
        is_down(&compute).await;
        compute.wait_for_log("could not check Postgres: Postgres did not answer").await;
        signal(Signal::SIGCONT);
        is_up(&compute).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// The monitor's session is closed before Postgres is stopped, so no downtime is counted.
#[tokio::test]
async fn the_end_is_not_downtime() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.without_autovacuum();
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.wait_for_looks(1).await;
        assert_eq!(compute.post("/terminate?mode=fast", None).await.0.as_u16(), 200);
        assert_eq!((compute.metric(CURRENT).await, compute.metric(TOTAL).await), (0, 0));
        assert!(!compute.log().contains("downtime_info"), "{}", compute.log());
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// A configuration that failed leaves Postgres serving, and the monitor at work.
#[tokio::test]
async fn the_monitor_outlives_a_failed_configuration() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.without_autovacuum();
        let mut compute = crate::support::process::running_for_catalog(&mut bed).await;
        compute.run("CREATE ROLE app LOGIN").await;
        bed.spec.role("pg_bad", None);
        compute.apply_fails(&bed).await;
        let app = compute.session_of("app", "postgres").await;
        app.batch_execute("BEGIN").await.unwrap();
        compute.wait_until_active().await;
        drop(app);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
