//! The text of `compute_ctl status`: the document of `/details` for a person.

use std::fmt::Write as _;

use serde_json::Value;

use crate::duration::spoken;
use crate::errors::help;
use crate::telemetry::shown::visible;

/// Width of the names of members, with the blank after them.
const NAMES: usize = 13;
/// Least and greatest width of the bars.
const BARS: (usize, usize) = (10, 60);
/// Width of a phase and its duration, before its bar.
const PHASE: usize = 35;

/// Lines of names and values, and the start as a waterfall that fits into `width` columns.
pub(super) fn text(details: &Value, width: usize) -> String {
    let status = &details["status"];
    let extra = &status["extra"];
    let mut out = Lines(String::new());
    out.line("status", &status["status"]);
    out.text("since", &since(details));
    out.text("ready", &ready(details));
    failure(&mut out, status, &extra["last_failure"]);
    out.text("compute", &compute(details));
    out.line("tenant", &status["tenant"]);
    out.line("timeline", &status["timeline"]);
    out.text("process", &process(details));
    out.line("started", &status["start_time"]);
    out.line("last active", &status["last_active"]);
    out.text("activity", &activity(&extra["activity"]));
    out.text("working on", &names(&extra["phases"]));
    out.line("basebackup", &extra["basebackup_bytes"]);
    for one in members(&details["tries"]) {
        out.text("asking", &asking(one));
    }
    out.line("operation", &extra["applied_operation"]);
    out.text("last work", &work(&details["last_work"]));
    out.text("restart", &restart(&details["pending_restart"]));
    out.line("certificate", &details["certificate_ends"]);
    out.0.push_str(&waterfall(&extra["startup"], &details["startup_ms"], width));
    out.0
}

/// Lines of names and values.
struct Lines(String);

impl Lines {
    /// A member; nothing if it is null or absent.
    fn line(&mut self, name: &str, value: &Value) {
        match value {
            Value::Null => {}
            Value::String(value) => self.text(name, value),
            other => self.text(name, &other.to_string()),
        }
    }

