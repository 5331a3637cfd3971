//! In an autoscaling VM Postgres, the sync and the warm-up run in the cgroup (01 §19.1).

use std::path::PathBuf;

use compute_ctl::os::procs;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, put_program};
use crate::support::process::{Compute, Marked, try_start};
use crate::support::server::on_one_server;

const GROUP: &str = "-g memory:neon-postgres";

/// A folder in PATH with a `cgexec` that records its calls.
struct Cgexec {
    path: String,
    journal: PathBuf,
}

impl Cgexec {
    fn put(bed: &Bed) -> Self {
        let (bin, journal) = (bed.dir().join("bin"), bed.dir().join("pg/cgexec.journal"));
        let note = format!("echo \"$@\" >> {}\nshift 2\nexec \"$@\"", journal.display());
        put_program(&bin.join("cgexec"), &note);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        Self { path, journal }
    }

    fn start(&self, bed: &Bed, config: Vec<String>) -> Compute {
        let mut line = [bed.base_args(), config].concat();
        line.extend(["--vm-monitor-addr", "127.0.0.1:0"].map(str::to_owned));
        Compute::spawn(bed, &line, &[("PATH", &self.path), ("AUTOSCALING", "")])
    }

    /// How often it started Postgres with these arguments.
    fn calls(&self, bed: &Bed, arguments: &str) -> usize {
        let calls = std::fs::read_to_string(&self.journal).unwrap();
        let call = format!("{GROUP} {} {arguments}", bed.pgbin.display());
        calls.lines().filter(|line| *line == call).count()
    }
}

#[tokio::test]
async fn the_server_and_both_syncs_are_started_through_cgexec() {
    on_one_server(|server| async {
        let bed = Bed::with_safekeepers(server, 3).await;
        // The safekeepers do not agree, so the start needs a sync as well.
        bed.safekeepers.iter().for_each(|it| it.behave(|it| it.commit_lsn -= 8));
        let cgexec = Cgexec::put(&bed);
        let mut compute = cgexec.start(&bed, bed.config_args());
        compute.wait_for("running").await;
        assert_eq!(cgexec.calls(&bed, "--sync-safekeepers"), 1);
        // `cgexec` has exec'ed the program, so the registered process is Postgres.
        assert_eq!(procs::get(compute.postmaster()).unwrap().ppid, compute.pid());
        let (code, body) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(code, 200, "{body}");
        assert_eq!(compute.wait_exit().await.code(), Some(0));

        assert_eq!(cgexec.calls(&bed, &format!("-D {}", bed.pgdata().display())), 1);
        assert_eq!(cgexec.calls(&bed, "--sync-safekeepers"), 2);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The memory that the warm-up uses belongs to the cgroup.
#[tokio::test]
async fn the_warm_up_is_started_through_cgexec() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let cgexec = Cgexec::put(&bed);
        let config = json!({"compute_ctl_config": {"jwks": {"keys": []}}});
        let config = bed.write("config.json", &config).display().to_string();
        let config = ["--compute-id", "c1", "--config", &config].map(str::to_owned);
        let mut compute = cgexec.start(&bed, config.into());
        compute.wait_for("empty").await;
        compute.wait_for_log("warm-up took").await;
        assert_eq!(cgexec.calls(&bed, &format!("-D {}.warmup", bed.pgdata().display())), 1);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Found out before anything is touched.
#[tokio::test]
async fn without_cgexec_the_error_names_it() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let bin = bed.dir().join("bin");
        std::fs::create_dir(&bin).unwrap();
        // It cannot be executed.
        std::fs::write(bin.join("cgexec"), "").unwrap();
        let path = bin.display().to_string();
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        let refusal = try_start(&bed, &line, &[("PATH", &path), ("AUTOSCALING", "")]).await;
        for part in ["AUTOSCALING", "`cgexec`", "PATH"] {
            assert!(refusal.error().contains(part), "{}", refusal.stderr);
        }
        marked.assert_untouched();
        assert_eq!(bed.pageserver.journal().connections(), 0);
        assert_nothing_left(&bed);
    })
    .await;
}
