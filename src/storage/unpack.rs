//! Turns the bytes of an archive into files while they arrive.
//!
//! ```text
//! push() ──channel of chunks──► thread "inflate" ──pipe of buffers──► thread "untar"
//! ```
//!
//! Inflating takes the most time, so it has its own thread and overlaps with the network and the
//! disk. The data between the three stages has a fixed size, below 2 MiB in all.
//!
//! Invariant: no thread outlives its [`Unpacker`]. Dropping it stops both threads and waits for
//! them, for at most the work on one buffer. So a cleanup of the directory after a failed or
//! cancelled try does not race with a writer.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{Builder, JoinHandle};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use tokio::sync::{mpsc, oneshot};

use super::errors::UnpackError;
use super::pipe::{Cancel, PipeReader, PipeWriter, pipe};
use super::tree::{Tree, clean_for_retry};

/// Chunks of at most 64 KiB that may wait for the inflater.
const COMPRESSED_CHUNKS: usize = 4;
/// Buffers between inflating and writing.
const BUFFERS: usize = 4;
/// Size of each buffer. Handing one over wakes the other thread, which costs as much as inflating
/// several KiB; smaller buffers make that cost visible, larger ones gain nothing. From 128 KiB on,
/// freed buffers go back to the system.
const BUFFER_SIZE: usize = 256 * 1024;

/// A running unpack into one data directory.
#[derive(Debug)]
pub(crate) struct Unpacker {
    /// `None` once the end of the archive was announced.
    chunks: Option<mpsc::Sender<Bytes>>,
    result: Option<oneshot::Receiver<Result<(), UnpackError>>>,
    thread: Option<JoinHandle<()>>,
    cancel: Cancel,
    empty: bool,
}

impl Unpacker {
    /// Starts the threads. With `clean`, the leftovers of an earlier try are removed first, while
    /// the network is already in use.
    pub(crate) fn start(pgdata: &Path, clean: bool) -> Result<Self, UnpackError> {
        let cancel = Cancel::default();
        let (chunks, compressed) = mpsc::channel(COMPRESSED_CHUNKS);
        let (done, result) = oneshot::channel();
        let (writer, reader) = pipe(BUFFERS, BUFFER_SIZE, &cancel);
        let pgdata = pgdata.to_owned();
        let untar = Builder::new()
            .name("untar".to_owned())
            .spawn(move || untar(&pgdata, clean, reader))
            .map_err(UnpackError::Thread)?;
        let inflate = Builder::new()
            .name("inflate".to_owned())
            .spawn(move || {
                let inflated = inflate(compressed, writer);
                // The pipe is closed here, so the other thread ends too.
                let written = untar.join().unwrap_or(Err(UnpackError::NoResult));
                // The receiver is gone if the try was cancelled.
                let _ = done.send(match written {
                    // How far the other thread got decides which error comes first; a refusal must
                    // win in any case.
                    Err(error) if error.is_permanent() => Err(error),
                    written => inflated.and(written),
                });
            })
            .map_err(UnpackError::Thread)?;
        Ok(Self {
            chunks: Some(chunks),
            result: Some(result),
            thread: Some(inflate),
            cancel,
            empty: true,
        })
    }

    /// Hands over the next bytes, waiting for room. `false`: unpacking has already failed, and
    /// [`Self::finish`] returns the error.
    pub(crate) async fn push(&mut self, chunk: Bytes) -> bool {
        self.empty &= chunk.is_empty();
        match &self.chunks {
            Some(chunks) => chunks.send(chunk).await.is_ok(),
            None => false,
        }
    }

    /// Announces the end of the archive and waits until every file is written.
    pub(crate) async fn finish(mut self) -> Result<(), UnpackError> {
        self.chunks = None;
        let Some(result) = self.result.take() else { return Err(UnpackError::NoResult) };
        match result.await {
            Ok(Err(UnpackError::Gzip(_))) if self.empty => Err(UnpackError::Empty),
            Ok(result) => result,
            Err(_) => Err(UnpackError::NoResult),
        }
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        self.cancel.store(true, Relaxed);
        self.chunks = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already reported as a missing result.
            let _ = thread.join();
        }
    }
}

/// Takes both by value, because dropping them on return ends the neighbours.
pub(super) fn inflate(
    compressed: mpsc::Receiver<Bytes>,
    writer: PipeWriter,
) -> Result<(), UnpackError> {
    let source = Chunks { compressed, current: Bytes::new() };
    // `Ok(false)` (the other thread ended) is not an error here: that thread reports the cause.
    writer.drain(&mut MultiGzDecoder::new(source)).map(drop).map_err(UnpackError::Gzip)
}

fn untar(pgdata: &Path, clean: bool, mut reader: PipeReader) -> Result<(), UnpackError> {
    if clean {
        clean_for_retry(pgdata)?;
    }
    let mut tree = Tree::open(pgdata)?;
    if tree.unpack(&mut reader)? == 0 {
        return Err(UnpackError::NoEntries);
    }
    tree.fix_signal_files()
}

/// The compressed bytes as a reader. End of file means that no more chunks will come.
struct Chunks {
    compressed: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.compressed.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, used: usize) {
        self.current.advance(used.min(self.current.len()));
    }
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
