//! Speaks HTTP/1.1 on one connection.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::limits::ServerLimits;
use super::pool::{BusyBody, Seat};

/// Address of the client, in the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// A connection and what it needs of its server.
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) router: Router,
    pub(super) limits: ServerLimits,
    pub(super) seat: Seat,
    /// Cancelled when the server shuts down.
    pub(super) closing: CancellationToken,
}

impl Connection {
    /// Answers requests until the connection ends.
    pub(super) async fn serve(self, stream: TcpStream) {
        let Self { peer, router, limits, seat, closing } = self;
        // Answers are small and waited for; nothing is gained by gathering them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("could not set TCP_NODELAY for {peer}: {error}");
        }
        let service = service_fn(move |request: Request<Incoming>| {
            let seat = seat.clone();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(seat.clone());
            let answer = router.clone().oneshot(request);
            async move {
                // Not before it is worked on: a request that waits until the client has read the
                // answer before it must not keep the seat.
                let busy = seat.busy();
                Ok::<_, Infallible>(answer.await?.map(|body| BusyBody { body, _busy: busy }))
            }
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
