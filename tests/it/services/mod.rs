//! What the compute does for Postgres while it runs: the file cache, extensions, the monitor.

mod installed_extensions;
mod lfc;
mod lfc_given_up;
mod monitor_downtime;
mod monitor_replication;
mod monitor_sessions;
mod remote_extensions;
