//! Upgraded connections, tested over real sockets with a router of these tests.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::stream::TlsConfigs;
use super::{ReservedPort, ServerLimits, ServerTasks, serve};

/// Far longer than any test here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Server {
    port: u16,
    /// Requests of `/count`.
    begun: Arc<AtomicUsize>,
    pub(super) tasks: ServerTasks,
}

impl Server {
    fn start(limits: ServerLimits) -> Self {
        Self::start_with(limits, None)
    }

    pub(super) fn start_with(limits: ServerLimits, tls: Option<&TlsConfigs>) -> Self {
        let tasks = ServerTasks::default();
        let begun = Arc::<AtomicUsize>::default();
        let counting = Arc::clone(&begun);
        let count = move || async move {
            counting.fetch_add(1, Relaxed);
            // The connection's task looks at everything else that it waits for.
            tokio::task::yield_now().await;
            "counted"
        };
        let router = Router::new()
            .route("/count", get(count))
            .route("/", get(|| async { "hello" }))
            .route("/echo", get(upgrade_to_echo))
            .route("/deaf", get(upgrade_to_silence))
            .with_state(tasks.clone());
        let port = ReservedPort::on_all_interfaces(0).unwrap();
        let number = port.port();
        serve(port.listen(&limits).unwrap(), tls, &router, limits, &tasks);
        Self { port: number, begun, tasks }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        connect(self.port).await
    }

    async fn upgraded(&self, path: &str) -> TcpStream {
        let mut stream = self.connect().await;
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n");
        // The first bytes of the other protocol may come with the request.
        stream.write_all(format!("{head}\r\nfirst").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
        stream
    }
}

async fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

fn switch() -> impl IntoResponse {
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, headers)
}

async fn upgrade_to_echo(
    State(tasks): State<ServerTasks>,
    mut request: Request,
) -> impl IntoResponse {
    let upgrade = hyper::upgrade::on(&mut request);
    tasks.spawn(async move {
        let (mut from, mut to) = split(TokioIo::new(upgrade.await.unwrap()));
        let _ = copy(&mut from, &mut to).await;
        let _ = to.write_all(b" bye").await;
    });
    switch()
}

/// Keeps the connection without ever reading it, in a task that the server does not know.
async fn upgrade_to_silence(mut request: Request) -> impl IntoResponse {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _upgraded = upgrade.await.unwrap();
        std::future::pending::<()>().await
    });
    switch()
}

async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    timeout(PATIENCE, stream.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(read, bytes);
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    matches!(read, Ok(0) | Err(_))
}

async fn says_hello(server: &Server) -> TcpStream {
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    expect(&mut stream, b"HTTP/1.1 200").await;
    stream
}

/// An idle upgraded connection keeps its slot; the others displace each other.
#[tokio::test]
async fn an_upgraded_connection_makes_no_room() {
    let server = Server::start(ServerLimits { connections: 3, ..ServerLimits::default() });
    let mut upgraded = server.upgraded("/echo").await;
    expect(&mut upgraded, b"first").await;
    let mut idle = Vec::new();
    for _ in 0..10 {
        idle.push(says_hello(&server).await);
    }
    for stream in &mut idle[..8] {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    }
    upgraded.write_all(b"still here").await.unwrap();
    expect(&mut upgraded, b"still here").await;
    // The ten connections shared two of three slots.
    idle[8].write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut rest = String::new();
    timeout(PATIENCE, idle[8].read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.contains("HTTP/1.1 200"), "{rest}");
}

/// A connection may be chosen to make room at the moment in which its request comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_has_begun_is_answered_although_there_is_no_room() {
    const CLIENTS: usize = 16;
    const REQUESTS: usize = 200;
    let server = Server::start(ServerLimits { connections: 4, ..ServerLimits::default() });
    let clients = (0..CLIENTS).map(|_| {
        let port = server.port;
        tokio::spawn(async move {
            let mut answered = 0;
            for _ in 0..REQUESTS {
                let mut stream = connect(port).await;
                let request = b"GET /count HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
                let mut answer = Vec::new();
                if stream.write_all(request).await.is_ok() {
                    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
                }
                answered += usize::from(answer.ends_with(b"counted"));
            }
            answered
        })
    });
    let mut answered = 0;
    for client in clients.collect::<Vec<_>>() {
        answered += client.await.unwrap();
    }
    assert!(answered < CLIENTS * REQUESTS, "there was room for all");
    assert_eq!(server.begun.load(Relaxed), answered);
}

/// The slot is free again after the handler drops the connection.
#[tokio::test]
async fn a_closed_upgraded_connection_gives_its_slot_back() {
    let server = Server::start(ServerLimits { connections: 1, ..ServerLimits::default() });
    let upgraded = server.upgraded("/echo").await;
    let waiting = tokio::time::timeout(Duration::from_millis(300), says_hello(&server)).await;
    assert!(waiting.is_err(), "there is no room beside the upgraded one");
    drop(upgraded);
    timeout(PATIENCE, says_hello(&server)).await.unwrap();
}

/// Neither the limit for a head nor the limit for unread answers ends the connection.
#[tokio::test]
async fn limits_of_http_do_not_end_an_upgraded_connection() {
    let short = Duration::from_millis(100);
    let limits =
        ServerLimits { header_read: short, idle: short, unread: short, ..ServerLimits::default() };
    let server = Server::start(limits);
    let mut upgraded = server.upgraded("/echo").await;
    let mut idle = says_hello(&server).await;
    // More than the buffers hold, so that the echo stalls for a while.
    let bytes = vec![b'x'; 8 << 20];
    let (mut from, mut to) = upgraded.split();
    let slow = async {
        tokio::time::sleep(10 * short).await;
        let mut read = vec![0; b"first".len() + bytes.len()];
        from.read_exact(&mut read).await.unwrap();
    };
    let both = async { tokio::join!(to.write_all(&bytes), slow).0.unwrap() };
    timeout(PATIENCE, both).await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, idle.read_to_end(&mut rest)).await.unwrap().unwrap();
}

/// The handler reads an end of file, and may finish its work.
#[tokio::test]
async fn the_shutdown_ends_upgraded_connections() {
    let server = Server::start(ServerLimits::default());
    let mut upgraded = server.upgraded("/echo").await;
    expect(&mut upgraded, b"first").await;
    timeout(PATIENCE, server.tasks.shutdown(10 * PATIENCE)).await.unwrap();
    expect(&mut upgraded, b" bye").await;
    assert!(is_closed(&mut upgraded).await);
}

/// The shutdown does not wait for a handler that never reads its connection.
#[tokio::test]
async fn the_shutdown_cuts_upgraded_connections() {
    let server = Server::start(ServerLimits::default());
    let mut deaf = server.upgraded("/deaf").await;
    timeout(PATIENCE, server.tasks.shutdown(Duration::from_millis(50))).await.unwrap();
    assert!(is_closed(&mut deaf).await);
}
