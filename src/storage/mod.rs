//! The storage side of a start: which LSN the safekeepers agree on, and the base backup at it.
//!
//! ```text
//! safekeepers::check ── sync_verdict (pure)            the LSN, or "run the full sync"
//!
//! basebackup::get_basebackup ── rotation (pure)        retries: whom, when, how long
//!   └─ target ─► connection ──chunks──► unpack         one try
//!      (who)     libpq | grpc           inflate ──pipe──► tree
//!                                       (thread)          (thread, writes below PGDATA)
//!
//! lease::start ── lease_request                        a static compute: keep its LSN
//! ```
//!
//! Invariant: whatever fails, and whenever a future of this module is dropped, no task, thread or
//! socket is left behind, and nothing was written outside the data directory.

pub mod basebackup;
pub mod connection;
pub mod errors;
mod grpc;
pub mod lease;
mod lease_request;
mod libpq;
pub mod page_api;
mod pipe;
pub mod progress;
mod request;
mod rotation;
pub mod safekeepers;
mod simple_query;
pub mod sync;
pub mod sync_verdict;
pub mod target;
#[cfg(test)]
mod testing;
mod tree;
pub mod unpack;

pub use basebackup::{BasebackupLimits, BasebackupStats, EarlyConnection, get_basebackup};
pub use errors::{BasebackupError, FetchError};
pub use lease::LeaseLimits;
pub use progress::Progress;
pub use request::BasebackupRequest;
pub use safekeepers::{SyncCheck, check_safekeepers};
pub use target::PageserverTarget;
pub use tree::clean_for_retry;
