//! `compute_ctl logs` and `log-level`: the log of a running compute, from its internal server.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{LogLevelArgs, LogsArgs};
use super::calls::Client;
use super::commands::{Failure, failed, run};
use super::error::Error;
use super::exit_code::ExitCode;
use super::log::{LogLevel, LogLine};
use super::options::Timeouts;
use super::report;
use crate::telemetry::shown::{continued, visible};

/// How long one request waits for the next line.
const WAIT: Duration = Duration::from_secs(30);

/// Pause between two answers. A log can grow all the time, for example because its level is so fine
/// that it tells of these requests.
const PAUSE: Duration = Duration::from_millis(200);

/// `compute_ctl logs`. Returns the exit code of the process.
pub fn logs(args: &LogsArgs) -> anyhow::Result<u8> {
    let timeouts = Timeouts { answer: args.timeout, ..Timeouts::default() };
    run(&args.target.as_target(), timeouts, async |client| {
        let failed = |error| internal(&error, &client);
        let mut lines = client.log(args.lines).await.map_err(failed)?;
        let mut last = 0;
        while print(&lines, args.target.json) && args.follow {
            last = lines.last().map_or(last, |line| line.sequence);
            tokio::time::sleep(PAUSE).await;
            lines = client.log_after(last, WAIT).await.map_err(failed)?;
        }
        Ok(())
    })
}

/// `compute_ctl log-level`. Returns the exit code of the process.
pub fn log_level(args: &LogLevelArgs) -> anyhow::Result<u8> {
    let timeouts = Timeouts { answer: args.timeout, ..Timeouts::default() };
    run(&args.target.as_target(), timeouts, async |client| {
        let level = match &args.filter {
            None => client.log_level().await,
            Some(filter) => client.set_log_level(filter, args.limit).await,
        };
        let level = level.map_err(|error| internal(&error, &client))?;
        // A closed stdout is not an error.
        let _ = writeln!(std::io::stdout(), "{}", level_text(&level, args.target.json));
        Ok(())
    })
}

fn internal(error: &Error, client: &Client) -> Failure {
    match error {
        Error::Refused(answer) if answer.status == 404 => {
            let text = "this is not the internal server of a compute, whose port is 3081 unless \
                --internal-http-port says otherwise; give its address with --url";
            Failure::new(ExitCode::Failed, text)
        }
        // About the filter; there is no token here that could be missing.
        Error::Refused(answer) if answer.status == 400 => {
            Failure::new(ExitCode::Failed, format!("the compute answered {answer}"))
        }
        _ => failed(error, client),
    }
}

/// Prints lines; false if nothing reads them.
fn print(lines: &[LogLine], as_json: bool) -> bool {
    let mut out = std::io::stdout().lock();
    let written = lines.iter().try_for_each(|line| writeln!(out, "{}", text(line, as_json)));
    written.and_then(|()| out.flush()).is_ok()
}

/// A line as it is in the text form of the log, or as a document.
fn text(line: &LogLine, as_json: bool) -> String {
    let LogLine { sequence, timestamp, level, source, message } = line;
    if as_json {
        let document: Value = json!({
            "sequence": sequence, "timestamp": timestamp, "level": level, "source": source,
            "message": message
        });
        return report::json_text(&document);
    }
    let message = continued(message);
    let message = visible(&message);
    if source == "postgres" {
        return format!("PG:{message}");
    }
    format!("{} {:>5} {message}", visible(timestamp), visible(level))
}

fn level_text(level: &LogLevel, as_json: bool) -> String {
    let LogLevel { level, configured, until } = level;
    if as_json {
        let document = json!({"level": level, "configured": configured, "until": until});
        return report::json_text(&document);
    }
    match until {
        Some(until) => {
            let (level, until) = (visible(level), visible(until));
            format!("{level} until {until}, then {}", visible(configured))
        }
        None => visible(level).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_in_the_log() {
        let mut line = LogLine {
            sequence: 7,
            timestamp: "2026-01-02T03:04:05.678901Z".to_owned(),
            level: "WARN".to_owned(),
            source: "compute_ctl".to_owned(),
            message: "a\u{1b}b\u{9b}\u{202e}".to_owned(),
        };
        assert_eq!(
            text(&line, false),
            "2026-01-02T03:04:05.678901Z  WARN a\\u{1b}b\\u{9b}\\u{202e}"
        );
        let document = text(&line, true);
        assert!(document.is_ascii(), "{document}");
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(
            document,
            json!({
                "sequence": 7, "timestamp": "2026-01-02T03:04:05.678901Z", "level": "WARN",
                "source": "compute_ctl", "message": "a\u{1b}b\u{9b}\u{202e}"
            })
        );
        line.source = "postgres".to_owned();
        line.message = "a\n\tb".to_owned();
        assert_eq!(text(&line, false), "PG:a\n\tb");
        line.message = "a\nb".to_owned();
        assert_eq!(text(&line, false), "PG:a\n\tb", "a name in the prefix has it");
    }

    #[test]
    fn levels() {
        let level = |until: Option<&str>| LogLevel {
            level: "debug".to_owned(),
            configured: "info".to_owned(),
            until: until.map(str::to_owned),
        };
        assert_eq!(level_text(&level(Some("then")), false), "debug until then, then info");
        assert_eq!(level_text(&level(None), false), "debug");
        let document = r#"{"configured":"info","level":"debug","until":null}"#;
        assert_eq!(level_text(&level(None), true), document);
    }
}
