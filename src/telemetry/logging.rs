//! The program's own log (01 §20.1): one line per event on stderr, no colours, no module path; or
//! one JSON object per event.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry, reload};

use super::form::LogFormat;
use super::json_layer::JsonLines;
use super::levels::{Levels, filter};
use super::log_files::JsonLine;
use super::shown::shown;
use super::sink::LogSink;

/// Sends all events to the sink, and as lines of JSON to the sink of the log files, if any.
/// `levels` is the value of `RUST_LOG`; if it is unset or no part of it can be used, the level is
/// `info`. Parts that cannot be used are named in the log.
pub fn init(levels: Option<&str>, sink: LogSink, files: Option<LogSink>) {
    let (filter, bad) = filter(levels.unwrap_or_default());
    let (filter, handle) = reload::Layer::new(filter);
    sink.set_levels(Levels::new(levels, move |filter| {
        // Fails only if this log is not that of the process.
        let _ = handle.reload(filter);
    }));
    let json = (sink.form().format() == LogFormat::Json).then(|| JsonLines(sink.clone()));
    // In both forms: the last lines that are kept are those of the text form.
    let lines = fmt::layer().with_ansi(false).with_target(false).with_writer(sink);
    let files = files.map(|files| fmt::layer().event_format(JsonLine).with_writer(files));
    registry().with(filter).with(lines).with(json).with(files).init();
    log_panics();
    if !bad.is_empty() {
        let parts: Vec<_> = bad.iter().map(|part| shown(part).quoted().to_string()).collect();
        tracing::warn!(
            "parts of RUST_LOG have no effect: {}; a part is a level (error, warn, info, debug, \
             trace, off) or TARGET=LEVEL",
            parts.join(", ")
        );
    }
}

/// Logs panics as errors, with their location, inside a span (01 §20.1).
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let span = tracing::error_span!("panic", thread = thread.name().unwrap_or("?"), location);
        let message = panic.payload_as_str().unwrap_or("no message");
        span.in_scope(|| tracing::error!("{message}"));
    }));
}
