//! A connection to a pageserver over gRPC (06 §5).
//!
//! HTTP/2 over plain TCP with prior knowledge, so connecting takes one round trip and the first
//! call follows at once. Messages are not compressed, because the archive already is.
//!
//! Deadlines are local, none is sent to the server. In between, pings detect a dead peer: without
//! them, a machine that vanished would be waited for as long as one that waits for the WAL.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::errors::FetchError;
use super::page_api::page_service_client::PageServiceClient;
use super::page_api::{
    BaseBackupCompression, GetBaseBackupRequest, GetBaseBackupResponseChunk, LeaseLsnRequest,
    Timestamp,
};
use super::request::BasebackupRequest;
use super::target::{GrpcEndpoint, PING_AFTER, PING_LIMIT};
use crate::errors::one_line;
use crate::spec::{Lsn, TenantId, TimelineId};
use crate::telemetry::traces;

/// Largest message that is accepted (06 §5.1); servers send 256 KiB.
pub(super) const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Largest piece handed on, so that the unpacker starts early.
pub(super) const PIECE: usize = 64 * 1024;
/// Flow-control window. Larger than most archives, because the server would otherwise stop for a
/// round trip after every window.
const WINDOW: u32 = 8 * 1024 * 1024;

/// An open connection.
#[derive(Debug)]
pub(super) struct GrpcConnection {
    client: PageServiceClient<Channel>,
    metadata: MetadataMap,
    peer: String,
    connect_time: Duration,
    archive: Option<Streaming<GetBaseBackupResponseChunk>>,
    /// Received and not yet handed on.
    rest: Bytes,
}

impl GrpcConnection {
    /// Connects. No login takes place: the token is sent with each call.
    pub(super) async fn open(endpoint: &GrpcEndpoint, limit: Duration) -> Result<Self, FetchError> {
        let started = Instant::now();
        let peer = endpoint.address.to_string();
        let invalid =
            |_| FetchError::Protocol("the address of the pageserver is not an HTTP authority");
        // The URL has neither the scheme `grpc` nor a user: some servers refuse both (06 §5.1).
        let transport = Endpoint::from_shared(format!("http://{peer}"))
            .map_err(invalid)?
            .user_agent(concat!("compute_ctl/", env!("CARGO_PKG_VERSION")))
            .map_err(invalid)?
            .connect_timeout(limit)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .http2_keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_LIMIT);
        let channel = match timeout(limit, transport.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(FetchError::Connect { peer, error: io_error(&error) }),
            Err(_) => return Err(FetchError::ConnectTimeout { peer, limit }),
        };
        let mut metadata = MetadataMap::new();
        metadata.insert("neon-shard-id", ascii(&endpoint.shard.to_string())?);
        if let Some(authorization) = &endpoint.authorization {
            metadata.insert("authorization", authorization.expose().clone());
        }
        Ok(Self {
            client: PageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            metadata,
            peer,
            connect_time: started.elapsed(),
            archive: None,
            rest: Bytes::new(),
        })
    }

    /// The peer, as `host:port`.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// How long connecting took.
    pub(super) const fn connect_time(&self) -> Duration {
        self.connect_time
    }

    /// Sends the call and waits until the server agrees to stream, without a limit.
    pub(super) async fn start_archive(
        &mut self,
        request: &BasebackupRequest<'_>,
    ) -> Result<(), FetchError> {
        let message = GetBaseBackupRequest {
            lsn: request.lsn.0,
            replica: request.replica,
            full: false,
            compression: BaseBackupCompression::Gzip.into(),
        };
        let message = self.call(message, request.tenant_id, request.timeline_id)?;
        let answer = self.client.get_base_backup(message).await;
        self.archive = Some(answer.map_err(|status| status_error(&status))?.into_inner());
        Ok(())
    }

    /// The next bytes of the archive, never empty. `None` only after the server has reported
    /// success, so an error that follows the archive is not lost. `limit` holds for each wait for
    /// the network.
    pub(super) async fn next_chunk(
        &mut self,
        limit: Duration,
    ) -> Result<Option<Bytes>, FetchError> {
        let archive = self.archive.as_mut().ok_or(FetchError::Protocol("nothing was requested"))?;
        next_piece(archive, &mut self.rest, limit).await
    }

    /// Requests a lease. Returns when the lease ends.
    pub(super) async fn lease_lsn(
        &mut self,
        tenant_id: TenantId,
        timeline_id: TimelineId,
        lsn: Lsn,
    ) -> Result<SystemTime, FetchError> {
        let message = self.call(LeaseLsnRequest { lsn: lsn.0 }, tenant_id, timeline_id)?;
        let answer = self.client.lease_lsn(message).await;
        let expires = answer.map_err(|status| status_error(&status))?.into_inner().expires;
        let wrong = FetchError::Protocol("the end of the lease is missing or not a point in time");
        expires.and_then(point_in_time).ok_or(wrong)
    }

    /// Wraps a message in a request with its metadata (06 §5.2).
    fn call<M>(
        &self,
        message: M,
        tenant_id: TenantId,
        timeline_id: TimelineId,
    ) -> Result<Request<M>, FetchError> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request.metadata_mut().insert("neon-tenant-id", ascii(&tenant_id.to_string())?);
        request.metadata_mut().insert("neon-timeline-id", ascii(&timeline_id.to_string())?);
        request.metadata_mut().as_mut().extend(traces::headers());
        Ok(request)
    }
}

