//! Limits on clients, over real sockets: the server makes room for the next client, and every wait
//! has an end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::bed::{Answer, Api};
use crate::http::HttpLimits;
use crate::server::ServerLimits;
use crate::state::Event;

/// Far longer than any test here takes.
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(api: &Api) -> TcpStream {
    TcpStream::connect(("127.0.0.1", api.external_port)).await.unwrap()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    matches!(read, Ok(0) | Err(_))
}

/// Sends a request on a kept connection and reads the head of the answer.
async fn request(stream: &mut TcpStream, head: &str) -> String {
    stream.write_all(format!("{head}host: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_longest_idle_connection_makes_room() {
    let api = Api::start_within(ServerLimits { connections: 2, ..ServerLimits::default() });
    let mut stalled = connect(&api).await;
    stalled.write_all(b"G").await.unwrap();
    let mut kept = connect(&api).await;
    assert_eq!(request(&mut kept, "HEAD /metrics HTTP/1.1\r\n").await, "HTTP/1.1 200");
    let answer = Answer::of(api.client.get(api.external("/metrics"))).await;
    assert_eq!(answer.code, 200);
    assert!(is_closed(&mut stalled).await);
    // The kept connection was idle for a shorter time.
    kept.write_all(b"HEAD /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut rest = String::new();
    timeout(PATIENCE, kept.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest.matches("x-request-id").count(), 2, "{rest}");
}

/// A request in progress is not dropped for others; after it ends, its connection makes room.
#[tokio::test]
async fn a_busy_connection_stays() {
    let api = Api::start_within(ServerLimits { connections: 1, ..ServerLimits::default() });
    let mut waiting = connect(&api).await;
    let token = &api.token;
    let head = format!(
        "HEAD /status?wait=running&timeout=5m HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    waiting.write_all(head.as_bytes()).await.unwrap();
    let later = tokio::spawn({
        let request = api.client.get(api.external("/metrics"));
        async move { Answer::of(request).await.code }
    });
    // Long enough for the server to look for room more than once.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!later.is_finished());
    api.node.begin_start().unwrap();
    api.node.apply(Event::Succeeded).unwrap();
    let mut answer = vec![0; 12];
    timeout(PATIENCE, waiting.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    assert_eq!(timeout(PATIENCE, later).await.unwrap().unwrap(), 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let short = Duration::from_millis(50);
    let api = Api::start_within(ServerLimits { idle: short, ..ServerLimits::default() });
    let mut kept = connect(&api).await;
    assert_eq!(request(&mut kept, "HEAD /metrics HTTP/1.1\r\n").await, "HTTP/1.1 200");
    let mut rest = Vec::new();
    timeout(PATIENCE, kept.read_to_end(&mut rest)).await.unwrap().unwrap();
}

/// A kept connection outlives the limit for a head, the head of its next request does not.
#[tokio::test]
async fn a_trickled_head_ends_a_kept_connection() {
    let header_read = Duration::from_millis(500);
    let api = Api::start_within(ServerLimits { header_read, ..ServerLimits::default() });
    let mut kept = connect(&api).await;
    for _ in 0..2 {
        kept.write_all(b"HEAD /live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(PATIENCE, kept.read_u8()).await.unwrap().unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
        // The subject is the time that passes.
        tokio::time::sleep(2 * header_read).await;
    }
    let began = std::time::Instant::now();
    kept.write_all(b"HEAD /live HT").await.unwrap();
    assert!(is_closed(&mut kept).await);
    assert!(began.elapsed() >= header_read);
}

/// Common clients keep an idle connection for 90 s.
#[test]
fn idle_connections_outlive_the_clients_patience() {
    let limits = ServerLimits::default();
    assert!(
        limits.idle >= Duration::from_secs(120) && limits.header_read <= Duration::from_secs(60)
    );
}

#[tokio::test]
async fn a_body_that_stops_is_answered() {
    let body_idle = Duration::from_millis(50);
    let api = Api::start_with(HttpLimits { body_idle, ..HttpLimits::default() });
    let mut slow = connect(&api).await;
    let head = format!(
        "POST /configure HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 10\r\n\r\n{{",
        api.token
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, slow.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

/// The system resets a client that sends requests and never reads the answers.
#[tokio::test]
async fn unread_answers_end_the_connection() {
    let unread = Duration::from_millis(100);
    let api = Api::start_within(ServerLimits { unread, ..ServerLimits::default() });
    let mut greedy = connect(&api).await;
    let requests = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let flood = async { while greedy.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, flood).await.unwrap();
    assert_eq!(Answer::of(api.client.get(api.external("/metrics"))).await.code, 200);
}

/// Requests that wait behind unread answers do not count as in progress.
#[tokio::test]
async fn unread_answers_keep_no_seat() {
    let api = Api::start_within(ServerLimits { connections: 2, ..ServerLimits::default() });
    let requests =
        "GET /openapi.json HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx".repeat(1000);
    let mut greedy = [connect(&api).await, connect(&api).await];
    for client in &mut greedy {
        // Until the server stops reading because its answers are not read.
        let second = Duration::from_secs(1);
        let flood = async { while client.write_all(requests.as_bytes()).await.is_ok() {} };
        assert!(timeout(second, flood).await.is_err(), "it is still taking requests");
    }
    let answer = Answer::of(api.client.get(api.external("/metrics")));
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().code, 200);
}

/// Long polls may take half of the connections; the rest is for other requests.
#[tokio::test]
async fn long_polls_leave_room() {
    let api = Api::start_within(ServerLimits { connections: 4, ..ServerLimits::default() });
    let path = "/status?wait=running&timeout=5m";
    let ask = || api.client.get(api.external(path)).bearer_auth(&api.token);
    // One of the three is refused: the last to arrive.
    let asking: Vec<_> = (0..3).map(|_| tokio::spawn(Answer::of(ask()))).collect();
    let refused = futures_util::future::select_all(asking);
    let (refused, _, waiting) = timeout(PATIENCE, refused).await.unwrap();
    let refused = refused.unwrap();
    assert_eq!(refused.code, 503);
    assert!(refused.error().starts_with("2 requests wait"), "{}", refused.text);
    // Requests that need not wait are answered.
    assert_eq!(api.get("/status?wait=empty").await.code, 200);
    assert_eq!(api.get("/status").await.code, 200);
    api.node.begin_start().unwrap();
    api.node.apply(Event::Succeeded).unwrap();
    for answer in waiting {
        assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().code, 200);
    }
}

/// A connection with an unfinished body may be dropped, like one with half a head.
#[tokio::test]
async fn a_stalled_body_makes_room() {
    let api = Api::start_within(ServerLimits { connections: 1, ..ServerLimits::default() });
    let mut stalled = connect(&api).await;
    let head = format!(
        "POST /configure HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 10\r\n\r\n{{",
        api.token
    );
    stalled.write_all(head.as_bytes()).await.unwrap();
    let answer = Answer::of(api.client.get(api.external("/metrics")));
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().code, 200);
    assert!(is_closed(&mut stalled).await);
}

/// The bodies in progress share one budget; a finished request gives its bytes back.
#[tokio::test]
async fn bodies_share_a_budget() {
    let bodies_bytes = 64 * 1024;
    let api = Api::start_with(HttpLimits { bodies_bytes, ..HttpLimits::default() });
    let mut stalled = connect(&api).await;
    let head = format!(
        "POST /configure HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 100000\r\n\r\n{}",
        api.token,
        " ".repeat(60_000)
    );
    stalled.write_all(head.as_bytes()).await.unwrap();
    let spaces = || api.configure_text("application/json", " ".repeat(60_000));
    let refused = async {
        // Until the server has read what was sent before.
        while spaces().await.code != 503 {}
        spaces().await
    };
    let answer = timeout(PATIENCE, refused).await.unwrap();
    assert!(answer.error().contains("have taken the 65536 bytes"), "{}", answer.text);
    drop(stalled);
    let served = async { while spaces().await.code != 400 {} };
    timeout(PATIENCE, served).await.unwrap();
}
