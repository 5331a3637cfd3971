//! The storage side of a start: which LSN the safekeepers agree on, and the base backup at it.
//!
//! ```text
//! safekeepers::check ── sync_verdict (pure)            the LSN, or "run the full sync"
//!
//! basebackup::get_basebackup ── rotation (pure)        retries: which server, when
//!   └─ target ─► connection ──chunks──► unpack         one try
//!      (server)  libpq | grpc           inflate ──pipe──► tree
//!                                       (thread)          (thread, writes below PGDATA)
//!
//! lease::start ── lease_request                        a static compute: keep its LSN
//! ```
//!
//! Invariant: whatever fails, and whenever a future of this module is dropped, no task, thread or
//! socket is left behind, and nothing was written outside the data directory.

pub(crate) mod basebackup;
pub(crate) mod connection;
pub(crate) mod errors;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod grpc;
pub(crate) mod lease;
mod lease_request;
mod libpq;
pub(crate) mod page_api;
mod pipe;
pub(crate) mod progress;
mod request;
mod rotation;
pub(crate) mod safekeepers;
mod simple_query;
pub(crate) mod sync;
pub(crate) mod sync_verdict;
pub(crate) mod target;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;
pub(crate) mod tries;
pub(crate) mod unpack;

pub(crate) use basebackup::BasebackupLimits;
pub(crate) use lease::LeaseLimits;
pub(crate) use progress::Progress;
pub(crate) use target::PageserverTarget;
