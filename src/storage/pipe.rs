//! A byte pipe between two threads with a fixed pool of buffers.
//!
//! The pool is the bound: the writer fills an empty buffer and sends it, the reader returns it once
//! it is used up. So memory does not depend on the amount of data, and no buffer is allocated or
//! cleared in between. Each end notices when the other end is dropped.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};

/// Tells both ends of a pipe, from a third thread, that the result is no longer needed.
pub(super) type Cancel = Arc<AtomicBool>;

/// The filling end.
#[derive(Debug)]
pub(super) struct PipeWriter {
    full: mpsc::SyncSender<Vec<u8>>,
    empty: mpsc::Receiver<Vec<u8>>,
    cancel: Cancel,
}

/// The emptying end. End of file means that the writer was dropped, for whatever reason.
#[derive(Debug)]
pub(super) struct PipeReader {
    full: mpsc::Receiver<Vec<u8>>,
    empty: mpsc::SyncSender<Vec<u8>>,
    current: Vec<u8>,
    used: usize,
    cancel: Cancel,
}

/// Makes a pipe of `count` buffers of `size` bytes.
pub(super) fn pipe(count: usize, size: usize, cancel: &Cancel) -> (PipeWriter, PipeReader) {
    let (full_in, full_out) = mpsc::sync_channel(count);
    let (empty_in, empty_out) = mpsc::sync_channel(count);
    for _ in 0..count {
        // Both channels have room for every buffer of the pool, so sending never waits.
        let _ = empty_in.try_send(vec![0; size]);
    }
    (
        PipeWriter { full: full_in, empty: empty_out, cancel: cancel.clone() },
        PipeReader {
            full: full_out,
            empty: empty_in,
            current: Vec::new(),
            used: 0,
            cancel: cancel.clone(),
        },
    )
}

impl PipeWriter {
    /// Copies everything from `source` to the reader. `Ok(false)`: the reader was dropped first.
    pub(super) fn drain(&self, source: &mut impl Read) -> io::Result<bool> {
        while let Ok(mut buffer) = self.empty.recv() {
            if self.cancel.load(Relaxed) {
                return Ok(false);
            }
            buffer.resize(buffer.capacity(), 0);
            let (filled, failure) = fill(source, &mut buffer);
            // Data read before an error is sent too: the reader may find a better explanation in
            // it.
            buffer.truncate(filled);
            if filled > 0 && self.full.send(buffer).is_err() {
                return Ok(false);
            }
            match failure {
                Some(error) => return Err(error),
                None if filled == 0 => return Ok(true),
                None => {}
            }
        }
        Ok(false)
    }
}

/// Reads until the buffer is full or the source ends or fails.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match source.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(error)),
        }
    }
    (filled, None)
}

impl Read for PipeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used >= self.current.len() {
            if self.current.capacity() > 0 {
                // Sending fails only after the writer was dropped, which then needs no buffer.
                let _ = self.empty.try_send(std::mem::take(&mut self.current));
            }
            self.used = 0;
            match self.full.recv() {
                Ok(buffer) => self.current = buffer,
                Err(mpsc::RecvError) => return Ok(0),
            }
            if self.cancel.load(Relaxed) {
                return Err(io::Error::other("cancelled"));
            }
        }
        let mut rest = self.current.get(self.used..).unwrap_or_default();
        let n = rest.read(out)?;
        self.used += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::thread;

    #[test]
    fn a_gone_reader_stops_the_writer() {
        let (writer, reader) = pipe(2, 16, &Cancel::default());
        drop(reader);
        assert!(!writer.drain(&mut io::repeat(1)).unwrap());
    }

    #[test]
    fn cancel_stops_an_endless_source() {
        let cancel = Cancel::default();
        let (writer, mut reader) = pipe(2, 16, &cancel);
        let thread = thread::spawn(move || writer.drain(&mut io::repeat(1)));
        let mut some = [0; 100];
        reader.read_exact(&mut some).unwrap();
        cancel.store(true, Relaxed);
        // The read ends with an error, or with end of file if the writer noticed first.
        let _ = io::copy(&mut reader, &mut io::sink());
        drop(reader);
        assert!(!thread.join().unwrap().unwrap());
    }

    proptest! {
        #[test]
        fn bytes_arrive_in_order(
            data: Vec<u8>, count in 1usize..4, size in 1usize..9, step in 1usize..20,
        ) {
            let (writer, mut reader) = pipe(count, size, &Cancel::default());
            let source = data.clone();
            let thread = thread::spawn(move || writer.drain(&mut source.as_slice()));
            let mut out = Vec::new();
            let mut piece = vec![0; step];
            loop {
                let n = reader.read(&mut piece).unwrap();
                if n == 0 { break }
                out.extend_from_slice(&piece[..n]);
            }
            prop_assert!(thread.join().unwrap().unwrap());
            prop_assert_eq!(out, data);
        }
    }
}
