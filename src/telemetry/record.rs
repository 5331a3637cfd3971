//! One record of the log as JSON (`docs/reference/log.md` lists the members).

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::Level;

use super::pg_prefix::{Parsed, Prefix};
use super::recent::Source;
use super::severity::Severity;

/// The ids in every JSON record, each once it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) compute: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) timeline: Option<String>,
}

/// A record. Members that a record lacks are left out.
#[derive(Debug, Clone)]
pub(super) struct Record<'a> {
    pub(super) at: DateTime<Utc>,
    pub(super) level: Level,
    pub(super) source: Source,
    pub(super) target: Option<&'a str>,
    pub(super) severity: Option<Severity>,
    pub(super) pid: Option<u32>,
    pub(super) message: Cow<'a, str>,
    pub(super) fields: Map<String, Value>,
    /// Names of the spans, outermost first.
    pub(super) spans: Vec<&'static str>,
    pub(super) request_id: Option<String>,
    /// Ids of the trace and of the span in it (01 §21).
    pub(super) trace: Option<(String, String)>,
    /// A record of Postgres' `jsonlog`.
    pub(super) postgres: Option<Map<String, Value>>,
}

/// The members in their order.
#[derive(Serialize)]
struct Document<'a> {
    timestamp: String,
    level: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    message: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    spans: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    compute_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres: Option<&'a Map<String, Value>>,
}

impl<'a> Record<'a> {
    /// A record with nothing but a text.
    pub(super) fn new(
        at: DateTime<Utc>,
        level: Level,
        source: Source,
        message: Cow<'a, str>,
    ) -> Self {
        Self {
            at,
            level,
            source,
            target: None,
            severity: None,
            pid: None,
            message,
            fields: Map::new(),
            spans: Vec::new(),
            request_id: None,
            trace: None,
            postgres: None,
        }
    }

    /// A record of Postgres: lines of one message, of which the first may begin with the prefix.
    pub(super) fn of_postgres(at: DateTime<Utc>, lines: &'a [u8], prefix: &Prefix) -> Self {
        if let Some(members) = jsonlog(lines) {
            return Self::of_jsonlog(at, lines, members);
        }
        let parsed = parse(lines, prefix);
        let level = parsed.severity.map_or(Level::INFO, Severity::level);
        let mut record = Self::new(at, level, Source::Postgres, utf8(parsed.rest));
        record.severity = parsed.severity;
        record.pid = parsed.pid;
        let field = |(name, value): (&str, _)| (name.to_owned(), Value::from(utf8(value)));
        record.fields = parsed.fields.into_iter().map(field).collect();
        record
    }

    fn of_jsonlog(at: DateTime<Utc>, line: &'a [u8], members: Map<String, Value>) -> Self {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let severity = text("error_severity").and_then(|name| Severity::named(name.as_bytes()));
        let level = severity.map_or(Level::INFO, Severity::level);
        let message = text("message").map(|text| Cow::Owned(text.to_owned()));
        let mut record =
            Self::new(at, level, Source::Postgres, message.unwrap_or_else(|| utf8(line)));
        record.severity = severity;
        let pid = members.get("pid").and_then(Value::as_u64);
        record.pid = pid.and_then(|pid| u32::try_from(pid).ok());
        record.postgres = Some(members);
        record
    }

    /// Appends the record and a line feed.
    pub(super) fn write(&self, ids: &Ids, out: &mut Vec<u8>) {
        let document = Document {
            timestamp: self.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            level: self.level.as_str(),
            source: self.source.name(),
            target: self.target,
            severity: self.severity.map(Severity::name),
            pid: self.pid,
            message: &self.message,
            fields: &self.fields,
            spans: &self.spans,
            compute_id: ids.compute.as_deref(),
            tenant_id: ids.tenant.as_deref(),
            timeline_id: ids.timeline.as_deref(),
            request_id: self.request_id.as_deref(),
            trace_id: self.trace.as_ref().map(|(trace, _)| trace.as_str()),
            span_id: self.trace.as_ref().map(|(_, span)| span.as_str()),
            postgres: self.postgres.as_ref(),
        };
        // Texts and maps with text keys in memory: this cannot fail.
        let _ = serde_json::to_writer(&mut *out, &document);
        out.push(b'\n');
    }
}

/// Takes the first line apart: by the prefix of the spec; by the default, which Postgres has until
/// it has read its file; and without a prefix.
pub(super) fn parse<'a>(lines: &'a [u8], prefix: &Prefix) -> Parsed<'a> {
    let parsed = prefix.parse(lines).or_else(|| Prefix::default().parse(lines));
    let parsed = parsed.or_else(|| Prefix::compile("").parse(lines));
    parsed.unwrap_or(Parsed { rest: lines, ..Parsed::default() })
}

/// The messages in lines that came within a short time. With a prefix that has no timestamp
/// several messages come together; continuation lines begin with a tab.
pub(super) fn messages<'a>(lines: &'a [u8], prefix: &Prefix) -> Vec<&'a [u8]> {
    let (mut messages, mut start, mut at) = (Vec::new(), 0, 0_usize);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if at > start && (prefix.parse(text).is_some() || jsonlog(text).is_some()) {
            messages.push(lines.get(start..at.saturating_sub(1)).unwrap_or_default());
            start = at;
        }
        at += line.len();
    }
    messages.push(lines.get(start..).unwrap_or_default());
    messages
}

