//! What the compute does for Postgres while it runs: the file cache, extensions, the monitor.

mod installed_extensions;
pub mod lfc;
mod lfc_given_up;
mod monitor_downtime;
mod monitor_replication;
mod monitor_sessions;
pub mod remote_extensions;
