//! The output of the program about itself: log, metrics and traces.

mod event_writer;
pub mod form;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod http_metrics;
mod json_layer;
pub(crate) mod lease_metrics;
pub(crate) mod level_change;
pub(crate) mod levels;
pub mod log_files;
pub mod logging;
pub mod metrics;
mod pg_prefix;
pub(crate) mod process_metrics;
pub(crate) mod recent;
mod record;
pub(crate) mod request;
pub(crate) mod severity;
pub(crate) mod shown;
pub mod sink;
pub(crate) mod start_metrics;
pub(crate) mod storage_metrics;
#[cfg(test)]
mod testing;
pub mod trace_metrics;
pub mod traces;
mod twin_metrics;
pub(crate) mod vm_monitor_metrics;
pub(crate) mod work_metrics;