/// The next piece of the messages; `rest` is what was received and not yet handed on.
pub(super) async fn next_piece(
    messages: &mut Streaming<GetBaseBackupResponseChunk>,
    rest: &mut Bytes,
    limit: Duration,
) -> Result<Option<Bytes>, FetchError> {
    while rest.is_empty() {
        match timeout(limit, messages.message()).await {
            Ok(Ok(Some(message))) => *rest = message.chunk,
            Ok(Ok(None)) => return has_succeeded(messages).await.map(|()| None),
            Ok(Err(status)) => return Err(status_error(&status)),
            Err(_) => return Err(FetchError::Stalled(limit)),
        }
    }
    Ok(Some(rest.split_to(PIECE.min(rest.len()))))
}

/// Whether messages that have ended were followed by a status, which alone says that the server has
/// sent everything. tonic also takes one in the headers for the last word, although data follow.
/// Does not wait, as the messages have ended.
async fn has_succeeded(
    messages: &mut Streaming<GetBaseBackupResponseChunk>,
) -> Result<(), FetchError> {
    let trailers = messages.trailers().await.map_err(|status| status_error(&status))?;
    match trailers.is_some_and(|trailers| trailers.contains_key("grpc-status")) {
        true => Ok(()),
        false => Err(FetchError::Protocol("the answer ends without a gRPC status")),
    }
}

/// Ids are hex digits, so this does not fail.
fn ascii(id: &str) -> Result<MetadataValue<Ascii>, FetchError> {
    id.parse().map_err(|_| FetchError::Protocol("an id cannot be sent in an HTTP header"))
}

/// Converts a timestamp. `None` for times before the epoch and for invalid ones.
pub(super) fn point_in_time(time: Timestamp) -> Option<SystemTime> {
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let since_epoch = Duration::new(u64::try_from(time.seconds).ok()?, nanos);
    SystemTime::UNIX_EPOCH.checked_add(since_epoch)
}

/// Converts a status. One with a source was made by the client, from an error of the connection.
fn status_error(status: &Status) -> FetchError {
    match status.source() {
        Some(cause) => FetchError::Lost(io::Error::other(one_line(cause))),
        None => FetchError::Status { code: status.code(), message: status.message().to_owned() },
    }
}

/// The system's error in a chain of sources, or the whole chain as text.
fn io_error(error: &(dyn Error + 'static)) -> io::Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && let Some(code) = error.raw_os_error()
        {
            return io::Error::from_raw_os_error(code);
        }
        cause = error.source();
    }
    io::Error::other(one_line(error))
}

#[cfg(test)]
mod tests;
