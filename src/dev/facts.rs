//! Facts read from a basebackup archive.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use super::control_file::ControlFile;

/// Longest plausible content of `PG_VERSION`.
const VERSION_LIMIT: u64 = 16;

/// Version and checkpoint of a basebackup archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArchiveFacts {
    /// Major version of the server that made the data directory.
    pub major: u16,
    /// Its checkpoint; the LSN that the safekeepers should report.
    pub checkpoint_lsn: u64,
    /// Timeline of its WAL.
    pub wal_timeline: u32,
}

impl ArchiveFacts {
    /// Reads the whole archive, so that a truncated one is an error.
    ///
    /// # Errors
    /// The file cannot be read, is not a complete gzip tar, or is not a basebackup.
    pub(crate) fn read(archive: &Path) -> io::Result<Self> {
        let (mut major, mut control) = (None, None);
        let mut tar = tar::Archive::new(GzDecoder::new(File::open(archive)?));
        for entry in tar.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            if path == Path::new("global/pg_control") {
                control = Some(ControlFile::from_reader(&mut entry)?);
            } else if path == Path::new("PG_VERSION") {
                let mut text = String::new();
                entry.take(VERSION_LIMIT).read_to_string(&mut text)?;
                major = text.trim().parse().ok();
            }
        }
        match (major, control) {
            (Some(major), Some(ControlFile { checkpoint_lsn, wal_timeline, .. })) => {
                Ok(Self { major, checkpoint_lsn, wal_timeline })
            }
            _ => Err(io::Error::other("it has no PG_VERSION or no global/pg_control")),
        }
    }
}
