//! What the program says about itself: log, metrics, and the type that keeps secrets out of both.

pub mod lease_metrics;
pub mod log_files;
pub mod logging;
pub mod metrics;
pub mod secret;
pub mod shown;
pub mod sink;
