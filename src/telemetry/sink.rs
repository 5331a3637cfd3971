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

use chrono::{DateTime, Utc};
use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::recent::{RecentLog, Source};
use super::severity::Severity;
use super::shown::escaped;

/// Limit for writing our own log at the end of the process.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Bytes that may be queued: enough for a burst of several of the longest messages.
const BUDGET: usize = 4 << 20;

/// Bytes of the time and of the level at the beginning of an event's line, with the blanks around
/// the level.
const TIME: usize = "2026-01-02T03:04:05.678901Z".len();
const LEVEL: usize = "  INFO ".len();

/// What a message of Postgres begins with in the output, and what joins its lines.
const PREFIX: &[u8] = b"PG:";
const JOINT: &[u8] = "\u{200B}".as_bytes();

/// Clonable handle to the writer thread. The thread writes all queued items and ends when the last
/// handle is dropped.
#[derive(Clone)]
pub struct LogSink(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    recent: RecentLog,
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
        Self::with_budget(out, BUDGET, RecentLog::new())
    }

    /// As [`LogSink::new`], for a second log whose lines are in the first one too: its last lines
    /// are not kept.
    pub(super) fn second(out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_budget(out, BUDGET, RecentLog::none())
    }

    fn with_budget(
        out: impl Write + Send + 'static,
        budget: usize,
        recent: RecentLog,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { budget, ..Queue::default() }),
            work: Condvar::new(),
            idle: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("log-writer".into()).spawn(move || writer.run(out))?;
        Ok(Self(Arc::new(Handle { shared, recent })))
    }

    /// Writes a message of Postgres: its lines, separated by line feeds, without control characters.
    /// The output has `PG:` in front and U+200B between the lines (01 §20.2).
    pub fn postgres(&self, message: &[u8]) {
        let mut lines = message.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let mut item = Vec::with_capacity(PREFIX.len() + message.len() + 1);
        item.extend_from_slice(PREFIX);
        item.extend_from_slice(first);
        for line in lines {
            item.extend_from_slice(JOINT);
            item.extend_from_slice(line);
        }
        item.push(b'\n');
        self.write(item);
        let level = Severity::likely(first).map_or(Level::INFO, Severity::level);
        self.0.recent.add(Utc::now(), level, Source::Postgres, &String::from_utf8_lossy(message));
    }

    fn event_writer(&self, level: Level) -> EventWriter {
        EventWriter { sink: self.clone(), level, buffer: Vec::new() }
    }

    /// The last lines.
    pub(crate) fn recent(&self) -> &RecentLog {
        &self.0.recent
    }

    /// Queues one item: a whole line (or several) with its line feed. Never blocks; drops the
    /// item when the budget is used up.
    fn write(&self, item: Vec<u8>) {
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
    level: Level,
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
            let event = clean.unwrap_or(event);
            let recent = self.sink.recent();
            if recent.is_kept() {
                let text = String::from_utf8_lossy(&event);
                let (at, message) = parts(&text);
                recent.add(at, self.level, Source::ComputeCtl, message);
            }
            self.sink.write(event);
        }
    }
}

/// Time and text of an event: `2026-01-02T03:04:05.678901Z  INFO text`.
fn parts(event: &str) -> (DateTime<Utc>, &str) {
    let event = event.trim_end_matches('\n');
    let time = event.get(..TIME).and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    match (time, event.get(TIME + LEVEL..)) {
        (Some(time), Some(text)) => (time.to_utc(), text),
        _ => (Utc::now(), event),
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = EventWriter;

    fn make_writer(&'a self) -> EventWriter {
        self.event_writer(Level::INFO)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> EventWriter {
        self.event_writer(*event.level())
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
        let sink =
            LogSink::with_budget(Out { gate: Some(gate), seen }, 10, RecentLog::none()).unwrap();
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
    fn messages_of_postgres_are_marked() {
        let (seen, lines) = mpsc::channel();
        let sink = LogSink::new(Out { gate: None, seen }).unwrap();
        sink.postgres(b"2025-01-02 03:04:05 UTC [1] ERROR:  a\n\tb\n");
        sink.postgres(b"\xff");
        let recent = sink.recent().last(2);
        assert_eq!(recent[0].level, Level::ERROR);
        assert_eq!(&*recent[0].message, "2025-01-02 03:04:05 UTC [1] ERROR:  a\n\tb\n");
        assert_eq!((recent[1].level, recent[1].source), (Level::INFO, Source::Postgres));
        drop(sink);
        let text = lines.iter().collect::<String>();
        let first = "PG:2025-01-02 03:04:05 UTC [1] ERROR:  a\u{200B}\tb\u{200B}\n";
        assert_eq!(text, format!("{first}PG:\u{FFFD}\n"));
    }

    #[test]
    fn time_level_and_text_of_an_event_are_kept() {
        use tracing_subscriber::layer::SubscriberExt as _;
        let sink = LogSink::new(io::sink()).unwrap();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false);
        let log = tracing_subscriber::registry().with(lines.with_writer(sink.clone()));
        let before = Utc::now();
        tracing::subscriber::with_default(log, || {
            let span = tracing::info_span!("HTTP", path = "/x");
            span.in_scope(|| tracing::warn!(code = 4, "a \u{1b}\nb"));
        });
        let line = sink.recent().last(1).remove(0);
        assert_eq!((line.level, line.source), (Level::WARN, Source::ComputeCtl));
        assert_eq!(&*line.message, "HTTP{path=\"/x\"}: a \\x1b\nb code=4");
        let age = line.at - before;
        assert!(age.num_milliseconds() >= -1 && age.num_seconds() < 60, "{age}");
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
