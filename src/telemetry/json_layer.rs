//! Our own events as JSON records.

use std::borrow::Cow;
use std::fmt;

use chrono::Utc;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::recent::Source;
use super::record::Record;
use super::request::RequestId;
use super::shown::escaped;
use super::sink::LogSink;
use super::traces;

/// Name of the field that has the text of an event.
const MESSAGE: &str = "message";

/// Writes every event as one line of JSON.
#[derive(Debug)]
pub(super) struct JsonLines(pub(super) LogSink);

/// The fields of a span.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, clean(value).into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        let number = serde_json::Number::from_f64(value);
        self.set(field, number.map_or_else(|| value.to_string().into(), Value::Number));
    }
}

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        // Raw names as in `r#type`.
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        self.0.insert(name.to_owned(), value);
    }
}

/// The text without control characters but line feeds and tabs, as in the text form: a reader may
/// print it on a terminal.
fn clean(text: &str) -> String {
    match escaped(text.as_bytes(), true) {
        Cow::Borrowed(_) => text.to_owned(),
        Cow::Owned(clean) => String::from_utf8_lossy(&clean).into_owned(),
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Values<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let mut all = Fields::default();
        let mut record = Record::new(Utc::now(), level, Source::ComputeCtl, Cow::Borrowed(""));
        record.target = Some(target);
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            record.spans.push(span.name());
            let extensions = span.extensions();
            if let Some(Fields(fields)) = extensions.get::<Fields>() {
                // An inner span has the last word, and the event itself after all spans.
                let fields = fields.iter().map(|(name, value)| (name.clone(), value.clone()));
                all.0.extend(fields);
            }
            if let Some(RequestId(id)) = extensions.get::<RequestId>() {
                record.request_id = Some(id.clone());
            }
        }
        event.record(&mut all);
        if let Some(Value::String(text)) = all.0.remove(MESSAGE) {
            record.message = text.into();
        }
        if let Some(Value::String(id)) = all.0.remove("request_id") {
            record.request_id = Some(id);
        }
        record.fields = all.0;
        record.trace = traces::current_ids();
        self.0.record(&record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::form::{Form, LogFormat};
    use crate::telemetry::request;
    use crate::telemetry::testing::Seen;
    use serde_json::json;
    use std::time::Duration;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn events_are_records() {
        let seen = Seen::default();
        let form = Form::plain(LogFormat::Json, Some("c"));
        let sink = LogSink::formed(seen.clone(), form).unwrap();
        let log = tracing_subscriber::registry().with(JsonLines(sink.clone()));
        tracing::subscriber::with_default(log, || {
            let outer =
                tracing::info_span!("outer", a = 1, b = "outer", late = tracing::field::Empty);
            outer.record("late", true);
            request::tag(&outer, "r-1");
            let inner = tracing::info_span!(parent: &outer, "inner", b = "inner");
            inner.in_scope(|| {
                tracing::warn!(
                    code = -4,
                    share = 0.5,
                    odd = f64::NAN,
                    "a\u{1b}[2J\n{}",
                    "\u{200B}\""
                );
            });
            tracing::error!(request_id = %"r-2", a = ?"x");
        });
        assert!(sink.flush(Duration::from_secs(60)));
        let text = seen.text();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = &lines[..] else { panic!("{text}") };
        assert_eq!(first["message"], "a\\x1b[2J\n\u{200B}\"");
        assert_eq!(first["spans"], json!(["outer", "inner"]));
        assert_eq!(
            first["fields"],
            json!({"a": 1, "b": "inner", "late": true, "code": -4, "share": 0.5, "odd": "NaN"})
        );
        assert_eq!((&first["request_id"], &first["compute_id"]), (&json!("r-1"), &json!("c")));
        assert_eq!((&first["level"], &first["source"]), (&json!("WARN"), &json!("compute_ctl")));
        assert!(first["target"].as_str().unwrap().starts_with("compute_ctl::telemetry"));
        assert_eq!((&second["message"], &second["request_id"]), (&json!(""), &json!("r-2")));
        assert_eq!(second["fields"], json!({"a": "\"x\""}));
    }
}
