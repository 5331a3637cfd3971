//! Figures of one quantity over all rounds, and their output.

use std::time::Duration;

/// Milliseconds, or ratios.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub fn push_time(&mut self, time: Duration) {
        self.push(milliseconds(time));
    }

    pub fn median(&self) -> f64 {
        let at = |index: usize| self.0.get(index).copied().unwrap_or(f64::NAN);
        let count = self.0.len();
        (at(count / 2) + at(count.saturating_sub(1) / 2)) / 2.0
    }

    pub fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    /// One line of a table under [`heading`].
    pub fn print(&self, what: &str, unit: &str) {
        let (median, min, max) = (self.median(), self.min(), self.max());
        println!("  {what:<46}{median:>9.2}{min:>9.2}{max:>9.2}  {unit}");
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Begins a table.
pub fn heading(title: &str) {
    println!("\n{title}\n  {:<46}{:>9}{:>9}{:>9}", "", "median", "min", "max");
}

/// Ends a table with the target.
pub fn verdict(what: &str, value: f64, aim: f64, unit: &str) {
    let met = if value <= aim { "met" } else { "MISSED" };
    println!("  aim: {what} at most {aim} {unit}: {value:.2}, {met}");
}

/// As [`verdict`], for what should be large.
pub fn verdict_at_least(what: &str, value: f64, aim: f64, unit: &str) {
    let met = if value >= aim { "met" } else { "MISSED" };
    println!("  aim: {what} at least {aim} {unit}: {value:.2}, {met}");
}
