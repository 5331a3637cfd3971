//! Our own events on their way to the output, in the text form.

use std::borrow::Cow;
use std::io::{self, Write};

use chrono::{DateTime, Utc};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::form::{LogFormat, priority};
use super::recent::Source;
use super::shown::escaped;
use super::sink::LogSink;

/// Bytes of the time and of the level at the beginning of an event's line, with the blanks around
/// the level.
const TIME: usize = "2026-01-02T03:04:05.678901Z".len();
const LEVEL: usize = "  INFO ".len();

/// Collects the output of one event and queues it as one line when dropped, with control characters
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
            let event = one_line(event);
            let recent = self.sink.recent();
            if recent.is_kept() {
                let text = String::from_utf8_lossy(&event);
                let (at, message) = parts(&text);
                recent.add(at, self.level, Source::ComputeCtl, message);
            }
            let form = self.sink.form();
            // The other form has a layer of its own.
            if form.format() == LogFormat::Text {
                self.sink.write(form.with_priorities(event, priority(self.level)));
            }
        }
    }
}

/// The event as one line without control characters. It may contain text from outside, which must
/// not look like an event of its own.
fn one_line(mut event: Vec<u8>) -> Vec<u8> {
    if event.last() == Some(&b'\n') {
        event.pop();
    }
    if let Cow::Owned(clean) = escaped(&event, false) {
        event = clean;
    }
    event.push(b'\n');
    event
}

fn event_writer(sink: &LogSink, level: Level) -> EventWriter {
    EventWriter { sink: sink.clone(), level, buffer: Vec::new() }
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
        event_writer(self, Level::INFO)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> EventWriter {
        event_writer(self, *event.level())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::testing::Seen;

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
        assert_eq!(&*line.message, "HTTP{path=\"/x\"}: a \\x1b\\nb code=4");
        let age = line.at - before;
        assert!(age.num_milliseconds() >= -1 && age.num_seconds() < 60, "{age}");
    }

    #[test]
    fn an_event_is_one_item() {
        let seen = Seen::default();
        let sink = LogSink::new(seen.clone()).unwrap();
        let mut event = sink.make_writer();
        event.write_all(b"half ").unwrap();
        sink.write(b"between\n".to_vec());
        event.write_all(b"whole\n").unwrap();
        drop(event);
        let mut forged = sink.make_writer();
        forged.write_all(b"x\n2026-01-02T03:04:05.678901Z ERROR y\r\n").unwrap();
        drop(forged);
        assert!(sink.flush(Duration::from_secs(60)));
        let forged = "x\\n2026-01-02T03:04:05.678901Z ERROR y\\r\n";
        assert_eq!(seen.text(), format!("between\nhalf whole\n{forged}"));
    }
}
