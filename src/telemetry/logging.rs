//! The program's own log (01 §20.1): one line per event on stderr, no colours, no module path.

use tracing_subscriber::filter::{Directive, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use super::log_files::JsonLine;
use super::shown::shown;
use super::sink::LogSink;

/// The target of our own events begins with this.
const OUR_TARGET: &str = "compute_ctl";

/// Sends all events to the sink, and as lines of JSON to the sink of the log files, if any.
/// `levels` is the value of `RUST_LOG`; if it is unset or no part of it can be used, the level is
/// `info`. Parts that cannot be used are named in the log.
pub fn init(levels: Option<&str>, sink: LogSink, files: Option<LogSink>) {
    let (filter, bad) = filter(levels.unwrap_or_default());
    let lines = fmt::layer().with_ansi(false).with_target(false).with_writer(sink);
    let files = files.map(|files| fmt::layer().event_format(JsonLine).with_writer(files));
    registry().with(filter).with(lines).with(files).init();
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

/// The filter, and the parts that cannot be used. A word alone counts only if it is a level:
/// `EnvFilter` takes `inf` for the name of a module, and then nothing else is logged.
fn filter(levels: &str) -> (EnvFilter, Vec<&str>) {
    let builder = || EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let is_word = |part: &str| !part.contains(['=', '[', ']', '{', '}', ':']);
    let is_good = |part: &str| {
        let is_level = part.parse::<LevelFilter>().is_ok();
        let named = (!is_word(part) || part == OUR_TARGET) && !part.ends_with('=');
        is_level || (named && part.parse::<Directive>().is_ok())
    };
    let parts = levels.split(',').map(str::trim).filter(|part| !part.is_empty());
    let (good, bad): (Vec<&str>, Vec<&str>) = parts.partition(|part| is_good(part));
    // Commas within braces do not separate parts.
    if bad.is_empty() || levels.contains('{') {
        let whole = builder().parse(levels.trim());
        return whole
            .map_or_else(|_| (EnvFilter::new("info"), vec![levels]), |it| (it, Vec::new()));
    }
    (builder().parse_lossy(good.join(",")), bad)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_parts_are_named_and_the_rest_counts() {
        for (levels, expected, bad) in [
            ("", "info", &[][..]),
            (" ", "info", &[]),
            ("debug", "debug", &[]),
            ("OFF", "off", &[]),
            ("warn,compute_ctl::http=trace", "compute_ctl::http=trace,warn", &[]),
            ("compute_ctl", "compute_ctl=trace", &[]),
            ("info,[http{a=1}]=debug", "[http{a=1}]=debug,info", &[]),
            ("info,[http{a=1}=debug", "info", &["info,[http{a=1}=debug"]),
            ("verbos=,x", "info", &["verbos=", "x"]),
            ("inf", "info", &["inf"]),
            ("debug,hyper=loud", "debug", &["hyper=loud"]),
            ("verbose, warn", "warn", &["verbose"]),
        ] {
            let (filter, told) = filter(levels);
            assert_eq!(told, bad, "{levels}");
            let (mut seen, mut expected): (Vec<_>, Vec<_>) = (
                filter.to_string().split(',').map(str::to_owned).collect(),
                expected.split(',').map(str::to_owned).collect(),
            );
            seen.sort();
            expected.sort();
            assert_eq!(seen, expected, "{levels}");
        }
    }
}
