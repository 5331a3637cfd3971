//! Behaviour of a stand-in pageserver, and the faults that it can simulate.
//!
//! Faults are named after their effect over libpq; over gRPC the corresponding effect occurs.
//! Faults form a queue, so that a test scripts successive attempts of a client. Each applies a
//! number of times, or until it is replaced.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tonic::Code;

use super::wal::WalArchive;

/// A fault of `basebackup`. Byte counts refer to the payload as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Accept the connection and close it.
    Refuse,
    /// `ErrorResponse` with this text instead of `CopyOutResponse`; over gRPC `NotFound`.
    Error(String),
    /// This gRPC status instead of a stream; over libpq an `ErrorResponse`.
    Status(Code, String),
    /// Close the connection after this many bytes.
    DropAfter(u64),
    /// `ErrorResponse` after this many bytes; over gRPC `Internal`, here and below.
    ErrorAfter(u64, String),
    /// `ErrorResponse` after the whole archive, instead of `CopyDone`.
    ErrorAfterArchive(String),
    /// `ErrorResponse` after `CopyDone`, instead of `CommandComplete`.
    ErrorAfterCopyDone(String),
    /// Bytes that are not gzip, then a normal end.
    Garbage,
    /// Only this many bytes of the archive, then a normal end.
    Truncated(u64),
    /// No bytes, then a normal end.
    Empty,
    /// No answer until the client closes the connection.
    Silence,
    /// No more data after this many bytes, until the client closes the connection.
    StallAfter(u64),
}

impl Fault {
    /// Number of bytes of the archive that are sent despite the fault.
    pub(super) const fn limit(&self) -> u64 {
        match self {
            Self::DropAfter(bytes)
            | Self::ErrorAfter(bytes, _)
            | Self::Truncated(bytes)
            | Self::StallAfter(bytes) => *bytes,
            Self::Garbage | Self::Empty => 0,
            _ => u64::MAX,
        }
    }
}

/// The answer to `lease lsn` (06 §6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// Granted for this long from now.
    For(Duration),
    /// This text as `valid_until`; `None` is NULL, which refuses the lease.
    Text(Option<String>),
    /// No row; over gRPC no timestamp, as with a text that is not a number.
    NoRow,
    /// `ErrorResponse` with this text; over gRPC `Unavailable`.
    Error(String),
}

/// Settings that can be changed while the server runs.
pub struct PageserverBehaviour {
    /// The gzip tar to serve.
    pub archive: PathBuf,
    /// Password that clients must send.
    pub password: Option<String>,
    /// Delay before each answer.
    pub delay: Duration,
    /// Answer to lease requests.
    pub lease: LeaseAnswer,
    /// Bytes of the archive in one gRPC message.
    pub grpc_chunk: usize,
    /// WAL of earlier computes, which is added to the archive.
    pub(crate) wal: Option<Arc<WalArchive>>,
    pub(super) faults: VecDeque<(Fault, Option<u32>)>,
}

impl fmt::Debug for PageserverBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageserverBehaviour")
            .field("archive", &self.archive)
            .field("password", &self.password.as_ref().map(|_| "[secret]"))
            .field("delay", &self.delay)
            .field("lease", &self.lease)
            .field("grpc_chunk", &self.grpc_chunk)
            .field("wal", &self.wal)
            .field("faults", &self.faults)
            .finish()
    }
}

impl PageserverBehaviour {
    /// Removes and returns the next fault, if `applies` accepts it.
    pub(super) fn take(&mut self, applies: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let (fault, times) = self.faults.front_mut()?;
        if !applies(fault) {
            return None;
        }
        let fault = fault.clone();
        if let Some(times) = times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.faults.pop_front();
            }
        }
        Some(fault)
    }
}
