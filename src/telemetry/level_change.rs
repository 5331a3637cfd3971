//! Another level of the log for a limited time, with a line in the log that says so.

use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use tokio::time::Instant;

use super::levels::Levels;
use super::shown::shown;
use super::sink::LogSink;

/// Puts a filter in force for a time; then the configured one is in force again. `by` says who asks.
/// The lines about it are in the log whatever the filters are.
///
/// # Errors
/// The parts of the filter that cannot be used; then nothing is changed.
pub(crate) fn change(
    log: &LogSink,
    levels: &Levels,
    filter: &str,
    limit: Duration,
    by: &str,
) -> Result<(), Vec<String>> {
    let until = Utc::now() + limit;
    let before = levels.change(filter, Instant::now() + limit, until)?;
    let now = levels.now();
    let end = match now.until {
        Some(until) => {
            let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
            format!("until {until}, then {}", shown(levels.configured()).quoted())
        }
        None => "as configured".to_owned(),
    };
    log.note(format!(
        "the log level changes from {} to {}, {end}; asked for by {by}",
        shown(&before.filter).quoted(),
        shown(&now.filter).quoted(),
    ));
    Ok(())
}

/// The work that puts the configured filter in force again. None if it runs already.
pub(crate) fn keeper(log: &LogSink) -> Option<impl Future<Output = ()> + Send + 'static> {
    log.levels().filter(|levels| levels.must_be_kept())?;
    let log = log.clone();
    Some(async move {
        let Some(levels) = log.levels() else { return };
        levels
            .keep(|before| {
                log.note(format!(
                    "the log level changes from {} back to {}: its time is over",
                    shown(before).quoted(),
                    shown(levels.configured()).quoted(),
                ));
            })
            .await;
    })
}
