//! Embedded storage: stand-ins for a Neon cell on one machine.
//!
//! `compute_ctl dev`, the integration tests and the benchmarks run the ordinary pipeline against
//! the servers of this module, so every protocol step is the real one. Production code does not
//! depend on it.
//!
//! Reading order: [`servers`] finds a Postgres, [`template`] makes an `initdb` data directory with
//! it, [`archive`] packs that directory as a basebackup, [`pageserver`] and [`safekeeper`] serve it
//! (both use [`wire`] and [`framing`], and record into a [`journal`]), [`spec`] writes the document
//! with their addresses, and [`sync_wrapper`] adds `--sync-safekeepers` to a vanilla server.
//! [`wal`] keeps what computes write that are started on the storage alone ([`storage_only`]).
//!
//! Invariant: all servers listen on 127.0.0.1 only, and no input of a client can end the process.

pub mod archive;
pub mod command;
mod commands;
pub(crate) mod control_file;
pub(crate) mod facts;
pub(crate) mod faults;
pub(crate) mod framing;
pub mod journal;
pub mod pageserver;
mod progress;
pub mod safekeeper;
pub mod servers;
pub mod spec;
mod storage;
mod storage_only;
pub(crate) mod store;
pub mod sync_wrapper;
pub mod template;
pub(crate) mod wal;
pub(crate) mod wire;
