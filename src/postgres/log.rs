//! Copies Postgres' log from the child's stderr to ours, without ever blocking Postgres (01 §20.2).
//!
//! Lines of one message are sent in one piece to the [`LogSink`], which never blocks; so the pipe is
//! always read, and a slow reader of our stderr never delays Postgres. Bytes that are not UTF-8 are copied unchanged; control characters other
//! than tab are escaped, because tenants control the content of lines
//! ([`crate::telemetry::shown`]).
//!
//! [`Joiner`] is the pure part: bytes and ticks in, messages out. [`LogCollector`] is the task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::telemetry::shown::escaped;
use crate::telemetry::sink::LogSink;

/// A message is complete when no line followed for this long.
const SILENCE: Duration = Duration::from_millis(100);
/// A longer message (or a longer line without an end) is written in pieces.
const MAX_MESSAGE: usize = 1 << 20;
/// Lines kept for error reports, and the kept length of each.
const TAIL_LINES: usize = 50;
const TAIL_LINE_BYTES: usize = 1024;

/// Bytes that the text form of the log adds to each line of a message: `PG:` or U+200B.
const MARK: usize = 3;

/// Joins lines to messages. Holds at most one message and one unfinished line, each of about the
/// cap.
#[derive(Debug)]
pub(crate) struct Joiner {
    cap: usize,
    /// Lines of the current message, separated by line feeds.
    message: Vec<u8>,
    /// Length of the message in the text form of the log; 0 between messages.
    length: usize,
    /// The unfinished line.
    line: Vec<u8>,
}

impl Joiner {
    /// A joiner that flushes when a message or line reaches `cap` bytes.
    pub(crate) fn new(cap: usize) -> Self {
        Self { cap: cap.max(1), message: Vec::new(), length: 0, line: Vec::new() }
    }

    /// Consumes the next bytes. Passes complete messages, as lines with line feeds between them, to
    /// `emit`, and each complete line to `seen`. Returns whether a line was completed.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        emit: &mut impl FnMut(Vec<u8>),
        seen: &mut impl FnMut(&[u8]),
    ) -> bool {
        let mut completed = false;
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            // A longer line is cut at the cap, however the bytes arrive.
            let mut rest = text;
            while !rest.is_empty() {
                if self.line.len() >= self.cap {
                    self.end_line(emit, seen);
                    self.flush(emit);
                    completed = true;
                }
                let room = self.cap.saturating_sub(self.line.len());
                let (part, after) = rest.split_at(room.min(rest.len()));
                self.line.extend_from_slice(part);
                rest = after;
            }
            if ended {
                self.end_line(emit, seen);
                completed = true;
            }
        }
        completed
    }

    /// Called after `SILENCE` without a line: completes the message. An unfinished line stays.
    pub(crate) fn tick(&mut self, emit: &mut impl FnMut(Vec<u8>)) {
        self.flush(emit);
    }

    /// The child closed its end: completes the line and the message.
    pub(crate) fn eof(&mut self, emit: &mut impl FnMut(Vec<u8>), seen: &mut impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            self.end_line(emit, seen);
        }
        self.flush(emit);
    }

    /// Whether complete lines are held back for a longer message.
    pub(crate) fn is_pending(&self) -> bool {
        self.length > 0
    }

    fn end_line(&mut self, emit: &mut impl FnMut(Vec<u8>), seen: &mut impl FnMut(&[u8])) {
        let mut line = std::mem::take(&mut self.line);
        let clean = escaped(&line, false);
        seen(&clean);
        if starts_message(&clean) || self.length + clean.len() > self.cap {
            self.flush(emit);
        }
        if self.is_pending() {
            self.message.push(b'\n');
        }
        self.length += MARK + clean.len();
        self.message.extend_from_slice(&clean);
        drop(clean);
        // `clear` keeps the allocation for the next line.
        line.clear();
        self.line = line;
    }

    fn flush(&mut self, emit: &mut impl FnMut(Vec<u8>)) {
        if self.is_pending() {
            self.length = 0;
            emit(std::mem::take(&mut self.message));
        }
    }
}

/// `^\d+-\d{2}-\d{2} \d{2}:\d{2}:\d{2}`: a line with a timestamp begins a new message.
fn starts_message(line: &[u8]) -> bool {
    let year = line.iter().take_while(|b| b.is_ascii_digit()).count();
    let pattern = b"-00-00 00:00:00";
    let rest = line.get(year..year + pattern.len()).unwrap_or_default();
    year > 0
        && rest.len() == pattern.len()
        && rest.iter().zip(pattern).all(|(b, p)| match p {
            b'0' => b.is_ascii_digit(),
            _ => b == p,
        })
}

