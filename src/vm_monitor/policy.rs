//! When to ask for more memory and when to give some back (08 §6, §7.4). Pure: no clock, no file.
//! All amounts are bytes.

use std::fmt;
use std::time::{Duration, Instant};

/// One MiB.
pub(crate) const MIB: u64 = 1 << 20;

/// The part of an announced memory that the kernel of the virtual machine keeps.
const KERNEL: u64 = 100 * MIB;
/// Memory that must stay free below the new threshold when the machine shrinks.
const DOWNSCALE_BUFFER: u64 = 100 * MIB;
/// The part of the memory above which more is asked for.
const THRESHOLD: f64 = 0.85;
/// Samples in a mean.
const MEAN_OF: usize = 5;
/// Samples without which the mean says nothing.
const ENOUGH: usize = 2;
/// Age at which a mean says nothing any more.
const OUTDATED: Duration = Duration::from_secs(5);
/// Shortest pause between two requests for more.
pub(crate) const ASKING_PAUSE: Duration = Duration::from_secs(1);

/// What Postgres and its cache can use of an announced memory.
pub(crate) const fn usable(announced: u64) -> u64 {
    announced.saturating_sub(KERNEL)
}

/// The use at which a machine with this memory needs more.
pub(crate) fn threshold(total: u64) -> u64 {
    part(total, THRESHOLD)
}

/// A part of an amount, in whole bytes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the protocol computes in double precision and truncates"
)]
pub(super) fn part(amount: u64, of: f64) -> u64 {
    (amount as f64 * of) as u64
}

/// Bytes as MiB in a status text: the shortest decimal of a single-precision number.
struct Mib(u64);

impl fmt::Display for Mib {
    #[expect(clippy::cast_precision_loss, reason = "the text is for readers")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 as f32 / MIB as f32)
    }
}

/// The use of memory lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Mean of the last samples.
    pub(crate) mean: u64,
    /// Number of samples in the mean, 5 at most.
    pub(crate) samples: usize,
    /// When the last one was taken.
    pub(crate) at: Instant,
}

impl Summary {
    /// Before the first sample.
    pub(crate) const fn none(at: Instant) -> Self {
        Self { mean: 0, samples: 0, at }
    }
}

/// The last samples.
#[derive(Debug, Default)]
pub(crate) struct Window {
    samples: [u64; MEAN_OF],
    taken: usize,
}

impl Window {
    /// Adds a sample; returns the summary with it.
    pub(crate) fn push(&mut self, sample: u64, at: Instant) -> Summary {
        self.samples.rotate_right(1);
        if let Some(newest) = self.samples.first_mut() {
            *newest = sample;
        }
        self.taken = (self.taken + 1).min(MEAN_OF);
        let sum: u128 = self.samples.iter().take(self.taken).map(|it| u128::from(*it)).sum();
        let mean = sum / self.taken as u128;
        Summary { mean: u64::try_from(mean).unwrap_or(u64::MAX), samples: self.taken, at }
    }
}

/// Requests for more memory on one connection.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    last: Option<Instant>,
}

impl Asking {
    /// Whether to ask now; if so, the next request waits for the pause.
    pub(crate) fn asks(&mut self, summary: &Summary, threshold: u64, now: Instant) -> bool {
        let pausing = self.last.is_some_and(|last| now.duration_since(last) < ASKING_PAUSE);
        let asks = summary.samples > 0 && summary.mean >= threshold && !pausing;
        if asks {
            self.last = Some(now);
        }
        asks
    }
}

/// What a request to shrink comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The use of memory is not known.
    Unknown(&'static str),
    /// The machine must not shrink, for this reason.
    Refused(String),
    /// It may, and this is the threshold then.
    Granted { threshold: u64 },
}

/// Whether a machine of which this much memory is usable afterwards is large enough.
pub(crate) fn may_shrink(usable: u64, summary: &Summary, now: Instant) -> Verdict {
    if now.duration_since(summary.at) > OUTDATED {
        return Verdict::Unknown(
            "haven't gotten cgroup memory stats recently enough to determine downscaling information",
        );
    }
    if summary.samples < ENOUGH {
        return Verdict::Refused("haven't received enough cgroup memory stats yet".to_owned());
    }
    let threshold = threshold(usable);
    if threshold < summary.mean.saturating_add(DOWNSCALE_BUFFER) {
        return Verdict::Refused(format!(
            "calculated memory threshold too low: {} MiB (new threshold) < {} (current usage) + {} \
             (downscale buffer)",
            Mib(threshold),
            Mib(summary.mean),
            Mib(DOWNSCALE_BUFFER)
        ));
    }
    Verdict::Granted { threshold }
}

/// The status text of a granted request to shrink. `cache` is the size set, if one is managed.
pub(crate) fn granted(cache: Option<u64>, before: u64, after: u64, usable: u64) -> String {
    let cache = cache.map(|it| format!("set file cache size to {} MiB; ", Mib(it)));
    let (before, after, usable) = (Mib(before), Mib(after), Mib(usable));
    format!(
        "{}set cgroup memory threshold from {before} MiB to {after} MiB, of new total {usable} MiB",
        cache.unwrap_or_default()
    )
}

/// The threshold of a new connection: the one in force, unless the machine has shrunk since it was
/// set. `total` is the memory of the machine now, `then` at that time.
pub(crate) fn kept(in_force: u64, then: u64, total: u64) -> u64 {
    if total < then { in_force.min(threshold(total)) } else { in_force }
}

#[cfg(test)]
mod tests;
