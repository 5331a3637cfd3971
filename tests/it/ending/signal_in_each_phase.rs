//! SIGTERM while the start is in each of its phases. The loop uses [`Phase::ALL`], so a new phase
//! is either covered or does not compile.

use std::net::TcpListener;
use std::time::Duration;

use compute_ctl::dev::pageserver::Fault;
use compute_ctl::dev::sync_wrapper::SyncMode;
use compute_ctl::node::phase::StartPhase as Phase;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::assertions::{assert_nothing_left, last_position, until};
use crate::support::bed::Bed;
use crate::support::network::free_port;
use crate::support::server::on_one_server;

/// The default `--stop-timeout` and some slack.
const PROMPT: Duration = Duration::from_secs(10);

/// How a test keeps the start in a phase.
enum Hold {
    /// By the stand-ins or the wrapper.
    Storage,
    /// By a stopped postmaster of a killed predecessor, which the daemon must neither leave nor
    /// end.
    Stale(Pid),
    /// By a listener in place of Postgres that sends nothing.
    Silence(#[expect(dead_code, reason = "held")] TcpListener),
    /// Not at all: the phase is too short.
    None,
}

async fn hold(bed: &mut Bed, phase: Phase) -> Hold {
    match phase {
        Phase::StaleProcesses => {
            let mut killed = bed.start();
            killed.wait_for("running").await;
            let postmaster = Pid::from_raw(killed.postmaster());
            killed.signal(Signal::SIGKILL);
            killed.wait_exit().await;
            kill(postmaster, Signal::SIGSTOP).unwrap();
            return Hold::Stale(postmaster);
        }
        Phase::Certificate | Phase::SideServices | Phase::PrepareDirectory => return Hold::None,
        Phase::SafekeeperCheck => {
            bed.safekeepers[0].behave(|safekeeper| safekeeper.delay = 10 * PROMPT);
            bed.wrapper.set_mode(SyncMode::Hang).unwrap();
        }
        Phase::SafekeeperSync => {
            bed.safekeepers[0].behave(|safekeeper| safekeeper.flush_lsn += 8);
            bed.wrapper.set_mode(SyncMode::Hang).unwrap();
        }
        Phase::Basebackup => bed.pageserver.set_fault(Fault::StallAfter(100_000), None),
        Phase::StartPostgres => bed.before_server("cd \"$2\"; exec sleep 86400"),
        Phase::ApplyCatalog => {
            let silence = TcpListener::bind(("127.0.0.1", bed.port)).unwrap();
            // The spec names the port of `--connstr`; a start refuses another one.
            let elsewhere = free_port();
            bed.before_server(&format!("exec \"$real\" \"$@\" -c port={elsewhere}"));
            bed.spec.skip_pg_catalog_updates = false;
            return Hold::Silence(silence);
        }
    }
    Hold::Storage
}

#[tokio::test]
async fn sigterm_in_each_phase() {
    on_one_server(|server| async move {
        for phase in Phase::ALL {
            println!("phase {phase}");
            let mut bed = Bed::new(server.clone()).await;
            let hold = hold(&mut bed, phase).await;
            let mut compute = bed.start_with_env(&[("RUST_LOG", "debug")]);
            compute.wait_for_log(&format!("phase {phase} begins")).await;
            if phase == Phase::SafekeeperSync {
                until("the sync runs", || async { bed.wrapper.calls().unwrap().len() == 1 }).await;
            }
            compute.signal(Signal::SIGTERM);
            let status = compute.wait_exit_within(PROMPT).await;
            assert_eq!(status.code(), Some(1), "{phase}: {status}\n{}", compute.log());
            let log = compute.log();
            let after = &log[last_position(&log, "received SIGTERM")..];
            assert!(!after.contains("starting safekeepers syncing"), "{phase}\n{log}");
            assert!(!after.contains("sending SIGKILL"), "{phase}\n{log}");
            if phase == Phase::ApplyCatalog {
                assert!(after.contains("received fast shutdown request"), "{log}");
            }
            if !matches!(hold, Hold::None) {
                assert!(
                    !log.contains("compute status from init to running"),
                    "{phase} was not held\n{log}"
                );
            }
            if let Hold::Stale(postmaster) = hold {
                kill(postmaster, Signal::SIGKILL).unwrap();
            }
            assert_nothing_left(&bed);
        }
    })
    .await;
}

/// Phases that are too short to be held are met by chance, at any moment from the first instruction
/// on.
#[tokio::test]
async fn sigterm_at_any_moment() {
    on_one_server(|server| async move {
        let bed = Bed::new(server).await;
        for delay in (0..200).step_by(13) {
            let mut compute = bed.start();
            tokio::time::sleep(Duration::from_millis(delay)).await;
            compute.signal(Signal::SIGTERM);
            let status = compute.wait_exit_within(PROMPT).await;
            let log = compute.log();
            if log.contains("received SIGTERM") {
                assert_eq!(status.code(), Some(1), "after {delay} ms\n{log}");
                let after = &log[last_position(&log, "received SIGTERM")..];
                assert!(!after.contains("starting safekeepers syncing"), "after {delay} ms\n{log}");
            } else {
                // The signal came before the handler was installed, and so before anything was
                // begun.
                assert!(!log.contains("starting compute"), "after {delay} ms: {status}\n{log}");
            }
            assert_nothing_left(&bed);
        }
    })
    .await;
}
