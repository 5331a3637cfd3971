//! Properties of what the log does with foreign text, for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use std::borrow::Cow;

use chrono::DateTime;
use serde_json::Value;

use super::pg_prefix::Prefix;
use super::record::{Ids, Record, messages, utf8};
use super::shown::{LONGEST, escaped, shown as cut, shown_to, visible};
use crate::fuzzing::seeded;

/// A `log_line_prefix` in the first line, then lines of Postgres: each message is one line of JSON,
/// and nothing of the lines is lost.
pub(crate) fn log_record(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (prefix, lines) = data.split_at(end);
    let lines = lines.strip_prefix(b"\n").unwrap_or(lines);
    let prefix = Prefix::compile(&String::from_utf8_lossy(prefix));
    let messages = messages(lines, &prefix);
    assert_eq!(messages.join(&b'\n'), lines);
    for message in messages {
        let record = Record::of_postgres(DateTime::UNIX_EPOCH, message, &prefix);
        let mut written = Vec::new();
        record.write(&Ids::default(), &mut written);
        let line = written.strip_suffix(b"\n").expect("a line");
        assert!(!line.contains(&b'\n'));
        let record: Value = serde_json::from_slice(line).expect("a record is JSON");
        let text = record["message"].as_str().expect("it has a message");
        assert_eq!(record["source"], "postgres");
        assert!(record["postgres"].is_object() || utf8(message).ends_with(text));
    }
}

/// What is shown has no control characters, is not longer than it may be, and stays as it is if it
/// is shown again.
pub(crate) fn shown(data: &[u8]) {
    let (longest, data) = seeded(data);
    for may_have_line_feeds in [false, true] {
        let line = escaped(data, may_have_line_feeds);
        let is_bad =
            |b: &u8| b.is_ascii_control() && *b != b'\t' && !(may_have_line_feeds && *b == b'\n');
        assert!(!line.iter().any(is_bad));
        assert!(matches!(escaped(&line, may_have_line_feeds), Cow::Borrowed(_)));
        if let Ok(text) = std::str::from_utf8(&line) {
            assert!(!text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let seen = visible(text);
    assert!(matches!(visible(&seen), Cow::Borrowed(_)));
    assert!(!seen.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')));
    for shown in [cut(text), shown_to(text, longest.into())] {
        let (plain, quoted) = (shown.to_string(), shown.quoted().to_string());
        assert!(!plain.contains(char::is_control) && !quoted.contains(char::is_control));
        assert!(plain.len() <= LONGEST * 10 + 40);
    }
    if text.len() <= LONGEST && !text.contains(char::is_control) {
        assert_eq!(cut(text).to_string(), text);
    }
}
