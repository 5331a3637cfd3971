//! The gRPC side of the stand-in pageserver (06 §5, §11.4): the same archive, faults and lease
//! answers as over libpq.
//!
//! Strict like the libpq side: requests that a real pageserver would refuse are refused here too.
//! The journal records of every call its metadata (as startup parameters), its token (as password)
//! and the request (as command).

use std::pin::Pin;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Request, Response, Status};

use super::archive::{SharedBehaviour, current_archive, read_archive};
use crate::dev::commands::is_id;
use crate::dev::faults::{Fault, LeaseAnswer};
use crate::dev::journal::{Event, Journal};
use crate::spec::Lsn;
use crate::storage::page_api::page_service_server::PageService;
use crate::storage::page_api::{
    BaseBackupCompression, GetBaseBackupRequest, GetBaseBackupResponseChunk, LeaseLsnRequest,
    LeaseLsnResponse, Timestamp,
};

/// State shared by the calls of one connection.
#[derive(Clone)]
pub(super) struct GrpcSession {
    pub behaviour: SharedBehaviour,
    pub journal: Journal,
    pub connection: u64,
    /// Cancelled to close the connection.
    pub hangup: CancellationToken,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<GetBaseBackupResponseChunk, Status>> + Send>>;

#[tonic::async_trait]
impl PageService for GrpcSession {
    type GetBaseBackupStream = Chunks;

