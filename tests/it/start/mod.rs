//! Conditions of a start and the start itself: the command line, the first configuration, PGDATA,
//! the user, Postgres.

mod bad_input;
mod cgroup;
mod child_environment;
mod configure_empty;
mod core_limit;
mod failed_start_stays;
mod failed_start_ways_out;
mod first_start;
mod init_timeout;
mod lakebase;
mod memory;
mod mistakes;
mod old_documents;
mod ports_taken;
mod postgres_does_not_start;
mod predecessor;
mod round_trips;
mod run_as;
mod secret_files;
mod service_manager;
mod spec_file;
mod standby_modes;
mod startup_metrics;
mod upgrade;
mod usage_errors;
mod vanilla_server;
mod wipe;
mod wipe_mount_point;
