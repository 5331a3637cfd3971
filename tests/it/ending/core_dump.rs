//! Core dumps of a crash are inspected before the process ends (01 §18.6).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use compute_ctl::dev::sync_wrapper::SyncMode;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, may_mount, private_mount, put, put_program};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// A folder with debuggers, first in a compute's PATH; the rest of PATH only if wanted.
fn start(bed: &Bed, debuggers: &[(&str, &str)], path: &str) -> Compute {
    let bin = bed.dir().join("bin");
    fs::create_dir(&bin).unwrap();
    for (name, script) in debuggers {
        put_program(&bin.join(name), script);
    }
    bed.start_with_env(&[("PATH", &format!("{}{path}", bin.display()))])
}

fn leave_core(bed: &Bed, name: &str) -> PathBuf {
    let core = bed.pgdata().join(name);
    put(&core, "not really");
    core
}

async fn terminate(compute: &mut Compute) {
    let (code, body) = compute.post("/terminate?mode=immediate", None).await;
    assert_eq!(code, 200, "{body}");
    assert_eq!(compute.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn gdb_is_asked_about_each_core() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let gdb = "echo \"called: $@\"; echo 'cannot read symbols' >&2";
        let mut compute = start(&bed, &[("gdb", gdb)], ":/usr/bin:/bin");
        bed.wait_running(&mut compute).await;
        let cores = [leave_core(&bed, "core"), leave_core(&bed, "core.123")];
        leave_core(&bed, "score");
        terminate(&mut compute).await;
        let log = compute.log();
        for core in cores {
            let (postgres, core) = (bed.pgbin.display(), core.display());
            let found = format!("core dump found: {core}, collecting backtrace\n");
            assert!(log.contains(&found), "{log}");
            let line =
                format!("core dump backtrace: called: --batch -q -ex bt {postgres} {core}\n");
            assert!(log.contains(&line), "{log}");
        }
        assert_eq!(log.matches("debugger stderr: cannot read symbols").count(), 2, "{log}");
        // The answer to /terminate does not wait for a debugger.
        let reached = log.find("to terminated").unwrap();
        assert!(reached < log.find("core dump found").unwrap(), "{log}");
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn lldb_without_gdb_and_neither_of_them_is_fine() {
    on_one_server(|server| async move {
        for debugger in [Some("lldb"), None] {
            let bed = Bed::new(server.clone()).await;
            let fake = debugger.map(|name| (name, "echo \"called: $@\""));
            // Only the programs that the wrapped server needs, and no debugger of this machine.
            let tools = bed.dir().join("tools");
            fs::create_dir(&tools).unwrap();
            for tool in ["cat", "ls", "sed", "grep", "sh"] {
                let path = ["/bin", "/usr/bin"].map(|bin| PathBuf::from(bin).join(tool));
                let path = path.iter().find(|path| path.exists()).unwrap();
                std::os::unix::fs::symlink(path, tools.join(tool)).unwrap();
            }
            let mut compute = start(&bed, fake.as_slice(), &format!(":{}", tools.display()));
            bed.wait_running(&mut compute).await;
            let core = leave_core(&bed, "core.7");
            terminate(&mut compute).await;
            let expected = match debugger {
                Some(_) => {
                    let core = core.display();
                    format!("backtrace: called: -c {core} --batch -o bt all -o quit\n")
                }
                None => "there is neither gdb nor lldb on this machine".to_owned(),
            };
            compute.wait_for_log(&expected).await;
            assert_nothing_left(&bed);
        }
    })
    .await;
}

/// Makes `/databricks/logs/brickstore` of the folder `cores`, by giving the compute a root directory
/// in which everything else is where it was.
fn with_core_folder(bed: &Bed) -> String {
    format!(
        "d='{}'; mount -t tmpfs tmpfs \"$d/root\"; for e in /*; do \
           if [ -h \"$e\" ]; then cp -a \"$e\" \"$d/root$e\"; \
           elif [ -d \"$e\" ]; then mkdir \"$d/root$e\"; mount --rbind \"$e\" \"$d/root$e\"; fi; \
         done; mkdir \"$d/root/databricks\"; mkdir -p \"$d/root/databricks/logs/brickstore\"; \
         mount --bind \"$d/cores\" \"$d/root/databricks/logs/brickstore\"",
        bed.dir().display()
    )
}

/// In Lakebase mode they are in a folder that the next start does not wipe, so the newest of them
/// come first; those in PGDATA mean nothing.
#[tokio::test]
async fn lakebase_mode_has_a_folder_for_them() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let root = bed.dir().join("root");
        for folder in [&root, &bed.dir().join("cores")] {
            fs::create_dir(folder).unwrap();
        }
        if !may_mount(&with_core_folder(&bed)).await {
            return;
        }
        let now = std::time::SystemTime::now();
        for (name, age) in
            [("core.1", 4), ("core.2", 3), ("core.3", 2), ("core.4", 1), ("score", 0)]
        {
            let path = bed.dir().join("cores").join(name);
            put(&path, "not really");
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        put_program(&bed.dir().join("bin/gdb"), "echo \"called: $@\"");
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        line.extend(["--lakebase-mode", "true"].map(str::to_owned));
        for there in [true, false] {
            let mut program = private_mount(&with_core_folder(&bed));
            let logs = bed.dir().join("logs");
            program.env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bed.dir().join("bin").display()),
            );
            program.env("COMPUTE_CTL_LOG_DIRECTORY", logs).arg("chroot").arg(&root);
            if !there {
                program.args([
                    "sh",
                    "-c",
                    "umount /databricks/logs/brickstore; \
                    rmdir /databricks/logs/brickstore; exec \"$@\"",
                    "sh",
                ]);
            }
            let mut compute = Compute::spawn_through(&bed, program, &line);
            compute.wait_for("running").await;
            leave_core(&bed, "core.9");
            terminate(&mut compute).await;
            let log = compute.log();
            let folder = "/databricks/logs/brickstore";
            assert!(!log.contains("core.9"), "{log}");
            if there {
                let found = log
                    .match_indices("core dump found: ")
                    .map(|(at, text)| log[at + text.len()..].split_once(',').unwrap().0.to_owned());
                let found: Vec<_> = found.collect();
                assert_eq!(found, [4, 3, 2, 1].map(|number| format!("{folder}/core.{number}")));
                assert_eq!(log.matches("core dump backtrace: called: ").count(), 3, "{log}");
            } else {
                let error = format!("error while checking for core dumps: {folder}: ");
                assert_eq!(log.matches(&error).count(), 1, "{log}");
            }
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// Postgres never ran; the sync before it did.
#[tokio::test]
async fn a_sync_that_crashes_leaves_one_too() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.safekeepers[0].behave(|it| it.unknown_timeline = true);
        bed.wrapper.set_mode(SyncMode::Exit(1)).unwrap();
        let mut compute = start(&bed, &[("gdb", "echo \"called: $@\"")], ":/usr/bin:/bin");
        compute.wait_for_log("will retry (attempt 1)").await;
        let core = leave_core(&bed, "core");
        bed.wrapper.set_mode(SyncMode::Garbage).unwrap();
        compute.wait_for_failure().await;
        compute.wait_for_log(&format!("-ex bt {} {}", bed.pgbin.display(), core.display())).await;
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// The control plane gives the process 10 s from Postgres' stop (01 §18.4).
#[tokio::test]
async fn a_debugger_that_hangs_is_ended_in_time() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let gdb = format!("cd {}; sleep 1000", bed.dir().display());
        let mut compute = start(&bed, &[("gdb", &gdb)], ":/usr/bin:/bin");
        bed.wait_running(&mut compute).await;
        for name in ["core.1", "core.2", "core.3"] {
            leave_core(&bed, name);
        }
        let began = Instant::now();
        terminate(&mut compute).await;
        assert!(began.elapsed() < Duration::from_secs(20), "one limit for all of them");
        compute.wait_for_log("`gdb` did not end within").await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// The machine's settings decide whether a process that crashes in PGDATA leaves a core there.
#[tokio::test]
async fn a_real_crash_leaves_its_backtrace() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if !pattern.starts_with("core") {
        println!("skipped: cores of this machine go to {pattern}");
        return;
    }
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = start(&bed, &[("gdb", "echo \"called: $@\"")], ":/usr/bin:/bin");
        bed.wait_running(&mut compute).await;
        if !compute.log().contains("core dumps are unlimited") {
            println!("skipped: no core dumps for this user");
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            return;
        }
        kill(Pid::from_raw(compute.postmaster()), Signal::SIGSEGV).unwrap();
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        let log = compute.log();
        assert!(log.contains("core dump found: "), "{log}");
        assert!(log.contains("core dump backtrace: called: --batch -q -ex bt "), "{log}");
        assert_nothing_left(&bed);
    })
    .await;
}
