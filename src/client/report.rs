//! Output of the client: documents on stdout, errors on stderr, as text or as JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Value, json};

use super::documents::{StartupMetrics, Terminated};
use super::exit_code::ExitCode;
use super::overview;
use crate::telemetry::shown::{visible, visible_json};

/// Prints a status document.
pub(super) fn status(document: &Value, as_json: bool) {
    print(&if as_json { json_text(document) } else { status_text(document) });
}

/// The text of `compute_ctl status`, or the status document in one line.
pub(super) fn details(document: &Value, as_json: bool, width: usize) -> String {
    if as_json { json_text(&document["status"]) } else { overview::text(document, width) }
}

/// A document in one line, without characters that a terminal would obey.
pub(super) fn json_text(document: &Value) -> String {
    visible_json(&document.to_string()).into_owned()
}

/// Prints that Postgres serves, as `/ready` does.
pub(super) fn ready(as_json: bool) {
    print(if as_json { "\"ok\"" } else { "ready" });
}

/// Prints the answer to a `/terminate`.
pub(super) fn terminated(terminated: &Terminated, as_json: bool) {
    print(&match (as_json, &terminated.lsn) {
        (true, lsn) => json!({"lsn": lsn}).to_string(),
        (false, Some(lsn)) => format!("terminated at LSN {}", visible(lsn)),
        (false, None) => "terminated".to_owned(),
    });
}

/// The durations of a start as JSON.
pub(super) fn durations(metrics: &StartupMetrics) -> String {
    json!(metrics).to_string()
}

/// Prints metrics.
pub(super) fn metrics(text: &str) {
    print(&visible(text));
}

/// Prints an error. JSON includes the exit code.
pub(super) fn failure(text: &str, code: ExitCode, as_json: bool) {
    // If stderr is closed, the error cannot be reported.
    let _ = writeln!(std::io::stderr(), "{}", failure_text(text, code, as_json));
}

/// An error as text or as JSON.
pub(super) fn failure_text(text: &str, code: ExitCode, as_json: bool) -> String {
    if as_json {
        json_text(&json!({"error": text, "code": code as u8}))
    } else {
        format!("Error: {}", visible(text))
    }
}

/// Prints a text.
pub(super) fn print(text: &str) {
    // A closed stdout is not an error.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// A line for each member that is present.
fn status_text(document: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &Value| {
        let value = match value {
            Value::Null => return,
            Value::String(value) => visible(value).into_owned(),
            other => other.to_string(),
        };
        // Further lines of an error are indented below the first one.
        let value = value.replace('\n', "\n             ");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let extra = &document["extra"];
    line("status", &document["status"]);
    line("tenant", &document["tenant"]);
    line("timeline", &document["timeline"]);
    line("started", &document["start_time"]);
    line("last active", &document["last_active"]);
    line("error", &document["error"]);
    let phases = extra["phases"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let phases: Vec<_> = phases.collect();
    if !phases.is_empty() {
        line("working on", &phases.join(", ").into());
    }
    line("basebackup", &extra["basebackup_bytes"]);
    line("operation", &extra["applied_operation"]);
    if let Some(failed) = extra["last_failure"].as_object() {
        let member = |name: &str| failed.get(name).and_then(Value::as_str).unwrap_or("unknown");
        // The error of a compute that has failed stands above.
        let error = failed.get("error").and_then(Value::as_str);
        let error = error.filter(|_| document["error"].is_null());
        let error = error.map(|error| format!(":\n{error}")).unwrap_or_default();
        line("last failure", &format!("{} in {}{error}", member("at"), member("phase")).into());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_as_text() {
        let document = json!({
            "status": "failed", "tenant": "t", "timeline": null,
            "start_time": "2001-09-09T01:46:40Z", "last_active": null,
            "error": "no \u{1b}[31mluck\n\nCaused by:\n  x",
            "extra": {
                "phases": ["basebackup", "certificate"], "basebackup_bytes": 7,
                "last_failure": {"at": "now", "phase": null, "error": "x"}
            }
        });
        let expected = "\
status       failed
tenant       t
started      2001-09-09T01:46:40Z
error        no \\u{1b}[31mluck
             \n             Caused by:
               x
working on   basebackup, certificate
basebackup   7
last failure now in unknown
";
        assert_eq!(status_text(&document), expected);
    }

    /// A spec that was refused leaves the compute running: only the last failure has the error.
    #[test]
    fn a_failure_of_a_compute_that_runs_has_its_error() {
        let document = json!({
            "status": "running", "error": null,
            "extra": {"last_failure": {"at": "now", "phase": "check_configuration", "error": "no\nluck"}}
        });
        let expected = "\
status       running
last failure now in check_configuration:
             no
             luck
";
        assert_eq!(status_text(&document), expected);
    }
}
