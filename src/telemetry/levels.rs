//! The levels of the log: the filter of `RUST_LOG`, and another one for a limited time.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

/// The target of our own events begins with this.
const OUR_TARGET: &str = "compute_ctl";
/// The filter of a process without `RUST_LOG`.
const DEFAULT: &str = "info";

/// The filter, and the parts that cannot be used. A word alone counts only if it is a level:
/// `EnvFilter` takes `inf` for the name of a module, and then nothing else is logged.
pub(super) fn filter(levels: &str) -> (EnvFilter, Vec<&str>) {
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
            .map_or_else(|_| (EnvFilter::new(DEFAULT), vec![levels]), |it| (it, Vec::new()));
    }
    (builder().parse_lossy(good.join(",")), bad)
}

/// Puts another filter in force.
type Put = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// The filter in force and the configured one.
pub(crate) struct Levels {
    put: Put,
    configured: String,
    now: Mutex<Now>,
    /// When the configured filter is in force again.
    ends: watch::Sender<Option<Instant>>,
    is_kept: AtomicBool,
}

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Now {
    /// The filter in force, as it was given.
    pub(crate) filter: String,
    /// When the configured filter is in force again; none if it is already.
    pub(crate) until: Option<DateTime<Utc>>,
}

impl Levels {
    /// `configured` is the value of `RUST_LOG`.
    pub(super) fn new(
        configured: Option<&str>,
        put: impl Fn(EnvFilter) + Send + Sync + 'static,
    ) -> Self {
        let configured = configured.map(str::trim).filter(|levels| !levels.is_empty());
        let configured = configured.unwrap_or(DEFAULT).to_owned();
        Self {
            put: Box::new(put),
            now: Mutex::new(Now { filter: configured.clone(), until: None }),
            configured,
            ends: watch::Sender::new(None),
            is_kept: AtomicBool::new(false),
        }
    }

    /// The configured filter.
    pub(crate) fn configured(&self) -> &str {
        &self.configured
    }

    /// What is in force.
    pub(crate) fn now(&self) -> Now {
        self.now.lock().clone()
    }

    /// Puts a filter in force until `ends`; the configured one stays. Returns what was in force.
    ///
    /// # Errors
    /// The parts of the filter that cannot be used; then nothing is changed.
    pub(super) fn change(
        &self,
        levels: &str,
        ends: Instant,
        until: DateTime<Utc>,
    ) -> Result<Now, Vec<String>> {
        let levels = levels.trim();
        let (filter, bad) = filter(levels);
        if levels.is_empty() || !bad.is_empty() {
            let bad = if bad.is_empty() { vec![levels] } else { bad };
            return Err(bad.into_iter().map(str::to_owned).collect());
        }
        let mut now = self.now.lock();
        (self.put)(filter);
        let is_other = levels != self.configured;
        let new = Now { filter: levels.to_owned(), until: is_other.then_some(until) };
        let before = std::mem::replace(&mut *now, new);
        self.ends.send_replace(is_other.then_some(ends));
        Ok(before)
    }

    /// Puts the configured filter in force. Returns what was in force.
    fn restore(&self) -> Now {
        let mut now = self.now.lock();
        (self.put)(filter(&self.configured).0);
        let new = Now { filter: self.configured.clone(), until: None };
        self.ends.send_replace(None);
        std::mem::replace(&mut *now, new)
    }

    /// Whether the caller has to run [`Levels::keep`]: true only once.
    pub(super) fn must_be_kept(&self) -> bool {
        !self.is_kept.swap(true, Ordering::Relaxed)
    }

    /// Restores the configured filter whenever the time of another one is over, and calls `said`
    /// with that one.
    pub(super) async fn keep(&self, said: impl Fn(&str)) {
        let mut ends = self.ends.subscribe();
        loop {
            let end = *ends.borrow_and_update();
            let over = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = ends.changed() => if changed.is_err() { return },
                () = over => {
                    // A request may have set another end at this moment.
                    if *self.ends.borrow() == end {
                        said(&self.restore().filter);
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Levels").field("now", &self.now()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

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

    /// Levels, and the filters that were put in force.
    fn levels(configured: Option<&str>) -> (Arc<Levels>, Arc<Mutex<Vec<String>>>) {
        let put = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&put);
        let levels = Levels::new(configured, move |it| seen.lock().push(it.to_string()));
        (Arc::new(levels), put)
    }

    fn change(levels: &Levels, filter: &str, seconds: u64) -> Result<Now, Vec<String>> {
        levels.change(filter, Instant::now() + Duration::from_secs(seconds), Utc::now())
    }

    #[tokio::test(start_paused = true)]
    async fn the_configured_filter_comes_back() {
        let (levels, put) = levels(Some("warn"));
        assert!(levels.must_be_kept() && !levels.must_be_kept());
        let ended = Arc::new(Mutex::new(Vec::new()));
        let keeper = tokio::spawn({
            let (levels, ended) = (Arc::clone(&levels), Arc::clone(&ended));
            async move { levels.keep(|filter| ended.lock().push(filter.to_owned())).await }
        });
        assert_eq!(change(&levels, "debug", 60).unwrap().filter, "warn");
        tokio::time::sleep(Duration::from_secs(59)).await;
        // A later request replaces the end.
        assert_eq!(change(&levels, "trace", 60).unwrap().filter, "debug");
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(levels.now().filter, "trace");
        assert!(levels.now().until.is_some());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(levels.now(), Now { filter: "warn".to_owned(), until: None });
        // Back by hand: nothing is left to end.
        change(&levels, "error", 60).unwrap();
        change(&levels, "warn", 60).unwrap();
        assert_eq!(levels.now().until, None);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(*put.lock(), ["debug", "trace", "warn", "error", "warn"]);
        assert_eq!(*ended.lock(), ["trace"]);
        keeper.abort();
    }

    #[test]
    fn a_bad_filter_changes_nothing() {
        let (levels, put) = levels(None);
        assert_eq!(levels.configured(), "info");
        assert_eq!(change(&levels, "debug,loud", 1), Err(vec!["loud".to_owned()]));
        assert_eq!(change(&levels, " ", 1), Err(vec![String::new()]));
        assert!(put.lock().is_empty());
        assert_eq!(levels.now().filter, "info");
    }
}
