//! Accepts connections and speaks HTTP/1.1 on them.
//!
//! Invariant: nothing that a client does or omits holds a resource for ever. Connections are
//! limited in number, headers in size and time, bodies by [`super::body`]; accepting goes on
//! after every error; the end is bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Pause after an error of accept, such as too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What a client may use up.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Open connections per server; more wait in the queue of the system.
    pub connections: usize,
    /// Time for the headers of a request, from the moment the connection is idle.
    pub header_read: Duration,
    /// Bytes of request line and headers; at least 8192.
    pub header_bytes: usize,
    /// Bytes of a body (03 W21).
    pub body_bytes: usize,
    /// Silence within a body.
    pub body_idle: Duration,
    /// Time for a whole body.
    pub body_total: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            header_read: Duration::from_secs(60),
            header_bytes: 64 * 1024,
            body_bytes: 32 * 1024 * 1024,
            body_idle: Duration::from_secs(30),
            body_total: Duration::from_secs(300),
        }
    }
}

/// Address of the client, in the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Both servers at work. They go on when this is dropped; [`Servers::shutdown`] ends them.
#[derive(Debug)]
pub struct Servers {
    external_port: u16,
    internal_port: u16,
    limits: HttpLimits,
    tasks: TaskTracker,
    /// No new connections and requests; those in progress are finished.
    closing: CancellationToken,
    /// Everything ends at once.
    aborting: CancellationToken,
}

impl Servers {
    pub(super) fn new(external_port: u16, internal_port: u16, limits: HttpLimits) -> Self {
        Self {
            external_port,
            internal_port,
            limits,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            aborting: CancellationToken::new(),
        }
    }

    /// The port of the external server.
    pub fn external_port(&self) -> u16 {
        self.external_port
    }

    /// The port of the internal server.
    pub fn internal_port(&self) -> u16 {
        self.internal_port
    }

    /// Serves one router on some listeners. Must be called inside a runtime.
    pub(super) fn serve(&mut self, listeners: Vec<TcpListener>, router: Router) {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        for listener in listeners {
            let acceptor = Acceptor {
                router: router.clone(),
                slots: Arc::clone(&slots),
                limits: self.limits,
                tasks: self.tasks.clone(),
                closing: self.closing.clone(),
                aborting: self.aborting.clone(),
            };
            let closing = self.closing.clone();
            self.tasks.spawn(async move {
                closing.run_until_cancelled(acceptor.accept_all(listener)).await;
            });
        }
    }

    /// Accepts nothing more, lets requests in progress end for at most `grace`, then cuts the
    /// connections.
    pub async fn shutdown(self, grace: Duration) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!("{} HTTP connections did not end in time", self.tasks.len());
            self.aborting.cancel();
            self.tasks.wait().await;
        }
    }
}

/// What the tasks of one server share.
struct Acceptor {
    router: Router,
    slots: Arc<Semaphore>,
    limits: HttpLimits,
    tasks: TaskTracker,
    closing: CancellationToken,
    aborting: CancellationToken,
}

impl Acceptor {
    async fn accept_all(&self, listener: TcpListener) {
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("could not accept an HTTP connection: {error}");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let connection = self.connection(stream, peer);
            let aborting = self.aborting.clone();
            self.tasks.spawn(async move {
                aborting.run_until_cancelled(connection).await;
                drop(slot);
            });
        }
    }

    /// All requests of one connection.
    fn connection(&self, stream: TcpStream, peer: SocketAddr) -> impl Future<Output = ()> + use<> {
        let router = self.router.clone();
        let limits = self.limits;
        let closing = self.closing.clone();
        async move {
            // Answers are small and waited for; nothing is gained by gathering them.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("could not set TCP_NODELAY for {peer}: {error}");
            }
            let service = service_fn(move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(Peer(peer));
                router.clone().oneshot(request)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_read)
                .max_header_size(limits.header_bytes)
                .max_buf_size(limits.header_bytes.max(8192))
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!("HTTP connection of {peer} ended: {error}");
            }
        }
    }
}
