//! What the program says about itself: log and metrics.

pub mod lease_metrics;
pub mod log_files;
pub mod logging;
pub mod metrics;
pub mod shown;
pub mod sink;
