//! Which peer is being asked now, readable while that lasts: for an operator who waits.
//!
//! A loop of tries holds an [`Asking`] and tells it of each try; when the loop is over or dropped,
//! its entry is gone. Peers are named as in errors, without passwords.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

use crate::duration::millis;

/// The loops of tries in progress; clones see the same ones.
#[derive(Debug, Clone, Default)]
pub struct Tries(Arc<Mutex<Vec<Weak<Mutex<Asked>>>>>);

/// A peer that is being asked, in `/details`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Try {
    /// `pageserver` or `safekeepers`.
    pub kind: &'static str,
    /// Its address.
    pub peer: String,
    /// Number of the try, from 1.
    pub attempt: u32,
    /// Most tries that are made; absent if only time limits them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// Milliseconds since this try began.
    pub since_ms: u64,
    /// Milliseconds to the next try, in the pause after one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
    /// Why the try before failed, or why the peer is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

#[derive(Debug)]
struct Asked {
    kind: &'static str,
    peer: String,
    attempt: u32,
    of: Option<u32>,
    began: Instant,
    next: Option<Instant>,
    last_error: Option<String>,
}

/// A loop of tries. Dropping it removes its entry.
#[derive(Debug)]
#[must_use = "the entry is gone when this is dropped"]
pub(crate) struct Asking(Arc<Mutex<Asked>>);

impl Tries {
    /// Begins a loop of at most `of` tries.
    pub(crate) fn begin(&self, kind: &'static str, peer: String, of: Option<u32>) -> Asking {
        let began = Instant::now();
        let asked = Asked { kind, peer, attempt: 1, of, began, next: None, last_error: None };
        let asked = Arc::new(Mutex::new(asked));
        let mut all = self.0.lock();
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&asked));
        Asking(asked)
    }

    /// The loops in progress, in the order in which they began.
    pub fn now(&self) -> Vec<Try> {
        let all: Vec<_> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        all.iter().map(|asked| asked.lock().shown()).collect()
    }
}

impl Asked {
    fn shown(&self) -> Try {
        let left = |at: Instant| millis(at.saturating_duration_since(Instant::now()));
        Try {
            kind: self.kind,
            peer: self.peer.clone(),
            attempt: self.attempt,
            of: self.of,
            since_ms: millis(self.began.elapsed()),
            next_ms: self.next.map(left),
            last_error: self.last_error.clone(),
        }
    }
}

impl Asking {
    /// A try begins.
    pub(crate) fn attempt(&self, attempt: u32, peer: String) {
        let mut asked = self.0.lock();
        (asked.attempt, asked.peer) = (attempt, peer);
        (asked.began, asked.next) = (Instant::now(), None);
    }

    /// The try failed. `pause`: until the next one.
    pub(crate) fn failed(&self, error: String, pause: Duration) {
        let mut asked = self.0.lock();
        asked.last_error = Some(error);
        asked.next = Instant::now().checked_add(pause);
    }

    /// Says why the peer is asked.
    pub(crate) fn because(&self, why: &str) {
        self.0.lock().last_error = Some(why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lives_as_long_as_its_loop() {
        let tries = Tries::default();
        assert!(tries.now().is_empty());
        let asking = tries.clone().begin("pageserver", "ps-1:6400".to_owned(), Some(11));
        let other = tries.begin("safekeepers", "sk-1:6500".to_owned(), None);
        other.because("not synced");
        asking.failed("no luck".to_owned(), Duration::from_secs(600));
        let now = tries.now();
        assert_eq!(now.iter().map(|it| it.kind).collect::<Vec<_>>(), ["pageserver", "safekeepers"]);
        assert_eq!((now[0].attempt, now[0].of, now[1].of), (1, Some(11), None));
        assert!(now[0].next_ms.unwrap() > 500_000);
        assert_eq!(now[0].last_error.as_deref(), Some("no luck"));
        assert_eq!(now[1].last_error.as_deref(), Some("not synced"));
        asking.attempt(2, "ps-2:6400".to_owned());
        let now = tries.now();
        assert_eq!((now[0].attempt, now[0].peer.as_str()), (2, "ps-2:6400"));
        assert_eq!(now[0].next_ms, None);
        drop(asking);
        assert_eq!(tries.now().len(), 1);
        drop(other);
        assert!(tries.now().is_empty());
    }
}
