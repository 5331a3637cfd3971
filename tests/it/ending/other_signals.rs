//! Signals that do not end a compute, in each of its states and however it was launched: Postgres
//! is never left without its supervisor. SIGHUP reads the configuration again.

use std::fs;

use compute_ctl::dev::pageserver::Fault;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::process::Command;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::network::{HttpStub, Reply, answer};
use crate::support::process::{Compute, DevBed};
use crate::support::server::{IMMORTAL, on_one_server};

/// The first and the last real-time signal, and one between.
const REAL_TIME: [i32; 3] = [34, 50, 64];
/// Of the C library: without effect, and without a line in the log.
const OF_THE_LIBRARY: [i32; 2] = [32, 33];

/// Signals 32 and 33, which glibc ignores in a new process, as bits of a mask.
const OF_THE_C_LIBRARY: u64 = 3 << 31;

/// All that must not end a compute, but SIGHUP.
const HARMLESS: [Signal; 16] = [
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGPIPE,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
    Signal::SIGWINCH,
];

/// How a launcher starts the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Launch {
    Plain,
    Blocked,
    Ignored,
}

impl Launch {
    const ALL: [Self; 3] = [Self::Plain, Self::Blocked, Self::Ignored];

    fn spawn(self, bed: &Bed, args: &[String]) -> Compute {
        let mut env = Command::new("env");
        match self {
            Self::Plain => return Compute::spawn(bed, args, &[]),
            Self::Blocked => env.arg("--block-signal"),
            Self::Ignored => env.arg("--ignore-signal"),
        };
        Compute::spawn_through(bed, env, args)
    }
}

/// Sends all of them and SIGHUP, and waits until the last one was seen.
async fn send_harmless(compute: &mut Compute) {
    let before = compute.count_in_log("received SIGUSR1");
    for signal in HARMLESS.into_iter().chain([Signal::SIGHUP]) {
        compute.signal(signal);
    }
    let pid = compute.pid();
    for number in OF_THE_LIBRARY.into_iter().chain(REAL_TIME) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{number} {pid}")]).status().await;
        assert!(sent.unwrap().success(), "signal {number}");
    }
    compute.wait_for_log_times("received SIGUSR1", before + 1).await;
    compute.wait_for_log_times("received SIGHUP", before + 1).await;
    for number in REAL_TIME {
        compute.wait_for_log_times(&format!("real-time signal {number}"), before + 1).await;
    }
    assert!(compute.is_alive(), "{}", compute.log());
}

#[tokio::test]
async fn while_the_basebackup_is_fetched() {
    on_one_server(|server| async move {
        for launch in Launch::ALL {
            println!("{launch:?}");
            let bed = Bed::new(server.clone()).await;
            bed.pageserver.set_fault(Fault::StallAfter(100_000), None);
            let mut args = bed.base_args();
            args.extend(bed.config_args());
            let mut compute = launch.spawn(&bed, &args);
            until("the basebackup is asked for", || async {
                !bed.pageserver.journal().commands().is_empty()
            })
            .await;
            send_harmless(&mut compute).await;
            assert_eq!(compute.get("/status").await.1["status"], "init");
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert_nothing_left(&bed);
        }
    })
    .await;
}

/// Also what Postgres inherits: no blocked signal, and none that is ignored.
#[tokio::test]
async fn while_it_runs_and_while_it_ends() {
    on_one_server(|server| async move {
        for launch in Launch::ALL {
            println!("{launch:?}");
            let bed = Bed::new(server.clone()).await;
            let inherited = bed.pgdata().with_extension("inherited");
            let note = format!("cat /proc/self/status > {}\n{IMMORTAL}", inherited.display());
            bed.before_server(&note);
            let mut args = bed.base_args();
            args.extend(bed.config_args());
            // So long that only the second signal ends the process.
            args.extend(["--stop-timeout", "600"].map(str::to_owned));
            let mut compute = launch.spawn(&bed, &args);
            bed.wait_running(&mut compute).await;
            let status = fs::read_to_string(inherited).unwrap();
            for key in ["SigBlk:", "SigIgn:"] {
                let mask = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
                let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
                assert_eq!(mask & !OF_THE_C_LIBRARY, 0, "{key} {mask:x}");
            }
            send_harmless(&mut compute).await;
            compute.wait_for_log("the configuration has not changed").await;
            compute.until_status("running").await;

            compute.signal(Signal::SIGTERM);
            compute.wait_for_log("sending SIGINT").await;
            send_harmless(&mut compute).await;
            assert!(!compute.log().contains("sending SIGKILL"), "{}", compute.log());
            until("a second one ends it", || async {
                compute.signal(Signal::SIGTERM);
                compute.log().contains("ending everything at once")
            })
            .await;
            assert_eq!(compute.wait_exit().await.code(), Some(1));
            assert_nothing_left(&bed);
        }
    })
    .await;
}

#[tokio::test]
async fn while_it_is_empty() {
    on_one_server(|server| async move {
        for launch in Launch::ALL {
            println!("{launch:?}");
            let bed = Bed::new(server.clone()).await;
            let config = json!({"compute_ctl_config": {"jwks": {"keys": []}}});
            let config = bed.write("config.json", &config).display().to_string();
            let mut args = bed.base_args();
            args.extend(["--compute-id", "c1", "--config", &config].map(str::to_owned));
            let mut compute = launch.spawn(&bed, &args);
            compute.wait_for("empty").await;
            send_harmless(&mut compute).await;
            compute.wait_for_log("ignored, because the status is empty").await;
            let (code, body) = compute.configure(&bed).await;
            assert_eq!(code.as_u16(), 200, "{body}");
            // The file still has no spec, which must not detach the compute.
            compute.signal(Signal::SIGHUP);
            compute.wait_for_log("ignored, because the configuration file has no spec").await;
            assert_eq!(compute.get("/status").await.1["status"], "running");
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert_nothing_left(&bed);
        }
    })
    .await;
}

