//! The form of the output: text or JSON, with or without the priorities of journald, and the ids
//! that every JSON record has.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tracing::Level;

use super::pg_prefix::Prefix;
use super::recent::Source;
use super::record::{Ids, Record};
use crate::os::journal;

/// How a line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people (01 §20).
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// The form of one output, shared by all that write to it.
#[derive(Debug, Default)]
pub struct Form {
    format: LogFormat,
    /// Whether each line begins with `<N>`, the priority for journald.
    priorities: bool,
    context: Mutex<Context>,
}

/// What is known about the compute.
#[derive(Debug, Clone, Default)]
struct Context {
    ids: Arc<Ids>,
    prefix: Arc<Prefix>,
}

impl Form {
    /// The form for stderr: with priorities if stderr is journald's stream.
    pub fn for_stderr(format: LogFormat, compute_id: Option<&str>, journal: Option<&str>) -> Self {
        Self { priorities: journal::is_stderr(journal), ..Self::plain(format, compute_id) }
    }

    /// A form without priorities.
    pub fn plain(format: LogFormat, compute_id: Option<&str>) -> Self {
        let ids = Ids { compute: compute_id.map(str::to_owned), ..Ids::default() };
        let context = Mutex::new(Context { ids: Arc::new(ids), prefix: Arc::default() });
        Self { format, priorities: false, context }
    }

    /// Text or JSON.
    pub(super) const fn format(&self) -> LogFormat {
        self.format
    }

    /// The compute serves this timeline from now on, and Postgres has this `log_line_prefix`.
    pub(super) fn serves(&self, tenant: String, timeline: String, prefix: Option<&str>) {
        let mut context = self.context.lock();
        let compute = context.ids.compute.clone();
        context.ids = Arc::new(Ids { compute, tenant: Some(tenant), timeline: Some(timeline) });
        context.prefix = Arc::new(prefix.map_or_else(Prefix::default, Prefix::compile));
    }

    /// The ids that are known.
    pub(super) fn ids(&self) -> Arc<Ids> {
        Arc::clone(&self.context.lock().ids)
    }

    /// The prefix of Postgres' lines.
    pub(super) fn prefix(&self) -> Arc<Prefix> {
        Arc::clone(&self.context.lock().prefix)
    }

    /// Writes a priority if this output has them.
    pub(super) fn begin_line(&self, out: &mut Vec<u8>, priority: u8) {
        if self.priorities {
            out.extend_from_slice(&[b'<', b'0' + priority, b'>']);
        }
    }

    /// A text of one or more lines, which ends with a line feed, with a priority for each line.
    pub(super) fn with_priorities(&self, text: Vec<u8>, priority: u8) -> Vec<u8> {
        if !self.priorities {
            return text;
        }
        let mut out = Vec::with_capacity(text.len() + 3);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            self.begin_line(&mut out, priority);
            out.extend_from_slice(line);
        }
        out
    }

    /// A JSON record as a line.
    pub(super) fn json(&self, record: &Record<'_>, priority: u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.begin_line(&mut out, priority);
        record.write(&self.ids(), &mut out);
        out
    }

    /// The line that reports dropped lines.
    pub(super) fn dropped(&self, lines: u64) -> Vec<u8> {
        let text = format!("log reader too slow: {lines} lines dropped");
        self.note(Utc::now(), Level::WARN, text, &[("dropped", lines.into())])
    }

    /// The last line of a process that failed.
    pub fn failure(&self, text: &str) -> Vec<u8> {
        match self.format {
            LogFormat::Text => {
                self.with_priorities(format!("Error: {text}\n").into(), priority(Level::ERROR))
            }
            LogFormat::Json => self.note(Utc::now(), Level::ERROR, text.to_owned(), &[]),
        }
    }

    /// A line that is not an event.
    pub(super) fn note(
        &self,
        at: DateTime<Utc>,
        level: Level,
        text: String,
        fields: &[(&str, Value)],
    ) -> Vec<u8> {
        match self.format {
            LogFormat::Text => {
                let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
                let line = format!("{at} {:>5} {text}\n", level.as_str());
                self.with_priorities(line.into(), priority(level))
            }
            LogFormat::Json => {
                let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
                let mut record = Record::new(at, level, Source::ComputeCtl, text.into());
                record.target = Some(env!("CARGO_CRATE_NAME"));
                record.fields = fields.collect::<Map<_, _>>();
                self.json(&record, priority(level))
            }
        }
    }
}

/// The priority of journald for a level.
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_priority() {
        let form = Form { priorities: true, ..Form::default() };
        assert_eq!(form.with_priorities(b"a\nb\n".to_vec(), 4), b"<4>a\n<4>b\n");
        assert_eq!(form.failure("x\ny"), b"<3>Error: x\n<3>y\n");
        assert!(form.dropped(7).starts_with(b"<4>2"));
        let plain = Form::plain(LogFormat::Text, None);
        assert_eq!(plain.with_priorities(b"a\nb\n".to_vec(), 4), b"a\nb\n");
        assert_eq!(plain.failure("x"), b"Error: x\n");
        let text = String::from_utf8(plain.dropped(7)).unwrap();
        assert!(text.ends_with("Z  WARN log reader too slow: 7 lines dropped\n"), "{text}");
    }

    #[test]
    fn lines_that_are_not_events_are_json_too() {
        let form = Form { priorities: true, ..Form::plain(LogFormat::Json, Some("c-1")) };
        form.serves("t".to_owned(), "l".to_owned(), None);
        for (line, level, message) in [
            (form.failure("no \"luck\"\nx"), "ERROR", "no \"luck\"\nx"),
            (form.dropped(7), "WARN", "log reader too slow: 7 lines dropped"),
        ] {
            let line = String::from_utf8(line).unwrap();
            let json = line.strip_prefix(if level == "WARN" { "<4>" } else { "<3>" }).unwrap();
            assert_eq!(json.matches('\n').count(), 1);
            let json: Value = serde_json::from_str(json).unwrap();
            assert_eq!((&json["level"], &json["message"]), (&level.into(), &message.into()));
            assert_eq!(json["compute_id"], "c-1");
            assert_eq!((&json["tenant_id"], &json["timeline_id"]), (&"t".into(), &"l".into()));
        }
    }
}
