//! Real programs beside a compute, and what init does for them.

mod daemon;

pub use daemon::{Collector, Daemon, ONE_RSYSLOGD, Respawned, debian_program};
