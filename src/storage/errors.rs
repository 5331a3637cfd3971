//! Errors of a base backup and of unpacking its archive, and whether another try can help.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tonic::Code;

use crate::spec::pageserver::PageserverInfoError;
use crate::spec::{Lsn, ShardIndex};

/// Whether another try can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// No try can help, with any pageserver: a configuration error, the local disk, a refused
    /// archive.
    Local,
    /// This pageserver will refuse again; another one may not.
    Refused,
    /// Storage may recover, for instance while a tenant moves: try again after a pause.
    Transient,
}

/// The base backup was given up. The text begins with the documented context (06 §3.8) and has the
/// error of the last try, with the text of the server.
#[derive(Debug, Error)]
#[error("failed to get basebackup@{lsn}: {}{}", error.said_by(peer), tried(*tries, *took))]
pub(crate) struct BasebackupError {
    /// The LSN that was requested; `0/0` for the latest.
    pub lsn: Lsn,
    /// The pageserver of the last try, as `host:port`.
    pub peer: String,
    /// Number of tries made.
    pub tries: u32,
    /// From the first try to the end of the last.
    pub took: Duration,
    /// Error of the last try.
    pub error: FetchError,
}

/// How often and for how long it was tried; nothing if the first error was the last.
fn tried(tries: u32, took: Duration) -> String {
    match tries {
        0 | 1 => String::new(),
        _ => format!("; this was the last of {tries} tries in {:.1} s", took.as_secs_f64()),
    }
}

/// Why one try failed. Peers are named as `host:port`; no text contains a password.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    /// The map has no shard 0.
    #[error("shard connection info missing for shard {0}")]
    NoShard(ShardIndex),
    /// The list of pageservers is empty.
    #[error("must have at least one pageserver")]
    NoPageserver,
    /// The URL for the preferred protocol is missing or cannot be used.
    #[error(transparent)]
    Address(#[from] PageserverInfoError),
    /// The token goes into an HTTP header, which cannot hold every character.
    #[error("storage_auth_token has characters that cannot be sent in an HTTP header")]
    BadToken,
    /// The server asks for a password and the spec has none.
    #[error(
        "password missing: pageserver {0} asks for one, and the spec has no storage_auth_token"
    )]
    PasswordMissing(String),
    /// Pageservers use only trust and cleartext passwords.
    #[error("pageserver {0} asks for an authentication method that is not supported")]
    Authentication(String),
    /// The TCP connection failed.
    #[error("cannot connect to pageserver {peer}: {error}")]
    Connect {
        /// Address of the pageserver.
        peer: String,
        /// Error of the system.
        error: io::Error,
    },
    /// Connecting and authenticating took too long.
    #[error("pageserver {peer} did not accept the connection within {limit:?}")]
    ConnectTimeout {
        /// Address of the pageserver.
        peer: String,
        /// The limit that was exceeded.
        limit: Duration,
    },
    /// The server sent an ErrorResponse.
    #[error("the pageserver answers: {message} (SQLSTATE {code})")]
    Server {
        /// SQLSTATE, five characters.
        code: String,
        /// Message of the server.
        message: String,
    },
    /// A gRPC status from the server, or one that the client derived from its answer.
    #[error("the pageserver answers: {message} (gRPC status {code:?})")]
    Status {
        /// Status code.
        code: Code,
        /// Message of the server.
        message: String,
    },
    /// The connection broke or was closed.
    #[error("the connection to the pageserver was lost: {0}")]
    Lost(io::Error),
    /// The server deviates from the protocol of 06 §3.4.
    #[error("the pageserver does not follow the protocol: {0}")]
    Protocol(&'static str),
    /// Not one byte arrived within the limit.
    #[error("the pageserver sent nothing within {0:?}")]
    FirstByteTimeout(Duration),
    /// The stream stalled.
    #[error("the pageserver stopped sending for {0:?}")]
    Stalled(Duration),
    /// The archive could not be unpacked.
    #[error("cannot unpack the archive of the pageserver: {0}")]
    Unpack(UnpackError),
}

impl FetchError {
    /// The text, with the pageserver that was asked if the text leaves out which one it was.
    pub(crate) fn said_by(&self, peer: &str) -> String {
        match self {
            Self::Server { .. }
            | Self::Status { .. }
            | Self::Lost(_)
            | Self::Protocol(_)
            | Self::FirstByteTimeout(_)
            | Self::Stalled(_) => format!("{self}, from {peer}"),
            Self::Unpack(error) if !error.is_of_this_machine() => format!("{self}, from {peer}"),
            _ => self.to_string(),
        }
    }

    /// What the error means for the next try. Server errors are classified by SQLSTATE class only:
    /// 28 is authorization, 42 a command that the server does not understand. Nearly everything
    /// else, a bad token included, comes as `XX000` and may be transient (06 §3.2). gRPC statuses
    /// with the same meanings are final; all others may be transient while a tenant moves
    /// (06 §5.4).
    pub(crate) fn class(&self) -> ErrorClass {
        match self {
            Self::NoShard(_) | Self::NoPageserver | Self::Address(_) | Self::BadToken => {
                ErrorClass::Local
            }
            Self::Unpack(error) if error.is_permanent() => ErrorClass::Local,
            Self::PasswordMissing(_) | Self::Authentication(_) => ErrorClass::Refused,
            Self::Server { code, .. } if code.starts_with("28") || code.starts_with("42") => {
                ErrorClass::Refused
            }
            Self::Status {
                code: Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented,
                ..
            } => ErrorClass::Refused,
            _ => ErrorClass::Transient,
        }
    }
}