    /// A text of which further lines are indented; nothing if it is empty.
    fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let value = visible(value).replace('\n', &format!("\n{:NAMES$}", ""));
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{name:<12} {value}");
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn members(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn names(value: &Value) -> String {
    members(value).map(word).collect::<Vec<_>>().join(", ")
}

fn since(details: &Value) -> String {
    match word(&details["since"]) {
        "" => String::new(),
        since => format!("{since}, for {}", spoken(number(&details["since_ms"]))),
    }
}

fn ready(details: &Value) -> String {
    match (details["ready"].as_bool(), word(&details["unready_reason"])) {
        (Some(true), _) => "yes".to_owned(),
        (Some(false), "") => "no".to_owned(),
        (Some(false), why) => format!("no: {why}"),
        (None, _) => String::new(),
    }
}

fn compute(details: &Value) -> String {
    let version = number(&details["postgres_version"]);
    let parts = [
        word(&details["compute_id"]).to_owned(),
        word(&details["mode"]).to_owned(),
        if version == 0 { String::new() } else { format!("PostgreSQL {version}") },
        details["postgres_port"].as_u64().map(|port| format!("port {port}")).unwrap_or_default(),
    ];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(", ")
}

fn process(details: &Value) -> String {
    match word(&details["version"]) {
        "" => String::new(),
        version => {
            format!("compute_ctl {version}, for {}", spoken(number(&details["uptime_ms"])))
        }
    }
}

fn activity(reasons: &Value) -> String {
    let reason = |it: &Value| {
        let name = word(&it["reason"]).replace('_', " ");
        format!("{name} {} (last {})", number(&it["count"]), word(&it["last"]))
    };
    members(reasons).map(reason).collect::<Vec<_>>().join("\n")
}

fn asking(one: &Value) -> String {
    let mut text = format!("{} {}, try {}", word(&one["kind"]), word(&one["peer"]), one["attempt"]);
    if let Some(of) = one["of"].as_u64() {
        let _ = write!(text, " of {of}");
    }
    let _ = match one["next_ms"].as_u64() {
        Some(next) => write!(text, " failed, next in {}", spoken(next)),
        None => write!(text, ", for {}", spoken(number(&one["since_ms"]))),
    };
    if let Some(error) = one["last_error"].as_str() {
        let _ = write!(text, ": {error}");
    }
    text
}

fn work(work: &Value) -> String {
    if !work.is_object() {
        return String::new();
    }
    let (name, reason, outcome) =
        (word(&work["work"]), word(&work["asked_by"]), word(&work["outcome"]));
    let took = spoken(number(&work["duration_ms"]));
    format!("{name} ({reason}): {outcome} after {took}, {}", word(&work["ended"]))
}

fn restart(pending: &Value) -> String {
    match names(pending) {
        names if names.is_empty() => names,
        names => format!("needed for {names}"),
    }
}

/// The present error, or the last one, with advice.
fn failure(out: &mut Lines, status: &Value, last: &Value) {
    out.line("error", &status["error"]);
    if let Some(failed) = last.as_object() {
        let member = |name: &str| failed.get(name).and_then(Value::as_str).unwrap_or("unknown");
        // The error of a compute that has failed stands above.
        let error = failed.get("error").and_then(Value::as_str);
        let error = error.filter(|_| status["error"].is_null());
        let error = error.map(|error| format!(":\n{error}")).unwrap_or_default();
        out.text("last failure", &format!("{} in {}{error}", member("at"), member("phase")));
    }
    if !status["error"].is_null() || last.is_object() {
        let help = help(word(&last["phase"]));
        out.text("advice", help.advice);
        out.text("see", help.page);
    }
}

/// A line for each phase of the start; empty if none has begun.
fn waterfall(startup: &Value, total_ms: &Value, width: usize) -> String {
    let float = |value: &Value| value.as_f64().unwrap_or_default().max(0.0);
    let phases: Vec<_> = members(startup).collect();
    if phases.is_empty() {
        return String::new();
    }
    let ends = phases.iter().map(|it| float(&it["began_ms"]) + float(&it["duration_ms"]));
    let total = ends.fold(float(total_ms), f64::max);
    let columns = width.saturating_sub(PHASE).clamp(BARS.0, BARS.1);
    let mut text = format!("\nstart        {}\n", spoken(number(total_ms)));
    for phase in phases {
        let began = float(&phase["began_ms"]);
        let took = phase["duration_ms"].as_f64();
        let bar = bar(began, took.unwrap_or(total - began), total, columns);
        let took = took.map_or_else(|| "...".to_owned(), |took| format!("{took:.1}"));
        let name = visible(word(&phase["phase"])).into_owned();
        let _ = writeln!(text, "  {name:<18} {took:>9} ms |{bar}");
    }
    text
}

/// A bar of at least one column, at its place in `columns`.
fn bar(began: f64, took: f64, total: f64, columns: usize) -> String {
    let Ok(wide) = u16::try_from(columns) else { return String::new() };
    let scale = if total > 0.0 { f64::from(wide) / total } else { 0.0 };
    let column = |at: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in 0..=columns"
        )]
        let column = (at * scale).clamp(0.0, f64::from(wide)).round() as usize;
        column
    };
    let from = column(began).min(columns.saturating_sub(1));
    let length = column(began + took).saturating_sub(from).max(1);
    format!("{}{}", " ".repeat(from), "█".repeat(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_compute_that_runs() {
        let details = json!({
            "version": "0.1.0", "compute_id": "c1", "mode": "primary", "postgres_version": 15,
            "postgres_port": 55432, "uptime_ms": 192_000, "since": "2001-09-09T01:46:40Z",
            "since_ms": 191_000, "ready": true, "unready_reason": null, "startup_ms": 100,
            "last_work": {"work": "start", "asked_by": "process started", "outcome": "success",
                "duration_ms": 100, "ended": "2001-09-09T01:46:40Z"},
            "tries": [], "certificate_ends": null, "pending_restart": ["port", "wal_level"],
            "status": {"status": "running", "tenant": "t", "timeline": "l", "error": null,
                "start_time": "2001-09-09T01:46:39Z", "last_active": null,
                "extra": {
                    "activity": [{"reason": "idle_sessions", "count": 2, "last": "now"}],
                    "startup": [
                        {"phase": "prepare_directory", "began_ms": 0.0, "duration_ms": 1.0},
                        {"phase": "basebackup", "began_ms": 10.0, "duration_ms": 50.0},
                        {"phase": "start_postgres", "began_ms": 60.0, "duration_ms": 40.0}
                    ]}}
        });
        let expected = "\
status       running
since        2001-09-09T01:46:40Z, for 3 min 11 s
ready        yes
compute      c1, primary, PostgreSQL 15, port 55432
tenant       t
timeline     l
process      compute_ctl 0.1.0, for 3 min 12 s
started      2001-09-09T01:46:39Z
activity     idle sessions 2 (last now)
last work    start (process started): success after 100 ms, 2001-09-09T01:46:40Z
restart      needed for port, wal_level

start        100 ms
  prepare_directory        1.0 ms |█
  basebackup              50.0 ms | █████
  start_postgres          40.0 ms |      ████
";
        assert_eq!(text(&details, 45), expected);
        assert_eq!(text(&details, 0), expected, "bars have a least width");
        assert!(text(&details, 200).lines().all(|line| line.chars().count() <= 95));
    }

    #[test]
    fn a_start_in_progress_and_a_failed_one() {
        let mut details = json!({
            "startup_ms": 1000, "ready": false, "unready_reason": "the compute is starting",
            "tries": [{"kind": "pageserver", "peer": "ps:6400", "attempt": 2, "of": 11,
                "since_ms": 700, "next_ms": 500, "last_error": "no \u{1b}[31mluck\u{202e}"}],
            "status": {"status": "init", "extra": {"phases": ["basebackup"], "basebackup_bytes": 7,
                "startup": [{"phase": "basebackup", "began_ms": 500.0}]}}
        });
        let shown = text(&details, 45);
        for line in [
            "ready        no: the compute is starting",
            "working on   basebackup",
            "basebackup   7",
            "asking       pageserver ps:6400, try 2 of 11 failed, next in 500 ms: no \\u{1b}[31mluck\\u{202e}",
            "  basebackup               ... ms |     █████",
        ] {
            assert!(shown.lines().any(|it| it == line), "{line}\n{shown}");
        }
        assert!(!shown.contains("advice"), "{shown}");
        details["status"]["status"] = "failed".into();
        details["status"]["error"] = "no luck\n\nCaused by:\n    x".into();
        details["status"]["extra"]["last_failure"] = json!({"at": "now", "phase": "basebackup"});
        let shown = text(&details, 45);
        assert!(shown.contains("error        no luck\n"), "{shown}");
        assert!(shown.contains("last failure now in basebackup\nadvice       Find out"), "{shown}");
        assert!(shown.contains("#status-failed-storage\n"), "{shown}");
    }

    #[test]
    fn documents_of_another_shape_are_shown_as_far_as_they_go() {
        for odd in [json!(null), json!([1]), json!({"status": {"status": "empty"}, "tries": 3})] {
            let shown = text(&odd, 80);
            assert!(shown.is_empty() || shown.starts_with("status       empty\n"), "{shown}");
        }
        assert_eq!(bar(f64::NAN, 1.0, f64::NAN, 10).chars().count(), 1);
    }
}
