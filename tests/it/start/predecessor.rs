//! Another compute_ctl on the same PGDATA: while it lives it keeps all others out; if it was
//! killed, its Postgres must be ended first.

use std::path::PathBuf;

use compute_ctl::os::procs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, hand_over, names, put};
use crate::support::process::try_start;
use crate::support::server::on_one_server;

#[tokio::test]
async fn a_second_compute_ctl_is_refused() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut first = bed.start();
        first.wait_for("running").await;
        let (postmaster, before) = (first.postmaster(), names(&bed.pgdata()));

        bed.take_other_http_ports();
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        let refusal = try_start(&bed, &line, &[]).await;
        let error = refusal.error();
        assert!(error.contains("another compute_ctl"), "{error}");
        assert!(error.contains(&bed.pgdata().display().to_string()), "{error}");
        line.push("--force-wipe".to_owned());
        let refusal = try_start(&bed, &line, &[]).await;
        assert!(refusal.error().contains("another compute_ctl"), "{}", refusal.stderr);

        assert_eq!(first.postmaster(), postmaster);
        assert_eq!(names(&bed.pgdata()), before);
        assert_eq!(first.sql_text("SELECT 40 + 2").await, "42");
        let (_, status) = first.get("/status").await;
        assert_eq!(status["status"], "running");
        assert_eq!(first.stop(Signal::SIGTERM).await, 1);

        // A clean end releases the lock.
        let mut second = bed.start();
        second.wait_for("running").await;
        assert_eq!(second.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn the_postgres_of_a_killed_predecessor_is_stopped() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut first = bed.start();
        first.wait_for("running").await;
        let old = first.postmaster();
        let session = first.sql().await;
        put(&bed.pgdata().join("base/marker"), "old");
        first.signal(Signal::SIGKILL);
        assert_eq!(first.wait_exit().await.code(), None);
        assert!(procs::get(old).is_some_and(|p| !p.zombie), "Postgres ended with its supervisor");

        let mut second = bed.start();
        second.wait_for("running").await;
        assert!(procs::get(old).is_none_or(|p| p.zombie), "still alive");
        assert_ne!(second.postmaster(), old);
        second.wait_for_log("killed predecessor left behind").await;
        assert!(!bed.pgdata().join("base/marker").exists());
        assert!(session.simple_query("SELECT 1").await.is_err(), "the old session goes on");
        assert_eq!(second.sql_text("SELECT 40 + 2").await, "42");
        assert_eq!(second.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A postmaster that reacts to SIGKILL only, and one that was killed while its backends were not:
/// both are gone before PGDATA is wiped.
#[tokio::test]
async fn stubborn_leftovers_are_killed() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut first = bed.start();
        first.wait_for("running").await;
        let old = first.postmaster();
        first.signal(Signal::SIGKILL);
        first.wait_exit().await;
        kill(Pid::from_raw(old), Signal::SIGSTOP).unwrap();
        let safekeeper = &bed.safekeepers[0];
        safekeeper.journal().clear();
        bed.pageserver.journal().clear();

        let mut second = bed.start();
        // It writes until it is gone, also after the first request to the safekeepers.
        eventually("safekeepers are asked", || !safekeeper.journal().commands().is_empty()).await;
        safekeeper.set_lsn(0x200_0028);
        // If the machine is too busy for the quick check, the LSN comes from the sync.
        bed.wrapper.set_lsn(0x200_0028).unwrap();
        second.wait_for("running").await;
        assert!(procs::get(old).is_none_or(|p| p.zombie), "still alive");
        assert_eq!(second.sql_text("SELECT 40 + 2").await, "42");
        let commands = bed.pageserver.journal().commands();
        assert!(commands[0].contains(" 0/2000028 "), "the LSN is too old: {commands:?}");

        // Backends without a postmaster, stopped so that they do not notice.
        let old = second.postmaster();
        second.signal(Signal::SIGKILL);
        second.wait_exit().await;
        let all = procs::all().unwrap();
        let stop = |pid: i32| kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok();
        // A backend whose session has just ended may be gone.
        let of_old = all.iter().filter(|p| p.ppid == old && stop(p.pid));
        let backends: Vec<i32> = of_old.map(|p| p.pid).collect();
        assert!(backends.len() > 1, "{backends:?}");
        kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();

        let mut third = bed.start();
        third.wait_for("running").await;
        for pid in backends {
            assert!(procs::get(pid).is_none_or(|p| p.zombie), "{pid} is still alive");
        }
        assert_eq!(third.sql_text("SELECT 40 + 2").await, "42");
        eventually("no zombie is left", || third.zombies().is_empty()).await;
        assert_eq!(third.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A postmaster that was killed leaves lock files, and is a zombie until its parent reaps it; Postgres
/// takes a zombie as alive.
#[tokio::test]
async fn the_lock_files_of_a_zombie_do_not_stop_a_start() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut first = bed.start();
        first.wait_for("running").await;
        let text = bed.pgdata_text("postmaster.pid");
        assert_eq!(first.stop(Signal::SIGTERM).await, 1);

        #[expect(clippy::disallowed_methods, reason = "nothing may reap it")]
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(dead.id()).unwrap();
        eventually("it has ended", || procs::get(pid).is_some_and(|p| p.zombie)).await;
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines[0] = pid.to_string();
        let text = lines.join("\n") + "\n";
        put(&bed.pgdata().join("postmaster.pid"), &text);
        let socket = PathBuf::from(&lines[4]).join(format!(".s.PGSQL.{}.lock", lines[3]));
        put(&socket, &text);
        hand_over(&socket);

        let mut second = bed.start();
        second.wait_for("running").await;
        second.wait_for_log("left by a zombie").await;
        assert_eq!(second.stop(Signal::SIGTERM).await, 1);
        dead.wait().unwrap();
        assert_nothing_left(&bed);
    })
    .await;
}
