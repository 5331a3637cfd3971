//! `/autoscaling_metrics`: forwards the metrics of the communicator in Postgres (03 §9).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::libc::{O_DIRECTORY, O_PATH};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::answers::EXTERNAL;
use super::api::{Api, Routes, route};
use super::error::{ApiError, ErrorDocument};
use super::uniform::Forwarded;
use crate::errors::{as_io, one_line};

/// Name of the socket in the data directory.
const SOCKET: &str = "neon-communicator.socket";
const PATH: &str = "/autoscaling_metrics";
/// Longest path used as an address of a socket, whose limit is near 108 bytes (03 §9).
const LONGEST: usize = 100;

/// Routes of the external server that are open to all.
pub(super) fn open() -> Routes {
    vec![route!(autoscaling_metrics)]
}

/// Forwards status, type and body, nothing else.
#[utoipa::path(
    get,
    path = "/autoscaling_metrics",
    operation_id = "getAutoscalingMetrics",
    tag = EXTERNAL,
    summary = "Metrics of the file cache, from Postgres",
    responses(
        (
            status = 200,
            description = "Status, type and body are the communicator's",
            content((String = "application/text"), (String = "text/plain"))
        ),
        (status = 500, description = "The communicator does not answer", body = ErrorDocument)
    )
)]
async fn autoscaling_metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let limit = api.limits.communicator;
    let failed = |what: &str, error: io::Error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{what}: {error}"))
    };
    let connecting = |error| failed("connecting to communicator control socket", error);
    let place = api.communicator.take().map_err(connecting)?;
    let stream = within(limit, connect(&api.node.params.pgdata)).await.map_err(connecting)?;
    let fetched = within(limit, fetch(stream)).await;
    let (answer, connection) =
        fetched.map_err(|error| failed("fetching metrics from Postgres metrics service", error))?;

    let (head, body) = answer.into_parts();
    let pieces = stream::unfold(body.into_data_stream(), move |mut pieces| async move {
        let piece = within(limit, async { pieces.try_next().await.map_err(as_io) });
        piece.await.transpose().map(|piece| (piece, pieces))
    });
    // Keeps the connection and the place as long as the body.
    let pieces = pieces.inspect(move |_| _ = (&connection, &place));
    let mut response = Response::new(Body::from_stream(pieces));
    *response.status_mut() = head.status;
    response.extensions_mut().insert(Forwarded);
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    Ok(response)
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

/// A path that is too long for an address is replaced by one through a descriptor of its directory.
async fn connect(pgdata: &Path) -> io::Result<UnixStream> {
    let socket = pgdata.join(SOCKET);
    if socket.as_os_str().len() < LONGEST {
        return UnixStream::connect(socket).await;
    }
    let directory =
        OpenOptions::new().read(true).custom_flags(O_PATH | O_DIRECTORY).open(pgdata)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd())).await
}

/// The head of the answer, and the task that moves the bytes of its body.
async fn fetch(
    stream: UnixStream,
) -> io::Result<(hyper::Response<Incoming>, AbortOnDropHandle<()>)> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(as_io)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // The reader of the answer gets the same error.
        if let Err(error) = connection.await {
            tracing::debug!("the connection to the communicator ended: {}", one_line(&error));
        }
    }));
    let request = Request::get(PATH).header(header::HOST, "localhost");
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(as_io)?;
    Ok((answer, connection))
}
