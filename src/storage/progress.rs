//! How far the base backup has come, readable while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Where the current try stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not asked yet: before the start, connecting, or in a pause between tries.
    Idle,
    /// The pageserver was asked. It may wait minutes for the LSN before it sends (06 §3.7).
    WaitingForFirstByte,
    /// The archive is arriving.
    Receiving,
    /// Everything is received and unpacked.
    Done,
}

/// Shared view of a running base backup; clones see the same values.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    phase: AtomicU8,
}

impl Progress {
    /// Compressed bytes received by the current try.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    /// Where the current try stands.
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Relaxed) {
            0 => Phase::Idle,
            1 => Phase::WaitingForFirstByte,
            2 => Phase::Receiving,
            _ => Phase::Done,
        }
    }

    pub(super) fn reset(&self) {
        self.0.bytes.store(0, Relaxed);
        self.set(Phase::Idle);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Relaxed);
        self.set(Phase::Receiving);
    }

    pub(super) fn set(&self, phase: Phase) {
        let number = match phase {
            Phase::Idle => 0,
            Phase::WaitingForFirstByte => 1,
            Phase::Receiving => 2,
            Phase::Done => 3,
        };
        self.0.phase.store(number, Relaxed);
    }
}
