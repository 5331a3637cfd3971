//! Whether a quantity grows: a regression over the second half of its samples.
//!
//! The first half is left out: caches fill, the allocator keeps what it has once needed. A growth
//! counts if it is both significant and larger than a bound. Noise alone can be large without being
//! significant, and a difference of one page can be significant without meaning anything.
//!
//! The program has no harness: the tests of this file are in `tests/it/soak_verdict.rs`.

/// A slope must be this many of its own standard errors. By chance one quantity of some hundreds is.
const SIGNIFICANT: f64 = 3.0;

/// Fewer samples say nothing about noise.
pub const FEWEST: usize = 8;

/// The line through the second half of some samples that were taken at equal distances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// From the first sample of the half to the last one, along the line.
    pub growth: f64,
    /// The standard error of it.
    pub error: f64,
}

impl Trend {
    /// `None` if the half has fewer than [`FEWEST`] samples.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let (_, half) = samples.split_at(samples.len() / 2);
        if half.len() < FEWEST {
            return None;
        }
        let count = number(half.len());
        let mean = half.iter().sum::<f64>() / count;
        let middle = (count - 1.0) / 2.0;
        let points =
            || half.iter().enumerate().map(|(at, value)| (number(at) - middle, value - mean));
        let spread: f64 = points().map(|(x, _)| x * x).sum();
        let slope = points().map(|(x, y)| x * y).sum::<f64>() / spread;
        let rest: f64 = points().map(|(x, y)| (y - slope * x).powi(2)).sum();
        let error = (rest / (count - 2.0) / spread).sqrt();
        Some(Self { growth: slope * (count - 1.0), error: error * (count - 1.0) })
    }

    /// Whether it is a leak: more than `bound`, and more than noise.
    pub fn grows(self, bound: f64) -> bool {
        self.growth > bound && self.growth > SIGNIFICANT * self.error
    }
}

/// A percentile of sorted values.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or_default()
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
