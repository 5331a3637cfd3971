//! What the program says about itself: log, metrics, and the type that keeps secrets out of both.

pub mod lease_metrics;
pub mod logging;
pub mod metrics;
pub mod secret;
pub mod sink;
