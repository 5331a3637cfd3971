//! How far the base backup has come, readable while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::tries::Tries;

/// Shared view of a running base backup; clones see the same values.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    bytes: Arc<AtomicU64>,
    /// Where the tries are shown.
    pub(super) tries: Tries,
}

impl Progress {
    /// Progress whose tries are shown with others.
    pub fn shown_in(tries: Tries) -> Self {
        Self { tries, ..Self::default() }
    }

    /// Compressed bytes received by the current try.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(super) fn reset(&self) {
        self.bytes.store(0, Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }
}
