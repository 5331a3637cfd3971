//! The last lines of the log, for `GET /log` and for pages that show them.
//!
//! Lines get here where they enter the output ([`super::sink`]), in the same words as in the text
//! form of the log, whatever form the log is written in. So nothing is here that the log does not
//! hold. Lines that the output drops because its reader is slow are here all the same.
//!
//! Memory: at most [`LINES`] lines and [`BYTES`] bytes, of which each line takes at most
//! [`LINE_BYTES`] and what surrounds its text.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::Level;

/// Number of lines kept.
const LINES: usize = 500;
/// Longest text of a line, in bytes; of a longer one this much is kept, and its length.
const LINE_BYTES: usize = 1000;
/// Bytes kept in all.
const BYTES: usize = 256 << 10;
/// Bytes that a line takes besides its text: the entry and the counts of the shared text.
const OVERHEAD: usize = size_of::<Line>() + 2 * size_of::<usize>();

/// The program that a line is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// This program.
    ComputeCtl,
    /// The managed Postgres, or its run that syncs the safekeepers.
    Postgres,
}

impl Source {
    /// The name in documents.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ComputeCtl => "compute_ctl",
            Self::Postgres => "postgres",
        }
    }
}

/// A line of the log.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Number of the line since the start of the process, from 1 on, without gaps.
    pub(crate) sequence: u64,
    /// When the line was written.
    pub(crate) at: DateTime<Utc>,
    /// Level; that of Postgres' lines follows their severity.
    pub(crate) level: Level,
    /// Where the line is from.
    pub(crate) source: Source,
    /// The text with spans and fields, without time and level; lines of a message of Postgres are
    /// separated by line feeds. Control characters are escaped. A text that was cut ends with
    /// `... (N bytes)`.
    pub(crate) message: Arc<str>,
}

/// The last lines. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct RecentLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Number of lines to keep.
    most: usize,
    ring: Mutex<Ring>,
    /// Number of the newest line, 0 before the first one.
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Number of the newest line.
    sequence: u64,
}

impl RecentLog {
    /// Keeps the last lines.
    pub(crate) fn new() -> Self {
        Self::of(LINES)
    }

    /// Keeps nothing.
    pub(crate) fn none() -> Self {
        Self::of(0)
    }

    fn of(most: usize) -> Self {
        let ring = Ring { lines: VecDeque::new(), bytes: 0, sequence: 0 };
        Self(Arc::new(Shared { most, ring: Mutex::new(ring), newest: watch::Sender::new(0) }))
    }

    /// Whether lines are kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.most > 0
    }

    /// Adds a line; the oldest ones give way.
    pub(crate) fn add(&self, at: DateTime<Utc>, level: Level, source: Source, text: &str) {
        if !self.is_kept() {
            return;
        }
        let message = cut(text);
        let mut ring = self.0.ring.lock();
        ring.sequence += 1;
        let sequence = ring.sequence;
        ring.push(Line { sequence, at, level, source, message }, self.0.most);
        // Within the lock, so that the number never goes back.
        self.0.newest.send_replace(sequence);
    }

    /// The last `n` lines, oldest first.
    pub(crate) fn last(&self, n: usize) -> Vec<Line> {
        let ring = self.0.ring.lock();
        ring.lines.iter().skip(ring.lines.len().saturating_sub(n)).cloned().collect()
    }

    /// The last `n` of the lines after the one with this number, oldest first. A number that is
    /// still to come is from an earlier process and counts as 0.
    pub(crate) fn after(&self, sequence: u64, n: usize) -> Vec<Line> {
        let newest = self.newest();
        let mut lines = self.last(n);
        if sequence <= newest {
            lines.retain(|line| line.sequence > sequence);
        }
        lines
    }

    /// Number of the newest line, 0 before the first one.
    pub(crate) fn newest(&self) -> u64 {
        *self.0.newest.borrow()
    }

    /// Waits for a line after the one with this number. The caller limits the wait.
    pub(crate) async fn wait_after(&self, sequence: u64) {
        let mut newest = self.0.newest.subscribe();
        // This value keeps the sender, so there is always a result.
        let _ = newest.wait_for(|newest| *newest > sequence).await;
    }
}

/// The text, or its beginning and its full length.
fn cut(text: &str) -> Arc<str> {
    if text.len() <= LINE_BYTES {
        return text.into();
    }
    let start = text.get(..text.floor_char_boundary(LINE_BYTES)).unwrap_or_default();
    format!("{start}... ({} bytes)", text.len()).into()
}

impl Ring {
    fn push(&mut self, line: Line, most: usize) {
        self.bytes += line.message.len() + OVERHEAD;
        self.lines.push_back(line);
        while self.lines.len() > most || self.bytes > BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.message.len() + OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn add(recent: &RecentLog, text: &str) {
        recent.add(Utc::now(), Level::INFO, Source::ComputeCtl, text);
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| &*line.message).collect()
    }

    #[test]
    fn the_last_lines_in_their_order() {
        let recent = RecentLog::new();
        assert_eq!((recent.last(9).len(), recent.newest()), (0, 0));
        for number in 1..=LINES + 2 {
            add(&recent, &number.to_string());
        }
        assert_eq!(texts(&recent.last(2)), ["501", "502"]);
        let all = recent.last(usize::MAX);
        assert_eq!((all.len(), all[0].sequence, &*all[0].message), (LINES, 3, "3"));
        assert_eq!(texts(&recent.after(500, 9)), ["501", "502"]);
        assert_eq!(texts(&recent.after(500, 1)), ["502"]);
        assert!(recent.after(502, 9).is_empty());
        // The number of an earlier process.
        assert_eq!(texts(&recent.after(9000, 2)), ["501", "502"]);
    }

    #[test]
    fn long_lines_are_cut_and_bytes_are_bounded() {
        let recent = RecentLog::new();
        add(&recent, &format!("a\n{}", "ü".repeat(4000)));
        let line = recent.last(1).remove(0).message;
        assert!(line.starts_with("a\nü") && line.ends_with("ü... (8002 bytes)"), "{line}");
        assert!(line.len() <= 1024);
        for _ in 0..LINES {
            add(&recent, &"x".repeat(LINE_BYTES));
        }
        let ring = recent.0.ring.lock();
        let real: usize = ring.lines.iter().map(|line| line.message.len() + OVERHEAD).sum();
        assert_eq!(ring.bytes, real);
        assert!((BYTES - 2 * LINE_BYTES..=BYTES).contains(&real), "{real}");
    }

    #[test]
    fn without_lines_nothing_is_kept() {
        let recent = RecentLog::none();
        add(&recent, "x");
        assert!(recent.last(1).is_empty() && !recent.is_kept());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_the_next_line() {
        let recent = RecentLog::new();
        add(&recent, "one");
        recent.wait_after(0).await;
        let limit = Duration::from_secs(60);
        assert!(tokio::time::timeout(limit, recent.wait_after(1)).await.is_err());
        let waiting = tokio::spawn({
            let recent = recent.clone();
            async move { recent.wait_after(1).await }
        });
        tokio::task::yield_now().await;
        add(&recent, "two");
        waiting.await.unwrap();
        assert_eq!(texts(&recent.after(1, 9)), ["two"]);
    }
}
