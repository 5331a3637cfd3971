//! Waiting for conditions, reading metrics, and the check that nothing is left.

mod exposition;
mod left;
mod wait;

pub use exposition::{Family, Sample, families};
pub use left::{assert_nothing_left, assert_nothing_left_in};
pub use wait::{PATIENCE, eventually, last_position, until};
