//! The only output to stderr, which never blocks a caller.
//!
//! Our own log and Postgres' log (01 §20) are both queued here and written by one thread. So a
//! stalled reader of our stderr delays neither Postgres nor the daemon: when the byte budget is
//! used up, lines are dropped and counted, and one line reports their number as soon as the writer
//! continues.
//!
//! Invariant: [`LogSink::write`] only takes a short mutex; each item is written in one piece, so
//! lines of different sources never mix.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::shown::escaped;

/// Limit for writing our own log at the end of the process.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Bytes that may be queued: enough for a burst of several of the longest messages.
const BUDGET: usize = 4 << 20;

/// Clonable handle to the writer thread. The thread writes all queued items and ends when the last
/// handle is dropped.
#[derive(Clone)]
pub struct LogSink(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when an item is queued for the writer.
    work: Condvar,
    /// Signalled when the writer has finished all items.
    idle: Condvar,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Vec<u8>>,
    /// Bytes queued or being written.
    bytes: usize,
    budget: usize,
    /// Whether the writer has taken items that it has not finished.
    writing: bool,
    /// Dropped items that no line has reported yet.
    untold: u64,
    /// Dropped items in total.
    dropped: u64,
    closed: bool,
}

impl LogSink {
    /// Starts the writer thread on `out` (stderr, or a buffer in tests).
    ///
    /// # Errors
    /// The thread could not be created.
    pub fn new(out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_budget(out, BUDGET)
    }

    fn with_budget(out: impl Write + Send + 'static, budget: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { budget, ..Queue::default() }),
            work: Condvar::new(),
            idle: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("log-writer".into()).spawn(move || writer.run(out))?;
        Ok(Self(Arc::new(Handle { shared })))
    }

    /// Queues one item: a whole line (or several) with its line feed. Never blocks; drops the
    /// item when the budget is used up.
    pub fn write(&self, item: Vec<u8>) {
        let shared = &self.0.shared;
        let mut queue = shared.lock();
        if queue.bytes.saturating_add(item.len()) > queue.budget {
            queue.untold += 1;
            queue.dropped += 1;
        } else {
            queue.bytes += item.len();
            queue.items.push_back(item);
        }
        drop(queue);
        shared.work.notify_one();
    }

    /// Items dropped since the start, for the metrics.
    pub fn dropped(&self) -> u64 {
        self.0.shared.lock().dropped
    }

    /// Blocks until everything queued is written, for at most `limit`. Returns whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let shared = &self.0.shared;
        let until = Instant::now() + limit;
        let mut queue = shared.lock();
        while !queue.is_done() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            shared.idle.wait_for(&mut queue, left);
        }
        true
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSink").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
    }
}

impl Queue {
    fn is_done(&self) -> bool {
        self.items.is_empty() && !self.writing && self.untold == 0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    fn run(&self, mut out: impl Write) {
        let mut queue = self.lock();
        loop {
            if queue.items.is_empty() && queue.untold == 0 {
                self.idle.notify_all();
                if queue.closed {
                    return;
                }
                self.work.wait(&mut queue);
                continue;
            }
            // Items were dropped after the queued ones, so the report follows them.
            let items = std::mem::take(&mut queue.items);
            let untold = std::mem::take(&mut queue.untold);
            queue.writing = true;
            drop(queue);
            let mut lost = 0;
            for item in &items {
                // A reader that closed the pipe (EPIPE) must not end the daemon.
                lost += u64::from(out.write_all(item).is_err());
                let mut queue = self.lock();
                queue.bytes = queue.bytes.saturating_sub(item.len());
            }
            if untold > 0 {
                let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ");
                // An error here is ignored: `dropped` counts the items anyway.
                let _ = writeln!(out, "{now}  WARN log reader too slow: {untold} lines dropped");
            }
            let _ = out.flush();
            queue = self.lock();
            queue.dropped += lost;
            queue.writing = false;
        }
    }
}

/// Collects the output of one event and queues it as one item when dropped, with control characters
/// escaped.
#[derive(Debug)]
pub struct EventWriter {
    sink: LogSink,
    buffer: Vec<u8>,
}

impl Write for EventWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        if !self.buffer.is_empty() {
            let event = std::mem::take(&mut self.buffer);
            // The event may contain text from outside.
            let clean = match escaped(&event, true) {
                Cow::Owned(clean) => Some(clean),
                Cow::Borrowed(_) => None,
            };
            self.sink.write(clean.unwrap_or(event));
        }
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = EventWriter;

    fn make_writer(&'a self) -> EventWriter {
        EventWriter { sink: self.clone(), buffer: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Forwards each write; with a gate, waits for a permit before each.
    struct Out {
        gate: Option<mpsc::Receiver<()>>,
        seen: mpsc::Sender<String>,
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(gate) = &self.gate {
                let _ = self.seen.send(String::new());
                let _ = gate.recv();
            }
            let _ = self.seen.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn keeps_order_and_ends_after_the_last_handle() {
        let (seen, lines) = mpsc::channel();
        let sink = LogSink::new(Out { gate: None, seen }).unwrap();
        let other = sink.clone();
        sink.write(b"one\n".to_vec());
        other.write(b"two\n".to_vec());
        assert!(sink.flush(LONG));
        drop((sink, other));
        // The channel ends only when the thread has dropped its writer.
        assert_eq!(lines.iter().collect::<String>(), "one\ntwo\n");
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_not_time() {
        let (open, gate) = mpsc::channel();
        let (seen, lines) = mpsc::channel();
        let sink = LogSink::with_budget(Out { gate: Some(gate), seen }, 10).unwrap();
        sink.write(b"first\n".to_vec());
        assert_eq!(lines.recv().unwrap(), "", "the writer is stuck in its first line");
        for line in ["lost\n", "lost\n", "x\n"] {
            sink.write(line.into());
        }
        assert_eq!(sink.dropped(), 2);
        assert!(!sink.flush(Duration::ZERO));
        drop(open);
        assert!(sink.flush(LONG));
        sink.write(b"last\n".to_vec());
        drop(sink);
        let text: String = lines.iter().collect();
        assert!(text.starts_with("first\n") && text.ends_with("last\n"), "{text}");
        assert_eq!(text.matches("2 lines dropped").count(), 1, "{text}");
        assert!(!text.contains("lost\n"), "{text}");
    }

    #[test]
    fn an_event_is_one_item() {
        let (seen, lines) = mpsc::channel();
        let sink = LogSink::new(Out { gate: None, seen }).unwrap();
        let mut event = sink.make_writer();
        event.write_all(b"half ").unwrap();
        sink.write(b"between\n".to_vec());
        event.write_all(b"whole\n").unwrap();
        drop(event);
        drop(sink);
        assert_eq!(lines.iter().collect::<String>(), "between\nhalf whole\n");
    }
}
