//! Clients that connect and stall (issue: ten thousand of them do not stop `/status`).

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use tokio::process::Command;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const STALLED: u64 = 10_000;

/// Descriptors of this process that are left to tests running at the same time.
const SPARE: u64 = 4_000;

/// As many connections as this process may open, up to the given number.
fn affordable() -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    STALLED.min(hard.saturating_sub(SPARE))
}

/// Connections that have sent one byte.
fn stall(port: u16, count: u64) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // The server may have closed it already to make room.
        let _ = stream.write_all(b"G");
        stream
    };
    (0..count).map(connect).collect()
}

/// Each request uses its own connection, like a new client.
async fn assert_answers(compute: &Compute) {
    for path in ["/status", "/metrics", "/live"] {
        let fresh = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        let answer = fresh.get(format!("{}{path}", compute.external)).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error:?}\n{}", compute.log()));
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_them_do_not_keep_others_out() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let count = affordable();
        let mut stalled = Vec::new();
        for _ in 0..5 {
            stalled.extend(stall(bed.external_port, count / 5));
            assert_answers(&compute).await;
        }
        // The server closed the first ones to make room: the client sees an end, or a reset.
        let mut first = stalled.swap_remove(0);
        first.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        match first.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}"),
        }
        // A client that keeps sending requests on one connection keeps it: a busy one is never
        // closed.
        assert_answers(&compute).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        drop(stalled);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A process that may open few descriptors: it keeps most of them for Postgres and storage, starts
/// although clients stall from the first moment on, and answers.
#[tokio::test(flavor = "multi_thread")]
async fn few_descriptors() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut through = Command::new("prlimit");
        through.arg("--nofile=128:128");
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        let mut compute = Compute::spawn_through(&bed, through, &line);
        compute.wait_for_log("HTTP servers are listening").await;
        let external = stall(bed.external_port, 200);
        let internal = stall(bed.internal_port, 200);
        assert_answers(&compute).await;
        compute.wait_for("running").await;
        assert_answers(&compute).await;
        compute.wait_for_log("128 descriptors may be open").await;
        let refresh = format!("{}/refresh_configuration", compute.internal);
        assert_eq!(compute.http.post(refresh).send().await.unwrap().status(), StatusCode::OK);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        drop((external, internal));
        assert_nothing_left(&bed);
    })
    .await;
}

/// The soft limit is raised to what is allowed.
#[tokio::test]
async fn the_descriptor_limit_is_raised() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut through = Command::new("prlimit");
        through.arg("--nofile=200:4096");
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        let mut compute = Compute::spawn_through(&bed, through, &line);
        compute.wait_for("running").await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", compute.pid())).unwrap();
        let open_files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<_> = open_files.split_whitespace().filter(|it| *it == "4096").collect();
        assert_eq!(numbers.len(), 2, "{open_files}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