/// The members of a record of `jsonlog`.
fn jsonlog(line: &[u8]) -> Option<Map<String, Value>> {
    if !line.starts_with(b"{") {
        return None;
    }
    let members: Map<String, Value> = serde_json::from_slice(line).ok()?;
    members.contains_key("error_severity").then_some(members)
}

/// Bytes as text; those that are not UTF-8 become `\xff`.
pub(super) fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(record: &Record<'_>) -> Value {
        let mut out = Vec::new();
        record.write(&Ids::default(), &mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    fn of(lines: &[u8]) -> Value {
        let at = DateTime::parse_from_rfc3339("2026-01-02T03:04:05.678901Z").unwrap().to_utc();
        written(&Record::of_postgres(at, lines, &Prefix::compile("%m [%p] %q%u@%d ")))
    }

    #[test]
    fn records_of_postgres() {
        assert_eq!(
            of(b"2026-01-02 03:04:05.678 UTC [7] ann@shop ERROR:  a\n\tb\xff\xe2\x80\x8b"),
            json!({
                "timestamp": "2026-01-02T03:04:05.678901Z", "level": "ERROR",
                "source": "postgres", "severity": "ERROR", "pid": 7,
                "message": "a\n\tb\\xff\u{200B}",
                "fields": {
                    "time": "2026-01-02 03:04:05.678 UTC", "user": "ann", "database": "shop"
                }
            })
        );
        let line = br#"{"timestamp":"x","pid":7,"error_severity":"LOG","message":"m","user":"u"}"#;
        let record = of(line);
        assert_eq!((&record["message"], &record["pid"]), (&json!("m"), &json!(7)));
        assert_eq!(record["severity"], "LOG");
        assert_eq!(record["postgres"]["user"], "u");
        // Before Postgres has read its file, and before it writes messages at all.
        assert_eq!(of(b"2026-01-02 03:04:05.678 UTC [7] LOG:  x")["message"], "x");
        assert_eq!(of(b"FATAL:  x")["severity"], "FATAL");
        let odd = of(b"no space left");
        assert_eq!((&odd["message"], &odd["severity"]), (&json!("no space left"), &Value::Null));
    }

    /// A record of another program or of ours in a text stays text.
    #[test]
    fn imitations() {
        let forged = r#"{"timestamp":"2026","level":"INFO","source":"compute_ctl","message":"x"}"#;
        let record = of(forged.as_bytes());
        assert_eq!((&record["source"], &record["message"]), (&json!("postgres"), &json!(forged)));
        let record = of(format!("[7] ERROR:  x\n\t{forged}").as_bytes());
        assert!(record["message"].as_str().unwrap().ends_with(forged));
    }

    #[test]
    fn messages_that_came_together() {
        let prefix = Prefix::compile("%p ");
        let split = |lines: &'static str| -> Vec<_> {
            let messages = messages(lines.as_bytes(), &prefix);
            messages.into_iter().map(|it| std::str::from_utf8(it).unwrap()).collect()
        };
        assert_eq!(split("7 LOG:  a\n\tb\n8 LOG:  c"), ["7 LOG:  a\n\tb", "8 LOG:  c"]);
        assert_eq!(split("7 LOG:  a\n\t8 LOG:  c"), ["7 LOG:  a\n\t8 LOG:  c"]);
        assert_eq!(split("a\n\n7 LOG:  a"), ["a\n", "7 LOG:  a"]);
        assert_eq!(split(""), [""]);
    }

    proptest! {
        /// Any bytes are one line of valid JSON, and its texts hold all of them.
        #[test]
        fn one_record_for_any_bytes(
            head in "([0-9]{4}-01-02 03:04:05.678 UTC \\[[0-9]{1,3}\\] )?([A-Z]{3,7}: ? )?",
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut lines = head.into_bytes();
            lines.extend_from_slice(&bytes);
            let record = of(&lines);
            let message = record["message"].as_str().unwrap();
            prop_assert!(utf8(&lines).ends_with(message));
            let severity = record["severity"].as_str().map(|it| format!("{it}:  "));
            let pid = record["pid"].as_u64().map(|pid| format!("[{pid}] "));
            if let (Some(severity), Some(time)) = (severity, record["fields"]["time"].as_str())
                && record["fields"]["user"].is_null()
            {
                let again = format!("{time} {}{severity}{message}", pid.unwrap_or_default());
                // A number with zeros in front is the only text that is not kept as it was.
                prop_assert!(again.len() <= utf8(&lines).len());
            }
        }

        #[test]
        fn one_record_for_each_message(texts in prop::collection::vec("[a-c]{0,5}", 1..6)) {
            let lines: Vec<_> = texts.iter().map(|text| format!("7 LOG:  {text}\n\tmore")).collect();
            let prefix = Prefix::compile("%p ");
            let lines = lines.join("\n");
            prop_assert_eq!(messages(lines.as_bytes(), &prefix).len(), texts.len());
        }
    }
}
