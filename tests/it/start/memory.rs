//! Memory of a compute that only watches.

use nix::sys::signal::Signal;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

/// Resident pages of files in KiB, mostly the program's own code.
fn of_files(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

/// Most of the code is used by the start only.
#[tokio::test]
async fn code_is_given_back_after_the_work() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let (pid, after_start) = (compute.pid(), of_files(compute.pid()));
        let smaller = || async { of_files(pid) < after_start * 2 / 3 };
        until("code is given back", smaller).await;
        let body = bed.configure_body();
        assert_eq!(compute.post("/configure", Some(&body)).await.0.as_u16(), 200);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
