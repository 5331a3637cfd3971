//! Processes whose parent has ended become children of the daemon, as PID 1 of a container or as
//! subreaper, and are reaped without taking the status of its own children (01 §24 no. 42).

use compute_ctl::os::procs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tokio::process::Command;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// The command of the orphan, which no other process has.
const ORPHAN: &str = "sleep 76.543";

fn children(parent: i32) -> Vec<procs::Process> {
    procs::all().unwrap().into_iter().filter(|p| p.ppid == parent).collect()
}

fn is_orphan(pid: i32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim_end() == ORPHAN
}

/// Lets a backend start a program that outlives its parent, and waits until `daemon` has inherited
/// and reaped it.
async fn an_orphan_is_reaped(compute: &Compute, daemon: i32) {
    let program = format!("{ORPHAN} >/dev/null 2>&1 & cat >/dev/null");
    let copy = format!("COPY (SELECT 1) TO PROGRAM '{program}'");
    compute.sql().await.batch_execute(&copy).await.unwrap();
    let find = || children(daemon).into_iter().find(|p| is_orphan(p.pid));
    until("the daemon has inherited the orphan", || async { find().is_some() }).await;
    let orphan = find().unwrap().pid;
    kill(Pid::from_raw(orphan), Signal::SIGKILL).unwrap();
    until("the orphan is reaped", || async move { procs::get(orphan).is_none() }).await;
}

/// When the postmaster ends, the daemon inherits all its backends at once. The driver must still
/// get the postmaster's status, and that of the sync after it.
async fn a_killed_postmaster_is_noticed(bed: &Bed, compute: &mut Compute, daemon: i32) {
    let postmaster = children(daemon).into_iter().find(|p| procs::runs_program(p.pid, "postgres"));
    kill(Pid::from_raw(postmaster.unwrap().pid), Signal::SIGKILL).unwrap();
    compute.wait_for_any(&["terminated"]).await;
    compute.wait_for_log("signal: 9 (SIGKILL)").await;
    let zombies = || children(daemon).into_iter().filter(|p| p.zombie).count();
    until("there are no zombies", || async { zombies() == 0 }).await;
    assert_eq!(bed.wrapper.calls().unwrap().len(), 1, "the sync's status was not stolen either");
}

#[tokio::test]
async fn as_a_subreaper() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let daemon = compute.pid();
        an_orphan_is_reaped(&compute, daemon).await;
        assert!(compute.zombies().is_empty());
        a_killed_postmaster_is_noticed(&bed, &mut compute, daemon).await;
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        assert_nothing_left(&bed);
    })
    .await;
}

/// Only root can make a PID namespace.
#[tokio::test]
async fn as_pid_1() {
    if !geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut namespace = Command::new("unshare");
        namespace.args(["--fork", "--pid", "--mount-proc", "--kill-child"]);
        let mut args = bed.base_args();
        args.extend(bed.config_args());
        let mut compute = Compute::spawn_through(&bed, namespace, &args);
        bed.wait_running(&mut compute).await;
        let daemon = children(compute.pid()).first().unwrap().pid;
        let status = std::fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
        let numbers = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
        assert_eq!(numbers.split_whitespace().last(), Some("1"), "{numbers}");
        an_orphan_is_reaped(&compute, daemon).await;
        assert!(children(daemon).iter().all(|child| !child.zombie));
        a_killed_postmaster_is_noticed(&bed, &mut compute, daemon).await;
        // `unshare` ends with the code of the daemon.
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        assert_nothing_left(&bed);

        // A signal also ends a PID 1, which has no default handlers.
        let mut namespace = Command::new("unshare");
        namespace.args(["--fork", "--pid", "--mount-proc", "--kill-child"]);
        let mut compute = Compute::spawn_through(&bed, namespace, &args);
        bed.wait_running(&mut compute).await;
        let daemon = children(compute.pid()).first().unwrap().pid;
        kill(Pid::from_raw(daemon), Signal::SIGTERM).unwrap();
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        compute.wait_for_log("database system is shut down").await;
        assert_nothing_left(&bed);
    })
    .await;
}
