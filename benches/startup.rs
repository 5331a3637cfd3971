//! Start-up benchmarks.

fn main() {}
