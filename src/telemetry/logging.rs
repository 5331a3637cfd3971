//! The program's own log (01 §20.1): one line per event on stderr, no colours, no module path.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use super::log_files::JsonLine;
use super::sink::LogSink;

/// Sends all events to the sink, and as lines of JSON to the sink of the log files, if any.
/// `levels` is the value of `RUST_LOG`; if it is unset or invalid, the level is `info`.
pub fn init(levels: Option<&str>, sink: LogSink, files: Option<LogSink>) {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(levels.unwrap_or_default())
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer().with_ansi(false).with_target(false).with_writer(sink);
    let files = files.map(|files| fmt::layer().event_format(JsonLine).with_writer(files));
    registry().with(filter).with(lines).with(files).init();
    log_panics();
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
