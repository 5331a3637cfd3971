//! Why an archive could not be unpacked, and whether another copy may help.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Largest number of entries; no extension has as many.
pub(super) const ENTRIES_LIMIT: usize = 100_000;
/// Why an archive could not be unpacked.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// Corrupt or cut off.
    #[error("the archive is not a complete zstd-compressed tar: {0}")]
    Broken(io::Error),
    /// Refused.
    #[error(
        "the archive is refused: it unpacks to more than {0} bytes, or is not an archive of files"
    )]
    TooLarge(u64),
    /// Refused.
    #[error("the archive is refused: it has more than {ENTRIES_LIMIT} entries")]
    TooMany,
    /// Refused.
    #[error("the archive is refused: entry {0:?} leads out of its folder")]
    Climbing(PathBuf),
    /// Refused.
    #[error("the archive is refused: entry {path:?} is {kind}")]
    Kind {
        /// Which entry.
        path: PathBuf,
        /// Kind of the entry.
        kind: &'static str,
    },
    /// The archive is empty.
    #[error("the archive has no files below lib/ and share/extension/")]
    NoFiles,
    /// The folder cannot be written.
    #[error(
        "could not make a temporary folder in {folder}: {why}; the user that compute_ctl runs as \
         must be able to write there",
        folder = folder.display()
    )]
    Folder {
        /// The folder of Postgres.
        folder: PathBuf,
        /// Why.
        why: io::ErrorKind,
    },
    /// For example a full disk, or entries that contradict each other.
    #[error("could not write {path:?}: {error}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl ArchiveError {
    /// Whether another copy of the same archive may be complete.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Broken(_))
    }
}
