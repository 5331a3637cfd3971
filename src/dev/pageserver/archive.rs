//! The archive and the behaviour that both protocols share.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::dev::faults::PageserverBehaviour;

/// Number of chunks read ahead of the socket.
const READ_AHEAD: usize = 4;

pub(super) type SharedBehaviour = Arc<Mutex<PageserverBehaviour>>;

/// The archive to serve now, with the WAL that earlier computes have archived.
pub(super) async fn current_archive(behaviour: &SharedBehaviour) -> io::Result<PathBuf> {
    let (archive, wal) = {
        let behaviour = behaviour.lock();
        (behaviour.archive.clone(), behaviour.wal.clone())
    };
    let Some(wal) = wal else { return Ok(archive) };
    tokio::task::spawn_blocking(move || wal.base_with_wal()).await.map_err(io::Error::other)?
}

/// Reads the archive in chunks of `size` bytes on a blocking thread, inflated unless the client
/// accepts gzip. The thread ends when the receiver is dropped.
pub(super) fn read_archive(
    path: &Path,
    gzip: bool,
    size: usize,
) -> io::Result<mpsc::Receiver<io::Result<Bytes>>> {
    let file = File::open(path)?;
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut reader: Box<dyn Read> =
            if gzip { Box::new(file) } else { Box::new(GzDecoder::new(io::BufReader::new(file))) };
        loop {
            let mut chunk = Vec::with_capacity(size);
            let read = reader.by_ref().take(size as u64).read_to_end(&mut chunk);
            let last = !matches!(read, Ok(bytes) if bytes > 0);
            if matches!(read, Ok(0)) || sender.blocking_send(read.map(|_| chunk.into())).is_err() {
                return;
            }
            if last {
                return;
            }
        }
    });
    Ok(receiver)
}
