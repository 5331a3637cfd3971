//! The only output to stderr, which never blocks a caller.
//!
//! Our own log and Postgres' log (01 §20) are both queued here and written by one thread. So a
//! stalled reader of our stderr delays neither Postgres nor the daemon: when the byte budget is
//! used up, lines are dropped and counted, and one line reports their number as soon as the writer
//! continues.
//!
//! Under load the writer collects items for [`GATHER`] and writes them together: to wake it for each
//! would cost the callers more than their lines. An item after a pause is written at once.
//!
//! Invariant: [`LogSink::write`] only takes a short mutex; each item is written in one piece, so
//! lines of different sources never mix.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::Level;

use super::form::{Form, LogFormat, priority};
use super::levels::Levels;
use super::recent::{RecentLog, Source};
use super::record::{Record, messages, parse};
use super::severity::Severity;

/// Limit for writing our own log at the end of the process.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Bytes that may be queued: enough for a burst of several of the longest messages.
const BUDGET: usize = 4 << 20;

/// Time from the end of one write to the next one. A process that is killed loses the lines of so
/// much time.
const GATHER: Duration = Duration::from_millis(1);

/// Items are joined up to this size.
const PIECE: usize = 64 << 10;

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
    levels: OnceLock<Levels>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when the writer has to look at the queue.
    work: Condvar,
    /// Signalled when the writer has finished all items.
    idle: Condvar,
    form: Form,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Vec<u8>>,
    /// Bytes queued or being written.
    bytes: usize,
    budget: usize,
    /// Whether the writer has taken items that it has not finished.
    writing: bool,
    /// The writer waits for an item, and has not been signalled.
    asleep: bool,
    /// Someone waits for the end of the queue.
    hurry: bool,
    /// Dropped items that no line has reported yet.
    untold: u64,
    /// Dropped items in total.
    dropped: u64,
    closed: bool,
}

impl LogSink {
    /// Starts the writer thread on `out` (stderr, or a buffer in tests), for text.
    ///
    /// # Errors
    /// The thread could not be created.
    pub fn new(out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::formed(out, Form::default())
    }

    /// As [`LogSink::new`], in a form.
    ///
    /// # Errors
    /// The thread could not be created.
    pub fn formed(out: impl Write + Send + 'static, form: Form) -> io::Result<Self> {
        Self::with_budget(out, BUDGET, RecentLog::new(), form)
    }

    /// As [`LogSink::new`], for a second log whose lines are in the first one too: its last lines
    /// are not kept.
    pub(super) fn second(out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_budget(out, BUDGET, RecentLog::none(), Form::default())
    }

