//! Integration tests: the real binary against a real Postgres and stand-in storage that speaks the
//! real bytes. One scenario per file, named after the behaviour.
//!
//! Every test runs on each PostgreSQL that is found (see [`support::servers`]), unless it says that
//! it does not depend on the server.

#![allow(
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a scenario that finds something else than it expects has failed"
)]

mod support;

mod apply_blocked;
mod apply_blocked_at_start;
mod apply_deadline;
mod apply_hardened;
mod apply_in_turns;
mod apply_report;
mod audit_trail;
mod bad_input;
mod basebackup_archives;
mod basebackup_retries;
mod basebackup_waits;
mod catalog_any_name;
mod catalog_beside_users;
mod catalog_concurrency;
mod catalog_databases;
mod catalog_deleted_roles;
mod catalog_extension_update;
mod catalog_kept;
mod catalog_names;
mod catalog_refused_deletions;
mod catalog_roles;
mod catalog_sessions_seen;
mod catalog_standby;
mod catalog_start;
mod catalog_subscriptions;
mod catalog_subscriptions_killed;
mod catalog_system_objects;
mod catalog_unopened;
mod cgroup;
mod check_document;
mod check_plan;
mod check_plan_applied;
mod check_probe;
mod check_show_conf;
mod child_environment;
mod client_commands;
mod conf_as_postgres_reads_it;
mod conf_refused;
mod conf_subscribers;
mod conf_values;
mod configure_empty;
mod configure_refused;
mod control_plane;
mod core_dump;
mod core_limit;
mod detached_and_terminated;
mod dev_data;
mod dev_start;
mod ending_takes_along;
mod failed_start_stays;
mod failed_start_ways_out;
mod failpoint_basebackup_retries;
#[cfg(feature = "testing")]
mod failpoint_promotion;
mod final_sync_fails;
mod first_start;
mod grpc_basebackup;
mod http_auth;
mod http_autoscaling_metrics;
mod http_budget;
mod http_dbs_and_roles;
mod http_extensions;
mod http_failpoints;
mod http_grants;
mod http_insights;
mod http_internal_bind;
mod http_liveness_probe;
mod http_load;
mod http_probes;
mod http_schema;
mod http_stalled;
mod http_writability;
mod init_timeout;
mod installed_extensions;
mod lakebase;
mod lakebase_catalog;
mod lfc;
mod lfc_given_up;
mod local_proxy;
mod lsn_lease;
mod lsn_lease_follows_spec;
mod metrics_families;
mod migrations;
mod model;
mod monitor_downtime;
mod monitor_replication;
mod monitor_sessions;
mod names_in_other_encodings;
mod neighbours;
mod old_admin;
mod orphans;
mod pageserver_rotation;
mod pgbouncer;
mod ports_taken;
mod postgres_dies;
mod postgres_does_not_start;
mod predecessor;
mod promotion;
mod promotion_ends;
mod promotion_failpoints;
mod promotion_fails;
mod reconfigure;
mod reconfigure_sessions;
mod reconfigure_takes_back;
mod refresh;
mod reload_confirmed;
mod remote_extensions;
mod round_trips;
mod rsyslog;
mod run_as;
mod safekeeper_sync_fails;
mod safekeepers_in_sync;
mod safekeepers_out_of_sync;
mod schemathesis;
mod secrets;
mod server_log;
mod session_calls;
mod sessions;
mod sharded_pageserver;
mod signal_in_each_phase;
mod signals;
mod spec_file;
mod standby_modes;
mod startup_metrics;
mod storage_token;
mod tenant_traps_any;
mod tenant_traps_names;
mod tenant_traps_objects;
mod tenant_traps_scripts;
mod terminate;
mod tls_inactive;
mod tls_late;
mod tls_reconfigure;
mod tls_refused;
mod tls_renewal;
mod tls_start;
mod together;
mod usage_errors;
mod vanilla_server;
mod vm_helpers;
mod wipe;
mod wipe_mount_point;
