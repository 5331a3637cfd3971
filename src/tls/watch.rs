//! Follows the key and the certificate on disk and offers each new pair (04 §7.2, 01 §15).
//!
//! A task of its own reads both files when something happens in their folders, and slowly besides,
//! where events do not exist. It changes nothing: the driver takes what is offered and installs it.
//!
//! Invariants: what is offered was verified; a pair that is broken in the middle of a renewal is
//! waited for, and what was offered before stays; the task ends when its [`PairWatch`] is dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::pair::{PairDigest, PairError, TlsPair};
use super::places::Places;
use crate::spec::wire::TlsConfig;

/// How often, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchLimits {
    /// How long a start waits for a usable pair (01 §24 no. 7).
    pub start: Duration,
    /// Between two looks without an event (01 §15).
    pub poll: Duration,
    /// Between two looks while the pair cannot be used; after [`Self::poll`] of this, `poll`.
    pub retry: Duration,
    /// From an event to the look: a renewal is several events.
    pub settle: Duration,
    /// From a reload to the moment when Postgres shows the new certificate.
    pub served: Duration,
    /// From a pair that Postgres did not take to another try with it: it may only have been slow.
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

/// A start had to be given up.
#[derive(Debug, thiserror::Error)]
#[error("no usable TLS key and certificate within {limit:?}")]
pub(crate) struct NoPair {
    limit: Duration,
    /// Why not, at last.
    #[source]
    cause: Option<Arc<PairError>>,
}

/// What the task has seen.
#[derive(Debug, Default)]
struct Seen {
    /// The newest pair that can be used.
    pair: Option<Arc<TlsPair>>,
    /// Why what is there now cannot be used.
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
    /// Starts to follow the files. The first look is at once.
    pub(crate) fn start(config: TlsConfig, limits: WatchLimits) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let sender = Arc::new(sender);
        let follow = follow(config, limits, Arc::clone(&sender));
        let task = AbortOnDropHandle::new(tokio::spawn(follow));
        Self { seen, sender, _task: task, limits }
    }

    /// Somebody else has read the files later than the watch.
    pub(crate) fn read_meanwhile(&self, pair: TlsPair) {
        offer(&self.sender, pair);
    }

    /// The newest usable pair.
    pub(crate) fn latest(&self) -> Option<Arc<TlsPair>> {
        self.seen.borrow().pair.clone()
    }

    /// Waits for the first usable pair.
    ///
    /// # Errors
    /// There was none within [`WatchLimits::start`].
    pub(crate) async fn wait_for_pair(&mut self) -> Result<Arc<TlsPair>, NoPair> {
        let limit = self.limits.start;
        match tokio::time::timeout(limit, self.changed(&[])).await {
            Ok(pair) => Ok(pair),
            Err(_) => Err(NoPair { limit, cause: self.seen.borrow().failure.clone() }),
        }
    }

    /// Waits for a usable pair that is none of `known`. Nothing is lost when it is dropped before.
    pub(crate) async fn changed(&mut self, known: &[PairDigest]) -> Arc<TlsPair> {
        let other = |seen: &Seen| seen.pair.as_ref().is_some_and(|p| !known.contains(&p.digest()));
        // The sender goes away only with the runtime.
        match self.seen.wait_for(other).await.map(|seen| seen.pair.clone()) {
            Ok(Some(pair)) => pair,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

/// The task.
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
        // Fails only with the runtime.
        let Ok((back, loaded)) = tokio::task::spawn_blocking(look).await else { return };
        places = back;
        let pause = match loaded {
            // A pair that cannot be checked may be one of a renewal under way: look twice.
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
                trouble.log(&error, limits.poll);
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

/// Shows a pair if it is another one than before.
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

/// A time in which there is no usable pair; keeps the log short.
struct Trouble {
    since: Instant,
    logged: Option<(String, Instant)>,
}

impl Trouble {
    fn new() -> Self {
        Self { since: Instant::now(), logged: None }
    }

    /// Each reason when it is new, and once a while.
    fn log(&mut self, error: &PairError, every: Duration) {
        let text = error.to_string();
        let known = self.logged.as_ref();
        if known.is_none_or(|(before, when)| *before != text || when.elapsed() >= every) {
            tracing::warn!("waiting for a usable TLS key and certificate: {text}");
            self.logged = Some((text, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests;
