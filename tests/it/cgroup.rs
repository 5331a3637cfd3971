//! In an autoscaling VM Postgres and the sync run in the cgroup (01 §19.1).

use compute_ctl::os::procs;
use nix::sys::signal::Signal;

use crate::support::{Bed, Compute, assert_nothing_left, on_one_server, put_program};

#[tokio::test]
async fn the_server_and_the_sync_are_started_through_cgexec() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let (bin, journal) = (bed.dir().join("bin"), bed.dir().join("pg/cgexec.journal"));
        let note = format!("echo \"$@\" >> {}\nshift 2\nexec \"$@\"", journal.display());
        put_program(&bin.join("cgexec"), &note);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        line.extend(["--vm-monitor-addr", "127.0.0.1:0"].map(str::to_owned));
        let env = [("PATH", path.as_str()), ("AUTOSCALING", "")];
        let mut compute = Compute::spawn(&bed, &line, &env);
        bed.wait_running(&mut compute).await;
        // It has replaced itself by the program, so the process known is Postgres.
        assert_eq!(procs::get(compute.postmaster()).unwrap().ppid, compute.pid());
        let (code, body) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(code, 200, "{body}");
        assert_eq!(compute.wait_exit().await.code(), Some(0));

        let calls = std::fs::read_to_string(journal).unwrap();
        let (postgres, pgdata) = (bed.pgbin.display(), bed.pgdata());
        let group = "-g memory:neon-postgres";
        let server = format!("{group} {postgres} -D {}", pgdata.display());
        assert_eq!(calls.matches(&server).count(), 1, "{calls}");
        assert!(calls.contains(&format!("{group} {postgres} --sync-safekeepers")), "{calls}");
        assert_nothing_left(&bed);
    })
    .await;
}

/// Without `cgexec` the start fails with a sentence that names it.
#[tokio::test]
async fn without_cgexec_the_error_names_it() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let empty = bed.dir().join("empty");
        std::fs::create_dir(&empty).unwrap();
        let path = empty.display().to_string();
        let mut compute = bed.start_with_env(&[("PATH", &path), ("AUTOSCALING", "1")]);
        let error = compute.wait_for_failure().await;
        assert!(error.contains("cgexec"), "{error}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