impl From<UnpackError> for FetchError {
    fn from(error: UnpackError) -> Self {
        Self::Unpack(error)
    }
}

/// Why an archive could not be unpacked.
#[derive(Debug, Error)]
pub(crate) enum UnpackError {
    /// Not a single byte arrived.
    #[error("the archive is empty: the pageserver sent no data")]
    Empty,
    /// The gzip stream is corrupt, cut off, or followed by other data.
    #[error("the archive is not a complete gzip stream: {0}")]
    Gzip(io::Error),
    /// The tar is corrupt or cut off.
    #[error("the archive is not a complete tar: {0}")]
    Tar(io::Error),
    /// The archive is cut off within a file.
    #[error("the archive ends within {}, after {copied} of {size} bytes", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that were present.
        copied: u64,
        /// Size that the header states.
        size: u64,
    },
    /// Refused, because names and extended headers are held in memory.
    #[error("the archive is refused: there is more than 1 MiB between two of its files")]
    Headers,
    /// The tar has no entries.
    #[error("the archive holds no files")]
    NoEntries,
    /// Refused, because the path contains `..`.
    #[error("the archive is refused: entry {0:?} climbs out of the data directory")]
    Climbing(String),
    /// Refused, because of the type of the entry.
    #[error("the archive is refused: entry {} is {kind}", path.display())]
    Kind {
        /// Path of the entry.
        path: PathBuf,
        /// Type of the entry.
        kind: &'static str,
    },
    /// The entry contradicts another one, or its name is impossible.
    #[error("the archive entry {} cannot be created: {error}", path.display())]
    Entry {
        /// Path of the entry.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// A local problem: disk full, permissions, file descriptors.
    #[error("cannot write {} in the data directory: {error}", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// The system refused to start a thread.
    #[error("cannot start a thread for unpacking: {0}")]
    Thread(io::Error),
    /// A bug, or the system stopped a thread.
    #[error("the unpacking threads ended without a result")]
    NoResult,
}

impl UnpackError {
    /// Whether the archive has no part in the error.
    const fn is_of_this_machine(&self) -> bool {
        matches!(self, Self::Local { .. } | Self::Thread(_) | Self::NoResult)
    }

    /// Whether another try would end the same way.
    pub(crate) const fn is_permanent(&self) -> bool {
        match self {
            Self::Climbing(_)
            | Self::Headers
            | Self::Kind { .. }
            | Self::Local { .. }
            | Self::Thread(_)
            | Self::NoResult => true,
            Self::Empty
            | Self::Gzip(_)
            | Self::Tar(_)
            | Self::Truncated { .. }
            | Self::NoEntries
            | Self::Entry { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str) -> FetchError {
        FetchError::Server { code: code.to_owned(), message: "no such thing".to_owned() }
    }

    fn status(code: Code) -> FetchError {
        FetchError::Status { code, message: "no such thing".to_owned() }
    }

    #[test]
    fn classes() {
        let local = io::Error::from(io::ErrorKind::StorageFull);
        for (error, class) in [
            (server("XX000"), ErrorClass::Transient),
            (server("57P01"), ErrorClass::Transient),
            (server("28P01"), ErrorClass::Refused),
            (status(Code::Unauthenticated), ErrorClass::Refused),
            (status(Code::Unimplemented), ErrorClass::Refused),
            (status(Code::NotFound), ErrorClass::Transient),
            (status(Code::FailedPrecondition), ErrorClass::Transient),
            (FetchError::BadToken, ErrorClass::Local),
            (FetchError::FirstByteTimeout(Duration::from_secs(330)), ErrorClass::Transient),
            (FetchError::Stalled(Duration::from_secs(60)), ErrorClass::Transient),
            (UnpackError::Climbing("../x".to_owned()).into(), ErrorClass::Local),
            (UnpackError::Local { path: "base".into(), error: local }.into(), ErrorClass::Local),
            (UnpackError::Empty.into(), ErrorClass::Transient),
        ] {
            assert_eq!(error.class(), class, "{error}");
        }
    }

    #[test]
    fn the_servers_words_survive() {
        let (lsn, took) = (Lsn(0x2A3B4C8), Duration::from_millis(57_310));
        let peer = || "ps-1:6400".to_owned();
        let error = BasebackupError { lsn, peer: peer(), tries: 11, took, error: server("XX000") };
        assert_eq!(
            error.to_string(),
            "failed to get basebackup@0/2A3B4C8: the pageserver answers: no such thing (SQLSTATE \
             XX000), from ps-1:6400; this was the last of 11 tries in 57.3 s"
        );
        let error = FetchError::NoPageserver;
        let error = BasebackupError { lsn, peer: peer(), tries: 1, took, error };
        assert_eq!(
            error.to_string(),
            "failed to get basebackup@0/2A3B4C8: must have at least one pageserver"
        );
    }
}