    async fn get_base_backup(
        &self,
        request: Request<GetBaseBackupRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let message = *request.get_ref();
        let shard = self.greet(request.metadata(), describe(&message)).await?;
        if !shard.starts_with("00") {
            return Err(Status::invalid_argument(format!("shard {shard} has no base backup")));
        }
        let gzip = match message.compression() {
            BaseBackupCompression::Unknown => {
                return Err(Status::invalid_argument("unknown base backup compression"));
            }
            BaseBackupCompression::None => false,
            BaseBackupCompression::Gzip => true,
        };
        let (chunk, fault) = {
            let mut behaviour = self.behaviour.lock();
            let fault = behaviour.take(|fault| *fault != Fault::Refuse);
            (behaviour.grpc_chunk, fault)
        };
        match &fault {
            Some(Fault::Error(text)) => return Err(Status::not_found(text)),
            Some(Fault::Status(code, text)) => return Err(Status::new(*code, text)),
            Some(Fault::Silence) => return std::future::pending().await,
            _ => {}
        }
        let archive = current_archive(&self.behaviour)
            .await
            .map_err(|error| Status::internal(format!("cannot add the WAL: {error}")))?;
        let chunks = read_archive(&archive, gzip, chunk)
            .map_err(|error| Status::not_found(format!("no basebackup here: {error}")))?;
        // Sends an empty chunk, which a client must skip, and then the data that the fault leaves.
        let empty = stream::iter([Ok(Bytes::new())]);
        let limit = fault.as_ref().map_or(u64::MAX, Fault::limit);
        let archive = empty.chain(limited(chunks, limit));
        let end = stream::once(the_end(fault, self.hangup.clone())).filter_map(async |end| end);
        let chunks =
            archive.chain(end).map(|chunk| chunk.map(|chunk| GetBaseBackupResponseChunk { chunk }));
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn lease_lsn(
        &self,
        request: Request<LeaseLsnRequest>,
    ) -> Result<Response<LeaseLsnResponse>, Status> {
        let lsn = request.get_ref().lsn;
        self.greet(request.metadata(), format!("LeaseLsn {}", Lsn(lsn))).await?;
        if lsn == 0 {
            return Err(Status::invalid_argument("LSN 0 cannot be leased"));
        }
        let answer = self.behaviour.lock().lease.clone();
        let expires = match answer {
            LeaseAnswer::Error(text) => return Err(Status::unavailable(text)),
            LeaseAnswer::Text(None) => {
                return Err(Status::failed_precondition("LSN is below the GC cutoff"));
            }
            LeaseAnswer::NoRow => None,
            LeaseAnswer::Text(Some(text)) => text
                .parse()
                .ok()
                .map(|millis: i64| Timestamp { seconds: millis.div_euclid(1000), nanos: 0 }),
            LeaseAnswer::For(time) => {
                let until = (SystemTime::now() + time)
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default();
                let seconds = i64::try_from(until.as_secs()).unwrap_or(i64::MAX);
                Some(Timestamp { seconds, nanos: until.subsec_nanos().cast_signed() })
            }
        };
        Ok(Response::new(LeaseLsnResponse { expires }))
    }
}

impl GrpcSession {
    /// Steps before every answer: the journal, the checks of 06 §5.2, the delay. Returns the shard.
    async fn greet(&self, metadata: &MetadataMap, command: String) -> Result<String, Status> {
        let mut headers = Vec::new();
        for header in metadata.iter() {
            if let KeyAndValueRef::Ascii(key, value) = header
                && key != "authorization"
            {
                headers.push((key.to_string(), value.to_str().unwrap_or_default().to_owned()));
            }
        }
        let header = |name: &str| {
            metadata.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        self.journal.record(self.connection, Event::Startup(headers));
        let token = header("authorization")
            .and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
        if let Some(token) = &token {
            self.journal.record(self.connection, Event::Password(token.clone()));
        }
        self.journal.record(self.connection, Event::Command(command));

        for name in ["neon-tenant-id", "neon-timeline-id"] {
            if !header(name).is_some_and(is_id) {
                return Err(Status::invalid_argument(format!("missing or malformed {name}")));
            }
        }
        let shard = header("neon-shard-id")
            .filter(|shard| shard.len() == 4 && shard.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let shard = shard.ok_or(Status::invalid_argument("missing or malformed neon-shard-id"))?;
        let (delay, wanted) = {
            let behaviour = self.behaviour.lock();
            (behaviour.delay, behaviour.password.clone())
        };
        match (wanted, token) {
            (Some(_), None) => return Err(Status::unauthenticated("missing authorization")),
            (Some(wanted), Some(token)) if wanted != token => {
                return Err(Status::invalid_argument("invalid JWT token: it is another one"));
            }
            _ => {}
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(shard)
    }
}

/// The request in the format of the journal.
fn describe(request: &GetBaseBackupRequest) -> String {
    let mut text = format!("GetBaseBackup {}", Lsn(request.lsn));
    for (given, word) in [(request.replica, " replica"), (request.full, " full")] {
        if given {
            text.push_str(word);
        }
    }
    match request.compression() {
        BaseBackupCompression::Gzip => text.push_str(" gzip"),
        BaseBackupCompression::None => text.push_str(" plain"),
        BaseBackupCompression::Unknown => {}
    }
    text
}

/// The first `limit` bytes of an archive.
fn limited(
    chunks: mpsc::Receiver<std::io::Result<Bytes>>,
    limit: u64,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    stream::unfold((chunks, limit), |(mut chunks, left)| async move {
        if left == 0 {
            return None;
        }
        Some(match chunks.recv().await? {
            Ok(chunk) => {
                let send = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
                (Ok(chunk.slice(..send)), (chunks, left.saturating_sub(send as u64)))
            }
            Err(error) => {
                (Err(Status::internal(format!("cannot read the archive: {error}"))), (chunks, 0))
            }
        })
    })
}

/// The item after the bytes of the archive; `None` for a normal end.
async fn the_end(fault: Option<Fault>, hangup: CancellationToken) -> Option<Result<Bytes, Status>> {
    match fault? {
        Fault::DropAfter(_) => {
            hangup.cancel();
            std::future::pending().await
        }
        Fault::StallAfter(_) => std::future::pending().await,
        Fault::ErrorAfter(_, text)
        | Fault::ErrorAfterArchive(text)
        | Fault::ErrorAfterCopyDone(text) => Some(Err(Status::internal(text))),
        Fault::Garbage => Some(Ok(b"this is not a gzip stream\n".repeat(500).into())),
        _ => None,
    }
}