#[tokio::test]
async fn while_it_is_reconfigured() {
    on_one_server(|server| async move {
        for launch in Launch::ALL {
            println!("{launch:?}");
            let bed = Bed::new(server.clone()).await;
            let attached = answer(&bed, "attached", bed.spec.spec()).into_bytes();
            let control_plane = HttpStub::start(Reply::Answer(200, attached.clone())).await;
            let mut compute = launch.spawn(&bed, &bed.args_for(&control_plane.url()));
            bed.wait_running(&mut compute).await;
            control_plane.reply(Reply::Answer(200, attached).held());
            // A refresh by SIGHUP asks the control plane, too.
            compute.signal(Signal::SIGHUP);
            control_plane.wait_for(2).await;
            compute.wait_for_log("received SIGHUP").await;
            compute.forget_log();
            send_harmless(&mut compute).await;
            compute.wait_for_log("ignored, because the status is refresh-configuration").await;
            control_plane.release();
            compute.until_status("running").await;
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert_nothing_left(&bed);
        }
    })
    .await;
}

#[tokio::test]
async fn a_hangup_reads_the_file_again() {
    on_one_server(|server| async move {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.spec.set("application_name", "again");
        bed.write("config.json", &bed.spec.config());
        compute.signal(Signal::SIGHUP);
        compute.wait_for_sql("SHOW application_name", "again").await;
        compute.until_status("running").await;

        // A file that cannot be used changes nothing, and the next one is taken.
        let path = bed.write_text("config.json", "{");
        compute.signal(Signal::SIGHUP);
        compute.wait_for_log("the present configuration stays in force").await;
        assert!(compute.log().contains(&path.display().to_string()));
        assert_eq!(compute.get("/status").await.1["status"], "running");
        bed.spec.set("application_name", "mended");
        bed.write("config.json", &bed.spec.config());
        compute.signal(Signal::SIGHUP);
        compute.wait_for_sql("SHOW application_name", "mended").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A failed start shows its error for a while; a SIGHUP does not replace it.
#[tokio::test]
async fn a_hangup_does_not_hide_a_failed_start() {
    on_one_server(|server| async move {
        let mut bed = Bed::new(server).await;
        bed.spec.typed("max_connections", "-1", "integer");
        let mut compute = bed.start();
        let error = compute.wait_for_failure().await;
        compute.signal(Signal::SIGHUP);
        compute.wait_for_log("ignored, because the status is failed").await;
        let status = compute.get("/status").await.1;
        assert_eq!((&status["status"], &status["error"]), (&json!("failed"), &json!(error)));
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// GNU `timeout` signals a process and then its group, and some people press Ctrl-C twice.
#[tokio::test]
async fn two_signals_that_arrive_together_are_one() {
    on_one_server(|server| async move {
        let bed = Bed::new(server.clone()).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        // Both are pending when it continues.
        for signal in [Signal::SIGSTOP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGCONT] {
            compute.signal(signal);
        }
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        compute.assert_logged("which counts as one", 1).await;
        compute.wait_for_log("database system is shut down").await;
        assert_nothing_left(&bed);

        let bed = DevBed::new(server);
        let mut dev = bed.start_kept(&[]);
        dev.sql("CREATE TABLE kept AS SELECT 4711 AS number").await;
        for signal in [Signal::SIGSTOP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGCONT] {
            dev.signal(signal);
        }
        assert_eq!(dev.wait_exit().await.code(), Some(0), "{}", dev.output());
        let mut dev = bed.start_kept(&[]);
        assert_eq!(dev.sql("SELECT number FROM kept").await, "4711");
        assert_eq!(dev.stop(Signal::SIGINT).await, 0, "{}", dev.output());
        bed.assert_nothing_left();
    })
    .await;
}

/// A closed terminal is like Ctrl-C, unless it was started by `nohup`; the others do nothing.
#[tokio::test]
async fn dev_keeps_its_data_when_the_terminal_is_closed() {
    on_one_server(|server| async move {
        let bed = DevBed::new(server);
        let mut dev = bed.start_kept(&[]);
        dev.sql("CREATE TABLE kept AS SELECT 4711 AS number").await;
        for signal in HARMLESS.into_iter().filter(|it| *it != Signal::SIGTSTP) {
            dev.signal(signal);
        }
        assert_eq!(dev.sql("SELECT number FROM kept").await, "4711");
        assert_eq!(dev.stop(Signal::SIGHUP).await, 0, "{}", dev.output());
        bed.assert_nothing_left();

        let mut dev = bed.start_by("env --ignore-signal=HUP", &["--verbose"]);
        assert_eq!(dev.sql("SELECT number FROM kept").await, "4711");
        dev.signal(Signal::SIGHUP);
        dev.printed("received SIGHUP, ").await;
        assert_eq!(dev.sql("SELECT number FROM kept").await, "4711");
        assert_eq!(dev.stop(Signal::SIGINT).await, 0, "{}", dev.output());
        bed.assert_nothing_left();
    })
    .await;
}

/// The mask of the launcher is not the mask of `dev`, whose helpers start before the runtime.
#[tokio::test]
async fn dev_with_all_signals_blocked() {
    on_one_server(|server| async move {
        let bed = DevBed::new(server);
        let mut dev = bed.start_by("env --block-signal --ignore-signal=CHLD,PIPE", &[]);
        dev.sql("SELECT 1").await;
        assert_eq!(dev.stop(Signal::SIGTERM).await, 0, "{}", dev.output());
        bed.assert_nothing_left();
    })
    .await;
}