/// The last lines of the log, shared with the task.
type Tail = Arc<Mutex<VecDeque<String>>>;

/// The task that reads one child's stderr. Dropping the collector does not stop the task; it ends
/// at end of file.
#[derive(Debug)]
pub(crate) struct LogCollector {
    task: JoinHandle<()>,
    tail: Tail,
}

impl LogCollector {
    /// Starts reading `stderr`. Needs a runtime.
    pub(crate) fn start(stderr: impl AsyncRead + Send + Unpin + 'static, sink: LogSink) -> Self {
        let tail = Tail::default();
        let task = tokio::spawn(collect(stderr, sink, Arc::clone(&tail)));
        Self { task, tail }
    }

    /// Waits for at most `limit` until the pipe is closed and every message is handed to the sink.
    /// A leftover grandchild can hold the pipe open. Returns whether the pipe is closed.
    pub(crate) async fn drained(&mut self, limit: Duration) -> bool {
        self.task.is_finished() || timeout(limit, &mut self.task).await.is_ok()
    }

    /// The last `n` (at most 50) lines, oldest first, for error reports.
    pub(crate) fn last_lines(&self, n: usize) -> Vec<String> {
        let tail = self.tail.lock();
        tail.iter().skip(tail.len().saturating_sub(n)).cloned().collect()
    }
}

async fn collect(mut stderr: impl AsyncRead + Unpin, sink: LogSink, tail: Tail) {
    let mut joiner = Joiner::new(MAX_MESSAGE);
    let mut emit = |message: Vec<u8>| sink.postgres(&message);
    let mut seen = |line: &[u8]| remember(&tail, line);
    let mut chunk = vec![0; 16 << 10];
    let mut last_line = Instant::now();
    loop {
        let read = if joiner.is_pending() {
            match timeout_at(last_line + SILENCE, stderr.read(&mut chunk)).await {
                Ok(read) => read,
                Err(_) => {
                    joiner.tick(&mut emit);
                    continue;
                }
            }
        } else {
            stderr.read(&mut chunk).await
        };
        match read {
            Ok(n @ 1..) => {
                let bytes = chunk.get(..n).unwrap_or_default();
                if joiner.feed(bytes, &mut emit, &mut seen) {
                    last_line = Instant::now();
                }
            }
            Ok(_) => break,
            Err(error) => {
                tracing::warn!("could not read the log of Postgres any further: {error}");
                break;
            }
        }
    }
    joiner.eof(&mut emit, &mut seen);
}

