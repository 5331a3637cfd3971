//! Integration tests: the real binary against a real Postgres and stand-in storage that speaks the
//! real bytes. One scenario per file, named after the behaviour.
//!
//! Every test runs on each PostgreSQL that is found (see [`support::servers`]), unless it says that
//! it does not depend on the server.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a scenario that finds something else than it expects has failed"
)]

mod support;

mod apply_blocked;
mod apply_hardened;
mod apply_in_turns;
mod bad_input;
mod basebackup_archives;
mod basebackup_retries;
mod basebackup_waits;
mod check_document;
mod check_probe;
mod check_show_conf;
mod conf_as_postgres_reads_it;
mod conf_refused;
mod conf_subscribers;
mod conf_values;
mod configure_empty;
mod control_plane;
mod dev_data;
mod dev_start;
mod failed_start_stays;
mod final_sync_fails;
mod first_start;
mod grpc_basebackup;
mod lsn_lease;
mod lsn_lease_follows_spec;
mod migrations;
mod neighbours;
mod old_admin;
mod orphans;
mod pgbouncer;
mod ports_taken;
mod postgres_dies;
mod postgres_does_not_start;
mod predecessor;
mod reconfigure;
mod refresh;
mod round_trips;
mod rsyslog;
mod run_as;
mod safekeeper_sync_fails;
mod safekeepers_in_sync;
mod safekeepers_out_of_sync;
mod secrets;
mod server_log;
mod sessions;
mod sharded_pageserver;
mod signal_in_each_phase;
mod signals;
mod spec_file;
mod standby_modes;
mod startup_metrics;
mod storage_token;
mod terminate;
mod tls_inactive;
mod tls_late;
mod tls_reconfigure;
mod tls_renewal;
mod tls_start;
mod usage_errors;
mod vanilla_server;
mod wipe;
mod wipe_mount_point;
