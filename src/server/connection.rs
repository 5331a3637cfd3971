//! Speaks HTTP/1.1 on one connection, after the handshake if it is one of TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::limits::ServerLimits;
use super::pool::{BusyBody, Seat};
use super::socket::Socket;
use super::stream::{Stream, part};
use crate::errors::one_line;

/// Address of the client, in the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// What answers the requests of a server: a router, or one with something around it. Each request
/// gets a clone.
pub(crate) trait Answers:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Answers for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A connection and the state of its server that it needs.
pub(super) struct Connection<S> {
    pub(super) peer: SocketAddr,
    /// For a connection of TLS.
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) service: S,
    pub(super) limits: ServerLimits,
    pub(super) seat: Seat,
    /// Cancelled when the server shuts down.
    pub(super) closing: CancellationToken,
}

impl<S: Answers> Connection<S> {
    /// Answers requests until the connection ends. If a request upgrades the connection, the
    /// handler gets the socket, and this waits for the end of the other protocol.
    pub(super) async fn serve(self, stream: TcpStream) {
        // Clients wait for small answers, so delaying packets to combine them gains nothing.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("could not set TCP_NODELAY for {}: {error}", self.peer);
        }
        let (socket, handle) = Socket::new(stream, self.seat.clone());
        tokio::select! {
            () = self.converse(socket) => {}
            limit = self.seat.client_too_slow(self.limits.header_read, self.limits.idle) => {
                tracing::debug!("closed the HTTP connection of {}: no request within {limit:?}", self.peer);
                return;
            }
        }
        if self.seat.is_upgraded() {
            handle.until_closed(self.closing).await;
        }
    }

    async fn converse(&self, socket: Socket) {
        let stream = match &self.tls {
            None => Stream::Plain(socket),
            Some(config) => {
                // The shutdown does not wait for it: there is no request yet.
                let hands = self.shake_hands(socket, Arc::clone(config));
                match self.closing.run_until_cancelled(hands).await.flatten() {
                    Some(stream) => stream,
                    None => return,
                }
            }
        };
        if let Err(error) = self.speak_http(stream).await {
            tracing::debug!("HTTP connection of {} ended: {}", self.peer, one_line(&error));
        }
    }

    /// Until its end the connection waits for its client, so it makes room for others.
    async fn shake_hands(&self, socket: Socket, config: Arc<ServerConfig>) -> Option<Stream> {
        let limit = self.limits.handshake;
        // In a box: connections without TLS must not take its room.
        let handshake = Box::pin(Stream::by_handshake(socket, config));
        let (why, socket) = match timeout(limit, handshake).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err((why, socket))) => (why, Some(socket)),
            Err(_) => (format!("it took longer than {limit:?}"), None),
        };
        tracing::debug!("no TLS handshake with {}: {why}", self.peer);
        if let Some(socket) = socket {
            part(socket).await;
        }
        None
    }

    async fn speak_http(&self, stream: Stream) -> hyper::Result<()> {
        let limits = &self.limits;
        let service = service_fn(|request| self.answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // The seat's limits are tighter; its timers cannot see what hyper has buffered.
            .header_read_timeout(limits.idle.saturating_add(limits.header_read))
            .max_header_size(limits.header_bytes)
            .max_buf_size(limits.header_bytes.max(8192))
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        tokio::select! {
            result = connection.as_mut() => result,
            () = self.closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<BusyBody>, Infallible> {
        // Busy only from here: a request that waits until the client has read the previous answer
        // must not keep the seat.
        let busy = self.seat.busy().await;
        let connects = request.method() == Method::CONNECT;
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(self.peer));
        request.extensions_mut().insert(self.seat.clone());
        let answer = self.service.clone().oneshot(request).await?;
        let status = answer.status();
        if status == StatusCode::SWITCHING_PROTOCOLS || connects && status.is_success() {
            self.seat.upgrade();
        }
        Ok(answer.map(|body| BusyBody { body, _busy: busy }))
    }
}
