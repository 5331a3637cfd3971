//! What a stand-in pageserver does, and the ways in which it can be told to fail.
//!
//! Faults are named after what happens over libpq; over gRPC the corresponding thing does.
//! Faults form a queue, so that a test scripts what a client's attempts meet one after the other.
//! Each has a number of occasions, or lasts until it is replaced.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tonic::Code;

/// How a `basebackup` goes wrong. Byte counts are of the payload as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Accept the connection and close it.
    Refuse,
    /// `ErrorResponse` with this text instead of `CopyOutResponse`; over gRPC `NotFound`.
    Error(String),
    /// This gRPC status instead of a stream; over libpq an `ErrorResponse`.
    Status(Code, String),
    /// Close the connection after so many bytes.
    DropAfter(u64),
    /// `ErrorResponse` after so many bytes; over gRPC `Internal`, here and below.
    ErrorAfter(u64, String),
    /// `ErrorResponse` after the whole archive, in the place of `CopyDone`.
    ErrorAfterArchive(String),
    /// `ErrorResponse` after `CopyDone`, in the place of `CommandComplete`.
    ErrorAfterCopyDone(String),
    /// Bytes that are no gzip, then a normal end.
    Garbage,
    /// Only so many bytes of the archive, then a normal end.
    Truncated(u64),
    /// No bytes, then a normal end.
    Empty,
    /// No answer at all, until the client goes away.
    Silence,
    /// Nothing more after so many bytes, until the client goes away.
    StallAfter(u64),
}

impl Fault {
    /// How many bytes of the archive are sent in spite of it.
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
    /// Granted for so long from now.
    For(Duration),
    /// This text as `valid_until`; `None` is NULL, which refuses the lease.
    Text(Option<String>),
    /// No row; over gRPC no timestamp, as with a text that is no number.
    NoRow,
    /// `ErrorResponse` with this text; over gRPC `Unavailable`.
    Error(String),
}

/// Everything that can be switched while the server runs.
pub struct PageserverBehaviour {
    /// The gzip tar to serve.
    pub archive: PathBuf,
    /// Password that clients must send.
    pub password: Option<String>,
    /// Wait before each answer.
    pub delay: Duration,
    /// Answer to lease requests.
    pub lease: LeaseAnswer,
    /// Bytes of the archive in one gRPC message.
    pub grpc_chunk: usize,
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
            .field("faults", &self.faults)
            .finish()
    }
}

impl PageserverBehaviour {
    /// Takes the fault that is due, if `applies` says it belongs to this occasion.
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
