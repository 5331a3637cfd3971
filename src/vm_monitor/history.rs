//! Which samples are worth a line of the log (08 §6.2, W17). Pure.

use std::time::{Duration, Instant};

use super::policy::MIB;

/// Samples in a line.
const BLOCK: usize = 20;
/// After this time a line is due even if nothing has changed.
const DUE: Duration = Duration::from_secs(15);
/// Samples further apart than this are never close.
const FAR: u64 = 128 * MIB;

/// The samples since the last block, and what was last logged.
#[derive(Debug, Default)]
pub(super) struct History {
    block: Vec<u64>,
    logged: Option<(Instant, u64)>,
}

impl History {
    /// Adds a sample; returns a block that is worth a line.
    pub(super) fn push(&mut self, sample: u64, now: Instant) -> Option<Vec<u64>> {
        self.block.push(sample);
        if self.block.len() < BLOCK {
            return None;
        }
        let block = std::mem::take(&mut self.block);
        let news = self.logged.is_none_or(|(at, last)| {
            now.duration_since(at) >= DUE || block.iter().any(|it| !is_close(*it, last))
        });
        if !news {
            return None;
        }
        self.logged = Some((now, sample));
        Some(block)
    }
}

/// Equal samples are close, also those of an idle cgroup.
fn is_close(a: u64, b: u64) -> bool {
    let apart = a.abs_diff(b);
    apart <= a.min(b) / 8 && apart < FAR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_logged_if_it_is_due_or_differs() {
        let start = Instant::now();
        let mut history = History::default();
        let mut block = |sample, seconds| {
            let now = start + Duration::from_secs(seconds);
            (0..20).filter_map(|_| history.push(sample, now)).count()
        };
        assert_eq!(block(0, 0), 1, "the first");
        assert_eq!(block(0, 2), 0, "idle");
        assert_eq!(block(0, 15), 1, "due");
        assert_eq!(block(800, 17), 1, "other");
        assert_eq!(block(900, 19), 0, "close");
        assert_eq!(block(901, 21), 1, "not close to 800");
        assert_eq!(block(8 << 30, 22), 1);
        assert_eq!(block((8 << 30) + FAR, 23), 1, "far, although within an eighth");
    }
}
