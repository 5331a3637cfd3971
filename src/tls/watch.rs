//! Follows the key and the certificate on disk and offers each new pair (04 §7.2, 01 §15).
//!
//! A separate task reads both files after events in their directories, and also at a slow interval,
//! for file systems without events. It changes no file: the driver installs the offered pair.
//!
//! Invariants: an offered pair was verified; while a renewal leaves the pair broken, the task waits
//! and keeps the previous offer; the task ends when its [`PairWatch`] is dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::pair::{PairDigest, PairError, TlsPair};
use super::places::Places;
use crate::spec::wire::TlsConfig;

/// Intervals and limits of the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchLimits {
    /// How long a start waits for a usable pair (01 §24 no. 7).
    pub start: Duration,
    /// Interval between reads without an event (01 §15).
    pub poll: Duration,
    /// Interval between reads while the pair is not usable; after [`Self::poll`] of this, `poll`.
    pub retry: Duration,
    /// Pause from an event to the read: a renewal causes several events.
    pub settle: Duration,
    /// Limit from a reload until Postgres shows the new certificate.
    pub served: Duration,
    /// Pause before a pair that Postgres did not take is tried again: it may only have been slow.
    pub again: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            poll: Duration::from_secs(60),
            retry: Duration::from_secs(1),
            settle: Duration::from_millis(100),
            served: Duration::from_secs(5),
            again: Duration::from_secs(600),
        }
    }
}

/// The start found no usable pair.
#[derive(Debug, thiserror::Error)]
#[error("no usable TLS key and certificate within {limit:?}{}", because(cause.as_deref()))]
pub(crate) struct NoPair {
    limit: Duration,
    /// The last error.
    cause: Option<Arc<PairError>>,
}

/// The end of the text of [`NoPair`].
fn because(cause: Option<&PairError>) -> String {
    cause.map_or_else(String::new, |error| format!(": {error}"))
}

/// State of the files as the task has seen it.
#[derive(Debug, Default)]
struct Seen {
    /// The newest usable pair.
    pair: Option<Arc<TlsPair>>,
    /// Why the current files are not usable.
    failure: Option<Arc<PairError>>,
}

/// The running watch.
#[derive(Debug)]
pub(crate) struct PairWatch {
    seen: watch::Receiver<Seen>,
    sender: Arc<watch::Sender<Seen>>,
    _task: AbortOnDropHandle<()>,
    limits: WatchLimits,
}

impl PairWatch {
    /// Starts to follow the files. The first read is immediate.
    pub(crate) fn start(config: TlsConfig, limits: WatchLimits) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let sender = Arc::new(sender);
        let follow = follow(config, limits, Arc::clone(&sender));
        let task = AbortOnDropHandle::new(tokio::spawn(follow));
        Self { seen, sender, _task: task, limits }
    }

    /// Takes a pair that the driver has read, later than the watch.
    pub(crate) fn read_anew(&self, pair: TlsPair) {
        offer(&self.sender, pair);
    }

    /// The newest usable pair.
    pub(crate) fn latest(&self) -> Option<Arc<TlsPair>> {
        self.seen.borrow().pair.clone()
    }

    /// Waits for the first usable pair.
    ///
    /// # Errors
    /// No usable pair appeared within [`WatchLimits::start`].
    pub(crate) async fn wait_for_pair(&mut self) -> Result<Arc<TlsPair>, NoPair> {
        let limit = self.limits.start;
        match tokio::time::timeout(limit, self.changed(&[])).await {
            Ok(pair) => Ok(pair),
            Err(_) => Err(NoPair { limit, cause: self.seen.borrow().failure.clone() }),
        }
    }

    /// Waits for a usable pair other than `known`. Cancel-safe.
    pub(crate) async fn changed(&mut self, known: &[PairDigest]) -> Arc<TlsPair> {
        let other = |seen: &Seen| seen.pair.as_ref().is_some_and(|p| !known.contains(&p.digest()));
        // The sender is dropped only with the runtime.
        match self.seen.wait_for(other).await.map(|seen| seen.pair.clone()) {
            Ok(Some(pair)) => pair,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

/// Body of the task.
async fn follow(config: TlsConfig, limits: WatchLimits, out: Arc<watch::Sender<Seen>>) {
    let paths = [&config.key_path, &config.cert_path].map(|path| absolute(path));
    let mut places = Places::new(paths.into());
    let changed = places.changed();
    let mut trouble: Option<Trouble> = None;
    let mut doubtful: Option<PairDigest> = None;
    loop {
        let files = config.clone();
        let look = move || {
            places.look_again();
            (places, TlsPair::load(&files))
        };
        // Fails only when the runtime shuts down.
        let Ok((back, loaded)) = tokio::task::spawn_blocking(look).await else { return };
        places = back;
        let pause = match loaded {
            // A pair that cannot be verified may be from the middle of a renewal: read it twice.
            Ok(pair) if pair.doubt().is_some() && doubtful != Some(pair.digest()) => {
                doubtful = Some(pair.digest());
                limits.retry
            }
            Ok(pair) => {
                if trouble.take().is_some() {
                    tracing::info!("the TLS key and certificate can be used now");
                }
                offer(&out, pair);
                limits.poll
            }
            Err(error) => {
                let trouble = trouble.get_or_insert_with(Trouble::new);
                let first = out.borrow().pair.is_none();
                trouble.log(&error, limits.poll, first.then_some(limits.start));
                let error = Arc::new(error);
                out.send_if_modified(|seen| {
                    seen.failure = Some(error);
                    false
                });
                if trouble.since.elapsed() < limits.poll { limits.retry } else { limits.poll }
            }
        };
        tokio::select! {
            () = changed.notified() => sleep(limits.settle).await,
            () = sleep(pause) => {}
        }
    }
}

/// Offers a pair if it differs from the previous one.
fn offer(out: &watch::Sender<Seen>, pair: TlsPair) {
    let digest = pair.digest();
    let new = out.send_if_modified(|seen| {
        seen.failure = None;
        let new = seen.pair.as_ref().is_none_or(|before| before.digest() != digest);
        if new {
            seen.pair = Some(Arc::new(pair));
        }
        new
    });
    if new {
        tracing::debug!("found the TLS pair {digest}");
    }
}

fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// A period without a usable pair; limits the log lines about it.
struct Trouble {
    since: Instant,
    logged: Option<(String, Instant)>,
}

impl Trouble {
    fn new() -> Self {
        Self { since: Instant::now(), logged: None }
    }

    /// Logs each new reason, and the same one once per period. `limit` is that of a start; the old
    /// pair of a renewal stays in force without one.
    fn log(&mut self, error: &PairError, every: Duration, limit: Option<Duration>) {
        let text = error.to_string();
        let known = self.logged.as_ref();
        if known.is_none_or(|(before, when)| *before != text || when.elapsed() >= every) {
            let limit =
                limit.map_or_else(String::new, |it| format!(" (a start waits for up to {it:?})"));
            tracing::warn!("waiting for a usable TLS key and certificate: {text}{limit}");
            self.logged = Some((text, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests;
