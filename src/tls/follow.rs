//! Reads files again and again: after events in their folders, and at a slow interval for file
//! systems without events.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::places::Places;

/// Reads with `load`, at first at once, and gives each result to `judge`, which says when to read
/// again if there is no event before. Ends only with the runtime.
pub(super) async fn follow<T: Send + 'static>(
    paths: &[&Path],
    settle: Duration,
    load: impl Fn() -> T + Send + Sync + 'static,
    mut judge: impl FnMut(T) -> Duration,
) {
    let load = Arc::new(load);
    let mut places = Places::new(paths.iter().map(|path| absolute(path)).collect());
    let changed = places.changed();
    loop {
        let load = Arc::clone(&load);
        let look = move || {
            places.look_again();
            (places, load())
        };
        // Fails only when the runtime shuts down.
        let Ok((back, loaded)) = tokio::task::spawn_blocking(look).await else { return };
        places = back;
        let pause = judge(loaded);
        tokio::select! {
            () = changed.notified() => sleep(settle).await,
            () = sleep(pause) => {}
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// Files that cannot be used for a while; limits the log lines about it.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<Period>);

#[derive(Debug)]
struct Period {
    since: Instant,
    logged: Option<(String, Instant)>,
}

impl Trouble {
    /// Whether there was trouble, which ends with this call.
    pub(super) fn is_over(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Gives each new error to `log`, and the same one once per `poll`. Returns when to read again: at
    /// first `retry`.
    pub(super) fn goes_on(
        &mut self,
        error: &impl Display,
        (retry, poll): (Duration, Duration),
        log: impl FnOnce(&str),
    ) -> Duration {
        let now = Instant::now();
        let period = self.0.get_or_insert(Period { since: now, logged: None });
        let text = error.to_string();
        let known = period.logged.as_ref();
        if known.is_none_or(|(before, at)| *before != text || at.elapsed() >= poll) {
            log(&text);
            period.logged = Some((text, now));
        }
        if period.since.elapsed() < poll { retry } else { poll }
    }
}