fn remember(tail: &Tail, line: &[u8]) {
    let start = line.get(..TAIL_LINE_BYTES).unwrap_or(line);
    let mut tail = tail.lock();
    if tail.len() >= TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back(String::from_utf8_lossy(start).into_owned());
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    const A: &str = "2025-01-02 03:04:05.678 UTC [1] LOG:  a";
    const B: &str = "2025-01-02 03:04:06.000 UTC [1] LOG:  b";

    fn feed(joiner: &mut Joiner, text: impl AsRef<[u8]>) -> Vec<String> {
        let mut out = Vec::new();
        joiner.feed(text.as_ref(), &mut |m| out.push(m), &mut |_| {});
        out.into_iter().map(|m| String::from_utf8_lossy(&m).into_owned()).collect()
    }

    #[test]
    fn a_timestamp_begins_a_message() {
        let mut joiner = Joiner::new(MAX_MESSAGE);
        assert!(feed(&mut joiner, format!("{A}\n\tmore\n\n")).is_empty());
        assert_eq!(feed(&mut joiner, format!("{B}\n")), [format!("{A}\n\tmore\n")]);
        let mut out = Vec::new();
        joiner.tick(&mut |m| out.push(m));
        joiner.tick(&mut |m| out.push(m));
        assert_eq!(out, [B.as_bytes()]);
        // Later continuation lines form a new message, and so does an unfinished last line.
        joiner.feed(b"\tlate\nrest", &mut |m| out.push(m), &mut |_| {});
        joiner.eof(&mut |m| out.push(m), &mut |_| {});
        assert_eq!(out[1], b"\tlate\nrest");
    }

    #[test]
    fn what_a_timestamp_is() {
        for yes in [A, "1-11-11 11:11:11", "12025-01-02 03:04:05x"] {
            assert!(starts_message(yes.as_bytes()), "{yes}");
        }
        for no in ["", "-11-11 11:11:11", " 2025-01-02 03:04:05", "2025-01-02T03:04:05", "2025-1-2"]
        {
            assert!(!starts_message(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn where_a_long_line_is_cut_does_not_depend_on_its_pieces() {
        let cut = |pieces: &[&str]| {
            let (mut joiner, mut out) = (Joiner::new(10), Vec::new());
            for piece in pieces {
                joiner.feed(piece.as_bytes(), &mut |m| out.push(m), &mut |_| {});
            }
            joiner.eof(&mut |m| out.push(m), &mut |_| {});
            out.into_iter().map(|m| String::from_utf8(m).unwrap()).collect::<Vec<_>>()
        };
        let expected = ["0123456789", "abcde"];
        for pieces in [&["0123456789abcde"][..], &["0123456", "789abcde"], &["0123456789", "abcde"]]
        {
            assert_eq!(cut(pieces), expected, "{pieces:?}");
        }
        assert_eq!(cut(&["0123456789", "\n"]), ["0123456789"]);
    }

    #[test]
    fn invalid_utf8_passes_unchanged() {
        let mut joiner = Joiner::new(MAX_MESSAGE);
        let mut out = Vec::new();
        joiner.feed(b"a\xff\nb\n", &mut |m| out.push(m), &mut |_| {});
        joiner.tick(&mut |m| out.push(m));
        assert_eq!(out, [b"a\xff\nb"]);
    }

    /// A tenant's `RAISE LOG` can neither clear the reader's terminal nor overwrite the prefix.
    #[test]
    fn control_characters_are_escaped() {
        let mut joiner = Joiner::new(MAX_MESSAGE);
        let (mut out, mut lines) = (Vec::new(), Vec::new());
        let mut seen = |line: &[u8]| lines.push(line.to_vec());
        joiner.feed(b"\x1b[2J\rPG:\x00 \tx\xc2\x9b\n", &mut |m| out.push(m), &mut seen);
        joiner.tick(&mut |m| out.push(m));
        assert_eq!(out, [b"\\x1b[2J\\rPG:\\x00 \tx\\u{9b}"]);
        assert_eq!(lines, [b"\\x1b[2J\\rPG:\\x00 \tx\\u{9b}"]);
    }

    proptest! {
        /// No byte is lost or reordered, however the input is cut; without the inserted marks the
        /// output equals the input; a message exceeds the cap only by its marks.
        #[test]
        fn keeps_every_byte(
            lines in prop::collection::vec("[a-c]{0,30}|2025-01-02 03:04:05 [a-c]{0,9}", 0..20),
            cuts in prop::collection::vec((1..20usize, any::<bool>()), 1..50),
            cap in 1..60usize,
        ) {
            let input = lines.join("\n").into_bytes();
            let mut joiner = Joiner::new(cap);
            let mut out: Vec<Vec<u8>> = Vec::new();
            let mut rest = input.as_slice();
            for (cut, tick) in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                joiner.feed(now, &mut |m| out.push(m), &mut |_| {});
                if *tick { joiner.tick(&mut |m| out.push(m)); }
                rest = later;
            }
            joiner.eof(&mut |m| out.push(m), &mut |_| {});
            let mut text = String::new();
            for message in out {
                let message = String::from_utf8(message).unwrap();
                let lines = message.split('\n');
                let length: usize = lines.map(|line| MARK + line.len()).sum();
                prop_assert!(length <= cap + MARK);
                text += &message;
            }
            let plain = |s: &str| s.replace('\n', "");
            prop_assert_eq!(plain(&text), plain(std::str::from_utf8(&input).unwrap()));
        }
    }

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u8>>>);

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_completes_a_message() {
        let seen = Seen::default();
        let sink = LogSink::new(seen.clone()).unwrap();
        let (mut child, stderr) = tokio::io::duplex(1 << 10);
        let mut collector = LogCollector::start(stderr, sink.clone());
        child.write_all(format!("{A}\n\tx\n").as_bytes()).await.unwrap();
        tokio::time::sleep(SILENCE * 2).await;
        child.write_all(b"\ty\nz").await.unwrap();
        assert!(!collector.drained(SILENCE * 2).await, "the pipe is still open");
        drop(child);
        assert!(collector.drained(Duration::from_secs(60)).await);
        assert!(sink.flush(Duration::from_secs(60)));
        let text = String::from_utf8(seen.0.lock().clone()).unwrap();
        assert_eq!(text, format!("PG:{A}\u{200B}\tx\nPG:\ty\nPG:z\n"));
        assert_eq!(collector.last_lines(2), ["\ty", "z"]);
    }
}
