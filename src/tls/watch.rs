//! Follows the key and the certificate on disk and offers each new pair (04 §7.2, 01 §15).
//!
//! A separate task reads both files after events in their directories, and also at a slow interval,
//! for file systems without events. It changes no file: the driver installs the offered pair.
//!
//! Invariants: an offered pair was verified; while a renewal leaves the pair broken, the task waits
//! and keeps the previous offer; the task ends when its [`PairWatch`] is dropped.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::follow::{Trouble, follow};
use super::pair::{PairDigest, PairError, TlsPair};
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
        let follow = follow_pair(config, limits, Arc::clone(&sender));
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
async fn follow_pair(config: TlsConfig, limits: WatchLimits, out: Arc<watch::Sender<Seen>>) {
    let paths = [config.key_path.clone(), config.cert_path.clone()];
    let mut trouble = Trouble::default();
    let mut doubtful: Option<PairDigest> = None;
    let judge = |loaded| match loaded {
        // A pair that cannot be verified may be from the middle of a renewal: read it twice.
        Ok(pair) if TlsPair::doubt(&pair).is_some() && doubtful != Some(pair.digest()) => {
            doubtful = Some(pair.digest());
            limits.retry
        }
        Ok(pair) => {
            if trouble.is_over() {
                tracing::info!("the TLS key and certificate can be used now");
            }
            offer(&out, pair);
            limits.poll
        }
        Err(error) => {
            let first = out.borrow().pair.is_none();
            let limit = first.then(|| format!(" (a start waits for up to {:?})", limits.start));
            let pause = trouble.goes_on(&error, (limits.retry, limits.poll), |text| {
                let limit = limit.unwrap_or_default();
                tracing::warn!("waiting for a usable TLS key and certificate: {text}{limit}");
            });
            let error = Arc::new(error);
            out.send_if_modified(|seen| {
                seen.failure = Some(error);
                false
            });
            pause
        }
    };
    let paths = paths.each_ref().map(Path::new);
    follow(&paths, limits.settle, move || TlsPair::load(&config), judge).await;
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

#[cfg(test)]
mod tests;
