//! Real programs beside a compute, and an init for them.

mod daemon;

pub use daemon::{Collector, Daemon, ONE_RSYSLOGD, Respawned, debian_program};
