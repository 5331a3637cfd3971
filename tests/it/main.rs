//! Integration tests: the real binary against a real Postgres and stand-in storage that speaks the
//! real bytes. One scenario per file, named after the behaviour.
//!
//! Every test runs on each PostgreSQL that is found (see [`support::servers`]), unless it says that
//! it does not depend on the server.

mod support;

mod basebackup_archives;
mod basebackup_retries;
mod basebackup_waits;
mod first_start;
mod safekeeper_sync_fails;
mod safekeepers_in_sync;
mod safekeepers_out_of_sync;
mod secrets;
mod sharded_pageserver;
mod standby_modes;
mod startup_metrics;
mod storage_token;
