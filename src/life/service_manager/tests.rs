use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use super::*;
use crate::node::ComputeParams;
use crate::node::phase::StartPhase;
use crate::os::children::Children;
use crate::state::{Event, TerminateMode};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::LogSink;

/// A manager that reads what it is told.
struct Bed {
    node: Arc<ComputeNode>,
    manager: ServiceManager,
    socket: UnixDatagram,
    _dir: tempfile::TempDir,
}

impl Bed {
    fn new(watchdog: Option<Duration>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let environment = Environment {
            notify_socket: Some(path.into_os_string()),
            watchdog,
            ..Environment::default()
        };
        let log = LogSink::new(std::io::sink()).unwrap();
        let params = ComputeParams::for_tests();
        let metrics = Metrics::new().unwrap();
        let node = ComputeNode::new(params, None, Children::new(), log, metrics).0;
        Self { node, manager: ServiceManager::new(&environment), socket, _dir: dir }
    }

    /// The messages since the last call, without the time of `MONOTONIC_USEC`.
    fn told(&self) -> Vec<String> {
        let mut buffer = [0; 1024];
        let mut told = Vec::new();
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            told.push(match text.split_once("MONOTONIC_USEC=") {
                Some((before, time)) => {
                    let time: u64 = time.parse().unwrap();
                    assert!(time > 0 && time <= notify_socket::monotonic_usec());
                    before.trim_end().to_owned()
                }
                None => text.to_owned(),
            });
        }
        told
    }

    #[track_caller]
    fn tells(&self, expected: &[&str]) {
        self.manager.report(&self.node);
        assert_eq!(self.told(), expected);
    }

    fn apply(&self, events: &[Event]) {
        for event in events {
            self.node.apply(*event).unwrap();
        }
    }
}

#[test]
fn a_pool_compute_is_ready_when_it_serves_and_stays_so() {
    let bed = Bed::new(None);
    bed.tells(&["STATUS=warming up"]);
    bed.manager.serves();
    bed.tells(&["STATUS=no spec yet, waiting for /configure\nREADY=1"]);
    bed.node.begin_start().unwrap();
    bed.tells(&["STATUS=starting"]);
    let phase = bed.node.phase(StartPhase::Basebackup);
    bed.tells(&["STATUS=starting: basebackup"]);
    drop(phase);
    bed.apply(&[Event::Succeeded]);
    bed.tells(&["STATUS=running"]);
    bed.tells(&[]);
}

#[test]
fn reconfigurations_are_reloads_and_the_end_is_announced() {
    let bed = Bed::new(None);
    bed.node.begin_start().unwrap();
    bed.tells(&["STATUS=starting"]);
    bed.apply(&[Event::Succeeded]);
    bed.tells(&["STATUS=running\nREADY=1"]);
    bed.apply(&[Event::Configure]);
    bed.tells(&["STATUS=reconfiguring\nRELOADING=1"]);
    bed.apply(&[Event::BeginConfiguration]);
    bed.node.step("apply_catalog");
    bed.tells(&["STATUS=reconfiguring: apply_catalog"]);
    bed.node.fail("no such role\nand more".to_owned()).unwrap();
    bed.tells(&[
        "STATUS=running with the earlier configuration, the new one failed: no such role\n\
                 READY=1",
    ]);
    bed.apply(&[Event::Refresh, Event::BeginRefresh, Event::Succeeded]);
    bed.tells(&["STATUS=running"]);
    bed.apply(&[Event::Terminate(TerminateMode::Fast)]);
    bed.tells(&["STATUS=ending\nSTOPPING=1"]);
    bed.apply(&[Event::Ended]);
    bed.tells(&[]);
}

/// `systemctl reload` waits for both messages, whatever becomes of the reload.
#[test]
fn every_hangup_is_a_reload_with_an_end() {
    let bed = Bed::new(None);
    bed.node.begin_start().unwrap();
    bed.tells(&["STATUS=starting"]);
    bed.apply(&[Event::Succeeded]);
    bed.tells(&["STATUS=running\nREADY=1"]);

    bed.manager.reload_begins(&bed.node);
    bed.manager.reload_asked(&bed.node, Some("no such file".to_owned()));
    let refused = "running; the last SIGHUP changed nothing: no such file";
    let both = ["STATUS=reconfiguring\nRELOADING=1", &format!("STATUS={refused}\nREADY=1")];
    assert_eq!(bed.told(), both);

    bed.manager.reload_begins(&bed.node);
    bed.apply(&[Event::Refresh]);
    bed.manager.reload_asked(&bed.node, None);
    assert_eq!(bed.told(), ["STATUS=reconfiguring\nRELOADING=1"]);
    bed.apply(&[Event::BeginRefresh, Event::Succeeded]);
    bed.tells(&["STATUS=running\nREADY=1"]);

    bed.apply(&[Event::Terminate(TerminateMode::Fast)]);
    bed.tells(&["STATUS=ending\nSTOPPING=1"]);
    bed.manager.reload_begins(&bed.node);
    bed.tells(&[]);
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let bed = Bed::new(None);
    bed.node.begin_start().unwrap();
    bed.node.fail("no storage".to_owned()).unwrap();
    bed.tells(&["STATUS=the start has failed: no storage"]);
    bed.manager.tick(false);
    assert_eq!(bed.told(), ["EXTEND_TIMEOUT_USEC=30000000"], "it stays for a while");
}

#[test]
fn signs_of_life() {
    let bed = Bed::new(Some(Duration::from_secs(4)));
    bed.manager.tick(false);
    assert_eq!(bed.told(), ["WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000"]);
    bed.manager.tick(true);
    assert_eq!(bed.told(), ["WATCHDOG=1"], "the end after a signal has its own limit");
    bed.node.begin_start().unwrap();
    bed.apply(&[Event::Succeeded]);
    bed.tells(&["STATUS=running\nREADY=1"]);
    bed.manager.tick(false);
    assert_eq!(bed.told(), ["WATCHDOG=1"], "no limit runs");
}

/// The state is not lost when the manager was away for a moment.
#[test]
fn a_lost_message_is_repeated() {
    let bed = Bed::new(None);
    bed.node.begin_start().unwrap();
    let path = bed.socket.local_addr().unwrap().as_pathname().unwrap().to_owned();
    std::fs::rename(&path, path.with_extension("away")).unwrap();
    bed.apply(&[Event::Succeeded]);
    bed.tells(&[]);
    std::fs::rename(path.with_extension("away"), &path).unwrap();
    bed.manager.tick(false);
    assert_eq!(bed.told(), ["STATUS=running\nREADY=1"]);
    bed.manager.tick(false);
    assert_eq!(bed.told(), [""; 0]);
}

/// Time between two signs of life is at most half of the watchdog's.
#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_in_time() {
    let bed = Bed::new(Some(Duration::from_secs(4)));
    let stopped = CancellationToken::new();
    let follow = bed.manager.follow(&bed.node, &stopped);
    let _ = tokio::time::timeout(Duration::from_millis(7_900), follow).await;
    let fed = bed.told().iter().filter(|it| it.contains("WATCHDOG=1")).count();
    assert_eq!(fed, 4);
}
