//! Errors of PGDATA.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::precious::Precious;
use crate::os::denied::explained;

/// Why a directory cannot be used as PGDATA.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PgDataError {
    /// The parent is missing.
    #[error(
        "the data directory {0} cannot be created because its parent directory does not exist: \
         create the parent, or give another path with --pgdata"
    )]
    NoParent(PathBuf),
    /// Something else has this name.
    #[error("{0} is not a directory: give another path with --pgdata")]
    NotADirectory(PathBuf),
    /// The lock is held.
    #[error(
        "another compute_ctl is working on the data directory {0}: end it first, or give \
         another path with --pgdata"
    )]
    Locked(PathBuf),
    /// Neither Postgres' data nor ours.
    #[error(
        "refusing to wipe {path}: it is not a Postgres data directory (it contains {example:?}). \
         Give another path with --pgdata, or delete its content with --force-wipe"
    )]
    Foreign {
        /// PGDATA.
        path: PathBuf,
        /// One of the entries that are not ours.
        example: OsString,
    },
    /// The same, where nothing is ever deleted.
    #[error(
        "refusing to wipe {path}: it is not a Postgres data directory (it contains {example:?}) \
         but {precious}. Give another path with --pgdata"
    )]
    Precious {
        /// PGDATA, resolved.
        path: PathBuf,
        /// One of the entries that are not ours.
        example: OsString,
        /// What it is instead.
        precious: Precious,
    },
    /// The operating system refused.
    #[error("could not {action} {path}: {error}")]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> PgDataError + 'a {
    move |error| PgDataError::Io { action, path: path.to_owned(), error: explained(error, path) }
}
