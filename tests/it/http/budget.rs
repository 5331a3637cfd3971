//! Limits for all clients of a server together: memory for bodies, places for long polls, lines of
//! the log.

use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const STALLED: usize = 600;
/// Less than the internal server's limit of one body.
const BODY: usize = 2_000_000;
/// In KiB.
const LIMIT: u64 = 100 * 1024;

/// A value of `/proc/PID/status`, in KiB.
fn memory(compute: &Compute, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", compute.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sends a body without its end, as far as the server reads it.
async fn stall(port: u16) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "POST /grants HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {BODY}\r\n\r\n"
    );
    // The server may have refused it, or closed the connection to make room.
    if client.write_all(head.as_bytes()).await.is_ok() {
        let piece = vec![b' '; 50_000];
        for _ in 0..BODY / piece.len() - 1 {
            if client.write_all(&piece).await.is_err() {
                break;
            }
        }
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_bodies_take_little_memory() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let before = memory(&compute, "VmRSS");
        let clients: Vec<_> =
            (0..STALLED).map(|_| tokio::spawn(stall(bed.internal_port))).collect();
        compute.wait_for_log("answering 503").await;
        // Ordinary requests are still served.
        let grant = json!({
            "database": "postgres", "schema": "public", "privileges": ["USAGE"], "role": "nobody"
        });
        let (code, answer) = compute.post_internal("/grants", &grant).await;
        assert_ne!(code, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        let mut stalled = Vec::new();
        for client in clients {
            stalled.push(client.await.unwrap());
        }
        let peak = memory(&compute, "VmHWM");
        assert!(peak < LIMIT, "{peak} KiB at most, {before} KiB before");
        drop(stalled);
        let (code, answer) = compute.post_internal("/grants", &grant).await;
        assert_ne!(code, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        let after = memory(&compute, "VmRSS");
        println!("before {before} KiB, at most {peak} KiB, after {after} KiB");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Heaps that glibc makes for threads: each begins at a multiple of its size of 64 MiB.
fn heaps_of_threads(compute: &Compute) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", compute.pid())).unwrap();
    let begins = maps.lines().filter_map(|line| {
        let (place, rest) = line.split_once(' ')?;
        let begin = u64::from_str_radix(place.split_once('-')?.0, 16).ok()?;
        (rest.starts_with("rw-p") && rest.trim_end().ends_with(" 0")).then_some(begin)
    });
    begins.filter(|begin| begin.is_multiple_of(64 << 20)).count()
}

/// Kept connections, a request on each.
#[tokio::test(flavor = "multi_thread")]
async fn memory_of_a_burst_of_connections_is_given_back() {
    const CONNECTIONS: usize = 900;
    /// In KiB: what a burst takes at least, and what may be left of it.
    const BURST: u64 = 8 * 1024;
    const LEFT: u64 = 3 * 1024;
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let before = memory(&compute, "RssAnon");
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = TcpStream::connect(("127.0.0.1", bed.external_port)).await.unwrap();
            client.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            client.read_exact(&mut [0; 15]).await.unwrap();
            clients.push(client);
        }
        let peak = memory(&compute, "RssAnon");
        assert!(peak > before + BURST, "{peak} KiB at most, {before} KiB before");
        // One beside that of the whole process, however many threads there were.
        assert!(heaps_of_threads(&compute) <= 1, "a thread has its own");
        drop(clients);
        until("the memory is given back", || async { memory(&compute, "RssAnon") < before + LEFT })
            .await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A stranger without a token chooses the path, the method, the request's id and its other headers.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_writes_little_into_the_log() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let long = "LONG".repeat(5_000);
        for (server, what) in
            [(compute.external.clone(), "external"), (compute.internal.clone(), "internal")]
        {
            for (method, path) in [
                ("GET", format!("/{long}")),
                ("GET", format!("/status?wait={long}")),
                ("POST", format!("/terminate?mode={long}")),
                ("POST", format!("/extension_server/{long}?is_library={long}")),
                (&*format!("X{}", &long[..1000]), "/status".to_owned()),
            ] {
                let before = compute.log().len();
                let requests = compute.count_in_log("latency=");
                let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
                let request = compute.http.request(method, format!("{server}{path}"));
                let request = request.header("x-request-id", &long[..5_000]);
                let request = request.header("user-agent", &long[..5_000]);
                let answer = request.timeout(Duration::from_secs(60)).send().await.unwrap();
                let id = answer.headers()["x-request-id"].as_bytes();
                assert_eq!(id.len(), 36, "a fresh one");
                compute.wait_for_log_times("latency=", requests + 1).await;
                let log = compute.log();
                let new = &log[before..];
                assert!(new.len() < 3000, "{what} {path:.20}: {} bytes: {new}", new.len());
                let most = new.split(|c: char| !"LONG".contains(c)).map(str::len).max();
                assert!(most <= Some(256), "{most:?}: {new}");
            }
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