    fn with_budget(
        out: impl Write + Send + 'static,
        budget: usize,
        recent: RecentLog,
        form: Form,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { budget, ..Queue::default() }),
            work: Condvar::new(),
            idle: Condvar::new(),
            form,
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("log-writer".into()).spawn(move || writer.run(out))?;
        Ok(Self(Arc::new(Handle { shared, recent, levels: OnceLock::new() })))
    }

    /// Writes a message of Postgres: its lines, separated by line feeds, without control characters.
    /// The text form has `PG:` in front and U+200B between the lines (01 §20.2).
    pub fn postgres(&self, message: &[u8]) {
        let form = self.form();
        let (now, prefix) = (Utc::now(), form.prefix());
        let severity = parse(message, &prefix).severity;
        let level = severity.map_or(Level::INFO, Severity::level);
        self.0.recent.add(now, level, Source::Postgres, &String::from_utf8_lossy(message));
        match form.format() {
            LogFormat::Text => {
                let mut item = Vec::with_capacity(PREFIX.len() + message.len() + 1);
                form.begin_line(&mut item, severity.map_or(priority(level), Severity::priority));
                item.extend_from_slice(PREFIX);
                for (number, line) in message.split(|byte| *byte == b'\n').enumerate() {
                    item.extend_from_slice(if number == 0 { b"" } else { JOINT });
                    item.extend_from_slice(line);
                }
                item.push(b'\n');
                self.write(item);
            }
            LogFormat::Json => {
                for message in messages(message, &prefix) {
                    self.record(&Record::of_postgres(now, message, &prefix));
                }
            }
        }
    }

    /// Writes a record, in an output that is JSON.
    pub(super) fn record(&self, record: &Record<'_>) {
        let level = priority(record.level);
        let priority = record.severity.map_or(level, Severity::priority);
        self.write(self.form().json(record, priority));
    }

    /// Writes a line of our own whatever the levels of the log are.
    pub(super) fn note(&self, text: String) {
        let now = Utc::now();
        self.0.recent.add(now, Level::INFO, Source::ComputeCtl, &text);
        self.write(self.form().note(now, Level::INFO, text, &[]));
    }

    /// The compute serves this timeline from now on, and Postgres has this `log_line_prefix`; none
    /// is Postgres' own.
    pub(crate) fn serves(&self, tenant: String, timeline: String, prefix: Option<&str>) {
        self.form().serves(tenant, timeline, prefix);
    }

    /// The form of the output.
    pub fn form(&self) -> &Form {
        &self.0.shared.form
    }

    /// The levels; none if the log of the process goes elsewhere.
    pub(crate) fn levels(&self) -> Option<&Levels> {
        self.0.levels.get()
    }

    /// Sets the levels, once.
    pub(super) fn set_levels(&self, levels: Levels) {
        let _ = self.0.levels.set(levels);
    }

    /// The last lines.
    pub(crate) fn recent(&self) -> &RecentLog {
        &self.0.recent
    }

    /// Queues one item: a whole line (or several) with its line feed. Never blocks; drops the
    /// item when the budget is used up.
    pub(super) fn write(&self, item: Vec<u8>) {
        let shared = &self.0.shared;
        let mut queue = shared.lock();
        if queue.bytes.saturating_add(item.len()) > queue.budget {
            queue.untold += 1;
            queue.dropped += 1;
        } else {
            queue.bytes += item.len();
            queue.items.push_back(item);
        }
        let wake = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wake {
            shared.work.notify_one();
        }
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
            queue.hurry = true;
            shared.work.notify_one();
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
        let mut next = Instant::now();
        let mut queue = self.lock();
        loop {
            if queue.items.is_empty() && queue.untold == 0 {
                queue.hurry = false;
                self.idle.notify_all();
                if queue.closed {
                    return;
                }
                queue.asleep = true;
                self.work.wait(&mut queue);
                continue;
            }
            queue.asleep = false;
            let pause = next.saturating_duration_since(Instant::now());
            if !(pause.is_zero() || queue.hurry || queue.closed) {
                self.work.wait_for(&mut queue, pause);
                continue;
            }
            // Items were dropped after the queued ones, so the report follows them.
            let items = std::mem::take(&mut queue.items);
            let untold = std::mem::take(&mut queue.untold);
            queue.writing = true;
            drop(queue);
            let mut lost = 0;
            let mut items = items.into_iter().peekable();
            while let Some(mut piece) = items.next() {
                let mut count = 1;
                while let Some(item) = items.next_if(|it| piece.len() + it.len() <= PIECE) {
                    piece.extend_from_slice(&item);
                    count += 1;
                }
                // A reader that closed the pipe (EPIPE) must not end the daemon.
                lost += if out.write_all(&piece).is_ok() { 0 } else { count };
                let mut queue = self.lock();
                queue.bytes = queue.bytes.saturating_sub(piece.len());
            }
            if untold > 0 {
                // An error here is ignored: `dropped` counts the items anyway.
                let _ = out.write_all(&self.form.dropped(untold));
            }
            let _ = out.flush();
            next = Instant::now() + GATHER;
            queue = self.lock();
            queue.dropped += lost;
            queue.writing = false;
        }
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
        let sink = LogSink::with_budget(
            Out { gate: Some(gate), seen },
            10,
            RecentLog::none(),
            Form::default(),
        )
        .unwrap();
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
    fn lines_that_wait_are_written_together() {
        let (open, gate) = mpsc::channel();
        let (seen, lines) = mpsc::channel();
        let sink = LogSink::new(Out { gate: Some(gate), seen }).unwrap();
        let long = "x".repeat(PIECE) + "\n";
        sink.write(b"first\n".to_vec());
        assert_eq!(lines.recv().unwrap(), "", "the writer is at its first line");
        for line in ["second\n", "third\n", &long, "last\n"] {
            sink.write(line.into());
        }
        drop(open);
        assert!(sink.flush(LONG));
        drop(sink);
        let written: Vec<_> = lines.iter().filter(|piece| !piece.is_empty()).collect();
        assert_eq!(written, ["first\n", "second\nthird\n", &long, "last\n"]);
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
}
