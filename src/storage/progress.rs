//! How far the base backup has come, readable while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Shared view of a running base backup; clones see the same values.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Compressed bytes received by the current try.
    pub fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Relaxed);
    }
}
