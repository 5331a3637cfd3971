//! The program's own log (01 §20.1): one line per event on stderr, no colours, no module path.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::sink::LogSink;

/// Sends all events to the sink. `RUST_LOG` sets the levels; unset or unparsable means `info`.
pub fn init(sink: LogSink) {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(sink)
        .init();
    log_panics();
}

/// Panics are logged as errors, with the place, inside a span (01 §20.1).
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let span = tracing::error_span!("panic", thread = thread.name().unwrap_or("?"), location);
        let message = panic.payload_as_str().unwrap_or("no message");
        span.in_scope(|| tracing::error!("{message}"));
    }));
}
