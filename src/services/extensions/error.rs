//! Why an archive could not be unpacked, and whether another copy can be.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// More than any extension has.
pub(super) const ENTRIES_LIMIT: usize = 100_000;
/// Why an archive could not be unpacked.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// Corrupt or cut off.
    #[error("the archive is no complete zstd-compressed tar: {0}")]
    Broken(#[source] io::Error),
    /// Refused.
    #[error(
        "the archive is refused: unpacked it is larger than {0} bytes, or is no archive of files"
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
        /// What it is.
        kind: &'static str,
    },
    /// Nothing in it.
    #[error("the archive has no files below lib/ and share/extension/")]
    NoFiles,
    /// Not ours to write to.
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
    /// A full disk, entries that contradict each other.
    #[error("could not write {path:?}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ArchiveError {
    /// Whether another copy of the same archive may be whole.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Broken(_))
    }
}
