//! The output of the program about itself: log and metrics.

pub(crate) mod lease_metrics;
pub mod log_files;
pub mod logging;
pub mod metrics;
pub(crate) mod recent;
pub(crate) mod severity;
pub(crate) mod shown;
pub mod sink;
pub(crate) mod vm_monitor_metrics;
