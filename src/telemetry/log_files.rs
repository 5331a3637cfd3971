//! Log files of Lakebase mode (04 §16 no. 5): one line of JSON per event, a file per day.
//!
//! The same events as on stderr, with the same filter, but without the lines of Postgres. They have
//! a separate [`LogSink`], so a stalled disk delays no other output.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context;
use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::sink::LogSink;
use crate::env::LOG_DIRECTORY;
use crate::os::denied::explained;

/// Prefix of the file names; the day follows.
const PREFIX: &str = "pgcctl.";
/// Number of files kept when a new one is started, including the new one.
const KEPT: usize = 2;

/// Instance id and compute id, once a spec is known.
static IDS: OnceLock<(String, String)> = OnceLock::new();

/// Adds both ids to every line from now on. Only the first call has an effect.
pub fn identify(instance_id: &str, compute_id: &str) {
    let _ = IDS.set((instance_id.to_owned(), compute_id.to_owned()));
}

/// The sink for the files in a directory, which is created if necessary.
///
/// # Errors
/// The directory cannot be created.
pub fn open(directory: &Path) -> anyhow::Result<LogSink> {
    fs::create_dir_all(directory)
        .map_err(|error| explained(error, directory))
        .with_context(|| format!("could not create {LOG_DIRECTORY} {}", directory.display()))?;
    Ok(LogSink::second(DailyFiles::new(directory.to_owned()))?)
}

/// One file per day, in UTC; an existing one is appended to.
#[derive(Debug)]
struct DailyFiles {
    directory: PathBuf,
    today: fn() -> NaiveDate,
    open: Option<(NaiveDate, File)>,
}

impl DailyFiles {
    fn new(directory: PathBuf) -> Self {
        Self { directory, today: || Utc::now().date_naive(), open: None }
    }

    fn file(&mut self) -> io::Result<&mut File> {
        let today = (self.today)();
        if self.open.as_ref().is_some_and(|(day, _)| *day != today) {
            self.open = None;
            // A new file is about to be created.
            delete_oldest(&self.directory, KEPT - 1);
        }
        let (_, file) = match &mut self.open {
            Some(open) => open,
            closed => {
                let path = self.directory.join(format!("{PREFIX}{today}"));
                let file = OpenOptions::new().append(true).create(true).open(path)?;
                closed.insert((today, file))
            }
        };
        Ok(file)
    }
}

impl Write for DailyFiles {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.file()?.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Best effort: sorts by time of creation, if the file system provides it.
fn delete_oldest(directory: &Path, kept: usize) {
    let Ok(listing) = fs::read_dir(directory) else { return };
    let mut files: Vec<_> = listing
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((meta.created().or_else(|_| meta.modified()).ok()?, entry.path()))
        })
        .collect();
    files.sort();
    let surplus = files.len().saturating_sub(kept);
    for (_, path) in files.into_iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
}

/// Formats one event as one line of JSON.
#[derive(Debug)]
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        let meta = event.metadata();
        let module = meta.module_path().unwrap_or_default();
        writeln!(out, "{}", line(Utc::now(), meta.level().as_str(), module, &message))
    }
}

/// The members in the documented order, with a space after each colon and comma.
fn line(now: DateTime<Utc>, level: &str, module: &str, message: &str) -> String {
    let (instance_id, compute_id) =
        IDS.get().map_or(("", ""), |(instance, compute)| (instance, compute));
    let timestamp = now.format("%Y-%m-%d %H:%M:%S%.3f GMT").to_string();
    let members = [
        ("timestamp", timestamp.as_str()),
        ("error_severity", level),
        ("file_name", module),
        ("backend_type", "compute_ctl_self"),
        ("pg_instance_id", instance_id),
        ("pg_compute_id", compute_id),
        ("message", message),
    ]
    .map(|(name, value)| format!("\"{name}\": {}", Value::from(value)));
    format!("{{{}}}", members.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_form() {
        let now = DateTime::parse_from_rfc3339("2026-01-02T03:04:05.6789Z").unwrap();
        let line = line(now.into(), "INFO", "compute_ctl::life", "a \"b\" x=1\n");
        assert_eq!(
            line,
            r#"{"timestamp": "2026-01-02 03:04:05.678 GMT", "error_severity": "INFO", "file_name": "compute_ctl::life", "backend_type": "compute_ctl_self", "pg_instance_id": "", "pg_compute_id": "", "message": "a \"b\" x=1\n"}"#
        );
    }

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 1, day).unwrap()
    }

    #[test]
    fn two_days_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        fs::write(dir.path().join("other"), "").unwrap();
        fs::write(dir.path().join("pgcctl.2026-01-01"), "before\n").unwrap();
        let mut files = DailyFiles { today: || day(1), ..DailyFiles::new(dir.path().into()) };
        files.write_all(b"one\n").unwrap();
        let first = fs::read_to_string(dir.path().join("pgcctl.2026-01-01")).unwrap();
        assert_eq!(first, "before\none\n", "appended to");
        files.today = || day(2);
        files.write_all(b"two\n").unwrap();
        assert_eq!(names(), ["other", "pgcctl.2026-01-01", "pgcctl.2026-01-02"]);
        files.today = || day(3);
        files.write_all(b"three\n").unwrap();
        assert_eq!(names(), ["other", "pgcctl.2026-01-02", "pgcctl.2026-01-03"]);
    }
}
