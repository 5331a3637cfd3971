//! The pageserver and the safekeepers: basebackups, the sync, tokens, shards, leases.

mod basebackup_archives;
mod basebackup_retries;
mod basebackup_waits;
mod failpoint_basebackup_retries;
mod grpc_basebackup;
mod lsn_lease;
mod lsn_lease_follows_spec;
mod pageserver_rotation;
mod safekeeper_sync_fails;
mod safekeepers_in_sync;
mod safekeepers_out_of_sync;
mod sharded_pageserver;
mod token;
